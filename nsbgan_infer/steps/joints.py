"""Where two parts of a pipeline meet: a stage, and the checks that neighbours fit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from nsbgan_infer.decoders.base import Decoder, DecoderInfo
from nsbgan_infer.encoders import Encoder
from nsbgan_infer.errors import JointError, WrongTypeError
from nsbgan_infer.reductions import PICTURE, Reduction, reduction
from nsbgan_infer.samplers.base import Sampler, SamplerInfo


@dataclass(frozen=True)
class Stage:
    """Steps 3 and 4: an optional encoder followed by a decoder. Output side = input / 2^levels * scale."""

    encoder: Encoder | None
    decoder: Decoder

    def emits(self, resolution: int) -> int:
        """The side of the picture that this stage makes from one of `resolution`."""
        return (resolution >> (self.encoder.levels if self.encoder else 0)) * self.decoder.info.scale


def check_parts(sampler: object, stages: Sequence[object]) -> None:
    """Raise WrongTypeError, with the next step, for what is no sampler, stage, encoder or decoder."""
    check_part(sampler, "sampler", SamplerInfo)
    for number, stage in enumerate(stages, 1):
        if not isinstance(stage, Stage):
            raise WrongTypeError(
                f"Stage {number} is a {type(stage).__name__}: give a Stage, for example Stage(None, decoder)."
            )
        check_part(stage.decoder, "decoder", DecoderInfo)
        if stage.encoder is not None and not all(hasattr(stage.encoder, a) for a in ("basis", "levels", "makes")):
            raise WrongTypeError(
                f"Stage {number} has a {type(stage.encoder).__name__} as its encoder: give one such as "
                "WaveletEncoder(2), or None."
            )


def check_part(part: object, kind: str, info: type[Any]) -> None:
    """Raise WrongTypeError unless `part` is called and has an `info` of that type."""
    if isinstance(part, type) or not callable(part) or not isinstance(getattr(part, "info", None), info):
        shown = f"the class {part.__name__}" if isinstance(part, type) else f"a {type(part).__name__}"
        raise WrongTypeError(
            f"The {kind} is {shown}, which has no `info` of type {info.__name__}: wrap a torch module by "
            f"as_{kind}(module, ...), or load one by load_{kind}(name)."
        )


def reductions_of(sampler: Sampler, stages: Sequence[Stage]) -> tuple[Reduction, ...]:
    """What comes into each stage's decoder: its encoder's reduction, the sample, or the picture of the stage before."""
    whole = [sampler.info.reduction, *(reduction(PICTURE) for _ in stages[1:])][: len(stages)]
    return tuple(reduction(s.encoder.makes) if s.encoder else w for s, w in zip(stages, whole, strict=True))


def check_joints(sampler: Sampler, stages: Sequence[Stage]) -> None:
    """Check reduction and size where two parts meet; raise JointError naming both sides and what would fit.

    An encoder can make whatever its decoder reads, so it must. A sample or a decoded picture is what it is: a decoder
    of its basis takes it, and the result is moved onto its grid where that is another one (`decoders.anchor`).
    """
    info = sampler.info
    left, basis, side = f"the sampler {info.name}", info.basis, info.resolution
    for number, (stage, came) in enumerate(zip(stages, reductions_of(sampler, stages), strict=True), 1):
        encoder, decoder = stage.encoder, stage.decoder.info
        if encoder:
            if basis != "pixel":
                raise JointError(f"Stage {number}: {left} emits a {basis} low band, which no encoder takes.")
            if side % 2**encoder.levels:
                raise JointError(
                    f"Stage {number}: {left} gives {side} x {side} pictures, which the {encoder.basis} encoder cannot "
                    f"halve {encoder.levels} times: choose {_halvings(side)} levels at most."
                )
            left, basis, side = f"the {encoder.basis} encoder", encoder.basis, side // 2**encoder.levels
        if came.basis != decoder.reduction.basis or (encoder and came != decoder.reduction):
            advice = f"make the encoder's reduction {decoder.reads}" if encoder else f"choose a {basis} decoder"
            raise JointError(
                f"Stage {number}: {left} makes {came}, but the decoder {decoder.name} reads {decoder.reduction}: "
                f"{advice} (see `nsbgan models`)."
            )
        left, basis, side = f"the decoder {decoder.name}", "pixel", side * decoder.scale
    if basis != "pixel":
        raise JointError(f"{left} gives {basis} low bands, which are no pictures: add a stage with a {basis} decoder.")


def _halvings(side: int) -> int:
    return (side & -side).bit_length() - 1


def describe_parts(sampler: Sampler, stages: Sequence[Stage]) -> list[str]:
    """A line for the sampler and each stage: names, bases, sides, parameters."""
    info = sampler.info
    drawn = "no classes" if info.classes is None else f"{len(info.classes)} classes"
    lines = [f"sampler  {info.name}: {info.basis}, {info.resolution} x {info.resolution}, {drawn}{_size(sampler)}"]
    side = info.resolution
    for number, stage in enumerate(stages, 1):
        line = f"stage {number}  "
        if stage.encoder:
            low = side >> stage.encoder.levels
            line += f"{stage.encoder.basis} encoder: {side} -> {low}, "
            side = low
        line += f"{stage.decoder.info.name}: {side} -> {side * stage.decoder.info.scale}"
        lines.append(f"{line}{_size(stage.decoder)}")
        side *= stage.decoder.info.scale
    return lines


def _size(part: object) -> str:
    if not isinstance(part, nn.Module):
        return ""
    return f", {sum(p.numel() for p in part.parameters()) / 1e6:.2f} M parameters"

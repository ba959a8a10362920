"""The pipeline: latents -> sample -> (encoder -> decoder) ... -> images, steps 1 to 5 on one screen.

It knows no model by name: it holds a sampler and a list of stages, checks reduction and resolution at the joints when
it is built, and runs the steps batch by batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nsbgan_infer.classes import NUM_CLASSES, find_class, parse_classes, parse_numbers
from nsbgan_infer.decoders.anchor import decode_over
from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.devices import dtype_name
from nsbgan_infer.encoders import Encoder
from nsbgan_infer.encoders.table import follow
from nsbgan_infer.errors import JointError, NonFiniteError, UsageError
from nsbgan_infer.images import Recipe, to_pil
from nsbgan_infer.latents import Latents, TruncationMode, check_seed, check_truncation, draw_latents
from nsbgan_infer.latents_file import latents_table
from nsbgan_infer.reductions import PICTURE, Reduction, reduction
from nsbgan_infer.registry import load_decoder
from nsbgan_infer.samplers.base import Sampler
from nsbgan_infer.storage.components import weights_sha256

if TYPE_CHECKING:
    from PIL import Image

Progress = Callable[[str, int, int], None]  # step name, images done, images in all


@dataclass(frozen=True)
class Stage:
    """Steps 3 and 4: an optional encoder followed by a decoder. Output side = input / 2^levels * scale."""

    encoder: Encoder | None
    decoder: Decoder

    def emits(self, resolution: int) -> int:
        """The side of the picture that this stage makes from one of `resolution`."""
        return (resolution >> (self.encoder.levels if self.encoder else 0)) * self.decoder.info.scale


@dataclass(frozen=True)
class Request:
    """One image to make: an ImageNet class id (None for an unconditional sampler) and a seed."""

    class_id: int | None
    seed: int


@dataclass(frozen=True)
class Drawing:
    """What decides, beside the request, what is drawn. `NsbPipeline.settle` fills in what is left out."""

    truncation: float | None = None
    """Above 0 and up to 1; None: what the sampler's weights expect."""
    mode: TruncationMode | None = None
    """How z is truncated (`latents.draw_z`); None: as the sampler's weights expect."""
    resolution: int | None = None
    """Stop after the stage that emits pictures of this side; None: after the last."""


AS_TRAINED = Drawing()


@dataclass(frozen=True)
class Output:
    """What a call returns: `images` (PIL, RGB), `tensors` (N, 3, H, W) float32 nominally [0, 1], unclamped, `recipes`,
    `requests`, and `steps`: every intermediate by name (`sample`, `low band 1`, `decoded 1`, ...) if asked for.
    """

    tensors: Tensor
    requests: tuple[Request, ...]
    recipes: tuple[Recipe, ...]
    steps: dict[str, Tensor] = field(default_factory=dict)

    @property
    def images(self) -> list[Image.Image]:
        """The images, clamped and rounded to 8 bit."""
        return to_pil(self.tensors)


class NsbPipeline:
    """A sampler and its stages. Raises JointError when two neighbours do not fit."""

    def __init__(self, sampler: Sampler, stages: Sequence[Stage] = (), *, name: str = "custom") -> None:
        self.sampler = sampler
        self.stages = tuple(stages)
        self.name = name
        self.device = torch.device("cpu")
        self.dtype = torch.float32
        self.engine = "eager"  # what runs the networks, and in which dtype if not in `dtype`: see `engines`
        self.computes_in: torch.dtype | None = None
        self.use_engine: Callable[[Any], Any] | None = None  # brings one more part onto that engine; None: plain torch
        check_joints(self)

    @classmethod
    def from_pretrained(
        cls, ref: str | Path, *, sampler: str | None = None, decoder: str | None = None, revision: str | None = None
    ) -> NsbPipeline:
        """A preset's name, a folder written by `save_pretrained`, or a Hub id (`owner/name`, `hf://owner/name`).

        `sampler` and `decoder` replace those of the pipeline: a name, a folder, a file or a Hub reference. Raises
        UnknownNameError, CheckpointError, OfflineError or JointError, each with the next step.
        """
        from nsbgan_infer.pretrained import load_pipeline

        return load_pipeline(str(ref), sampler=sampler, decoder=decoder, revision=revision)

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write a folder: `model_index.json` and one folder for every component with weights."""
        from nsbgan_infer.pretrained import save_pipeline

        return save_pipeline(self, Path(folder))

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> NsbPipeline:
        """Move the networks, in place, and return the pipeline."""
        self.device = torch.device(device) if device is not None else self.device
        self.dtype = dtype or self.dtype
        for part in (self.sampler, *(s.decoder for s in self.stages)):
            if isinstance(part, nn.Module):
                part.to(self.device, self.dtype)
        return self

    def with_decoder(self, decoder: Decoder | str) -> NsbPipeline:
        """The same pipeline with another decoder in every stage, on the pipeline's device, engine and dtype.

        The encoders make what it reads.
        """
        new = load_decoder(decoder) if isinstance(decoder, str) else decoder
        stages = [Stage(s.encoder and follow(s.encoder, new.info.reads), new) for s in self.stages]
        NsbPipeline(self.sampler, stages, name=self.name)  # what does not fit is refused before an engine compiles it
        if isinstance(new, nn.Module):
            new.to(self.device, self.dtype)
        if self.use_engine is not None:
            new = self.use_engine(new)
        pipeline = NsbPipeline(self.sampler, [Stage(s.encoder, new) for s in stages], name=self.name)
        pipeline.device, pipeline.dtype = self.device, self.dtype
        pipeline.engine, pipeline.computes_in, pipeline.use_engine = self.engine, self.computes_in, self.use_engine
        return pipeline

    def with_parts(self, sampler: Sampler, decoders: Sequence[Decoder]) -> NsbPipeline:
        """The pipeline with another sampler and another decoder in each stage, on the same device."""
        stages = [Stage(s.encoder, d) for s, d in zip(self.stages, decoders, strict=True)]
        pipeline = NsbPipeline(sampler, stages, name=self.name)
        pipeline.device, pipeline.dtype = self.device, self.dtype
        return pipeline

    @property
    def resolutions(self) -> tuple[int, ...]:
        """The sides of the pictures that can be had: the sample's if it is a picture, and each stage's."""
        side = self.sampler.info.resolution
        sides = [side] if self.sampler.info.basis == "pixel" else []
        for stage in self.stages:
            side = stage.emits(side)
            sides.append(side)
        return tuple(sides)

    @property
    def reductions(self) -> tuple[Reduction, ...]:
        """What comes into each stage's decoder: its encoder's reduction, the sample, or the picture of the stage
        before."""
        whole = [self.sampler.info.reduction, *(reduction(PICTURE) for _ in self.stages[1:])]
        return tuple(reduction(s.encoder.makes) if s.encoder else w for s, w in zip(self.stages, whole, strict=False))

    def __call__(
        self,
        classes: str | int | Sequence[str | int] | None = None,
        num_images: int = 1,
        *,
        seeds: int | Sequence[int] = 0,
        truncation: float | None = None,
        truncation_mode: TruncationMode | None = None,
        resolution: int | None = None,
        decoder: Decoder | str | None = None,
        latents: Latents | None = None,
        batch_size: int = 1,
        keep_steps: bool = False,
        progress: Progress | None = None,
    ) -> Output:
        """Make `num_images` of each class (ids, WordNet ids, names, ranges, `all`; None for unconditional samplers).

        `seeds`: S, so that image j of each class has seed S + j, or one seed for each of the images of a class.
        `truncation` in (0, 1] and its mode default to what the sampler's weights expect. `resolution` stops after the
        stage that emits it (default: the last). `decoder` replaces the decoder of every stage for this call. `latents`
        are drawn as they are, in place of classes, seeds and truncation; they go into the recipes.
        Raises UsageError and UnknownNameError before any work, NonFiniteError and WorkError during it.

        To keep only what a classifier recognises: `rejection.draw_accepted`.

        >>> output = NsbPipeline.from_pretrained("embedded")("church", seeds=2, resolution=256, keep_steps=True)
        >>> {name: tuple(tensor.shape) for name, tensor in output.steps.items()}
        {'sample': (1, 3, 64, 64), 'decoded 1': (1, 3, 256, 256)}
        >>> output.recipes[0].seed
        2
        """
        pipeline = self if decoder is None else self.with_decoder(decoder)
        if latents is None:
            requests = pipeline.requests(classes, num_images, seeds=seeds)
            drawing = Drawing(truncation, truncation_mode, resolution)
        elif (classes, num_images, seeds, truncation, truncation_mode) != (None, 1, 0, None, None):
            raise UsageError("Latents hold classes, seeds and truncation themselves: leave these out beside them.")
        else:
            requests, drawing = requests_of(latents), Drawing(latents.truncation, latents.mode, resolution)
        parts = pipeline.stream(
            requests,
            drawing,
            latents=latents,
            batch_size=batch_size,
            keep_steps=keep_steps,
            progress=progress,
        )
        return join_outputs(list(parts))

    def requests(
        self, classes: str | int | Sequence[str | int] | None, num_images: int = 1, *, seeds: int | Sequence[int] = 0
    ) -> list[Request]:
        """The images meant by the arguments of a call, class by class. Raises UsageError and UnknownNameError."""
        if num_images < 1:
            raise UsageError(f"{num_images} images were asked for: ask for at least 1.")
        each = [seeds + j for j in range(num_images)] if isinstance(seeds, int) else list(seeds)
        if len(each) != num_images:
            raise UsageError(f"{len(each)} seeds for {num_images} images of each class: give one seed an image.")
        for seed in each:
            check_seed(seed)
        return [Request(c, s) for c in self._class_ids(classes) for s in each]

    def stream(
        self,
        requests: Sequence[Request],
        drawing: Drawing = AS_TRAINED,
        *,
        latents: Latents | None = None,
        batch_size: int = 1,
        keep_steps: bool = False,
        progress: Progress | None = None,
    ) -> Iterator[Output]:
        """Make the requested images batch by batch, so that memory stays flat however many there are.

        Arguments as in a call; what is wrong with them is raised here, before the first batch is asked for. `latents`:
        those of the requests (`requests_of`), where they are not to be drawn.
        """
        if batch_size < 1:
            raise UsageError(f"Batch size {batch_size} is out of range: use at least 1.")
        if not requests:
            raise UsageError("No images were asked for.")
        settled = self.settle(drawing)
        if latents is not None:
            check_latents(latents, self.sampler)

        def make(start: int) -> Output:
            batch = requests[start : start + batch_size]
            given = None if latents is None else latents[start : start + batch_size]
            drawn = self.latents(batch, settled) if given is None else given
            kept = {}
            for name, tensor in self.steps(drawn, resolution=drawing.resolution):
                if keep_steps:
                    kept[name] = tensor
                if progress:
                    progress(name, start + len(batch), len(requests))
            shared = self._recipe(replace(settled, resolution=tensor.shape[-1]), batch_size)
            tables = [given and latents_table(given, i) for i in range(len(batch))]
            recipes = tuple(
                replace(shared, class_id=r.class_id, seed=r.seed, latents=t) for r, t in zip(batch, tables, strict=True)
            )
            finished = tensor.to("cpu", torch.float32, copy=True)  # an inference tensor becomes an ordinary one
            return Output(finished, tuple(batch), recipes, kept)

        return map(make, range(0, len(requests), batch_size))

    def settle(self, drawing: Drawing = AS_TRAINED) -> Drawing:
        """`drawing` with every field filled in for this pipeline.

        Raises UsageError for a truncation out of range, an unknown mode, or a resolution that no step makes.
        """
        info = self.sampler.info
        truncation = info.truncation if drawing.truncation is None else drawing.truncation
        mode = drawing.mode or info.truncation_mode
        check_truncation(truncation, mode)
        self.stages_for(drawing.resolution)
        return Drawing(truncation, mode, drawing.resolution or self.resolutions[-1])

    def identity(self, drawing: Drawing = AS_TRAINED) -> dict[str, Any]:
        """What decides the bytes of a picture beside its request, the batch it is in and the threads that run it.

        Names of the parts that run for `drawing`, and the SHA-256 of their weights (None: they came from no file); the
        settled drawing; device, dtype and engine that run them; versions. Recipes, plans and caches hold this table.
        """
        settled = self.settle(drawing)
        decoders = [s.decoder for s in self.stages[: self.stages_for(settled.resolution)]]
        parts = {self.sampler.info.name: self.sampler, **{d.info.name: d for d in decoders}}
        return {
            "preset": self.name,
            "sampler": self.sampler.info.name,
            "decoders": [d.info.name for d in decoders],
            "resolution": settled.resolution,
            "truncation": settled.truncation,
            "truncation_mode": settled.mode,
            "device": self.device.type,
            "dtype": dtype_name(self.computes_in or self.dtype),
            "engine": self.engine,
            "weights": {name: weights_sha256(part) for name, part in parts.items()},
            "versions": {"nsbgan_infer": version("nsbgan-infer"), "torch": torch.__version__},
        }

    def latents(self, requests: Sequence[Request], drawing: Drawing = AS_TRAINED) -> Latents:
        """Step 1 for the requested images.

        With `walk` and `steps` a way from one image to another is drawn. Raises UsageError as `draw_latents`.
        """
        info = self.sampler.info
        return draw_latents(
            [r.seed for r in requests],
            [r.class_id for r in requests],
            z_dim=info.z_dim,
            truncation=info.truncation if drawing.truncation is None else drawing.truncation,
            mode=drawing.mode or info.truncation_mode,
            truncates=info.truncates,
        )

    @torch.inference_mode()
    def steps(self, latents: Latents, *, resolution: int | None = None) -> Iterator[tuple[str, Tensor]]:
        """Every intermediate of one batch by name, in order; the last is the picture.

        The networks run in the pipeline's dtype, the transforms between them in fp32, which costs nothing beside them.
        """
        last = self.stages_for(resolution)
        x = self.sampler(latents.to(self.device, self.dtype)).float()  # (B, 3, r, r)
        check_finite(x, f"Step 2 (sampler {self.sampler.info.name})")
        yield "sample", x
        for number, (stage, came) in enumerate(zip(self.stages[:last], self.reductions, strict=False), 1):
            if stage.encoder:
                x = stage.encoder(x)  # (B, 3, r / 2^levels, ...)
                yield f"low band {number}", x
            x = decode_over(stage.decoder, x.to(self.dtype), came.anchor).float()  # (B, 3, scale * h, scale * w)
            yield f"decoded {number}", x

    def _class_ids(self, classes: str | int | Sequence[str | int] | None) -> list[int | None]:
        available = self.sampler.info.classes
        if available is None:
            if classes is not None and classes not in ([], ()):
                raise UsageError(f"The sampler {self.sampler.info.name} draws without classes: leave out the class.")
            return [None]
        items = [classes] if isinstance(classes, str | int) else list(classes or [])
        if not items:
            raise UsageError("Which class? Give at least one, for example 207 or 'golden retriever'.")
        numbered = self.sampler.info.labels == "numbers"
        ids = parse_numbers(items, available) if numbered else parse_classes(items, available=available)
        if numbered and not set(ids) <= set(available):
            last = max(available)
            raise UsageError(f"The sampler {self.sampler.info.name} has the classes 0 to {last}, not {max(ids)}.")
        check_available(ids, available, self.sampler.info.name)
        return list(ids)

    def stages_for(self, resolution: int | None) -> int:
        """How many stages to run for pictures of `resolution` (None: all). Raises UsageError listing those made."""
        if resolution is None:
            return len(self.stages)
        if resolution not in self.resolutions:
            listed = ", ".join(map(str, self.resolutions))
            raise UsageError(f"No step of '{self.name}' makes {resolution} x {resolution} pictures: it makes {listed}.")
        extra = 1 if self.sampler.info.basis == "pixel" else 0
        found = len(self.resolutions) - 1 - self.resolutions[::-1].index(resolution)
        return found + 1 - extra

    def _recipe(self, drawing: Drawing, batch_size: int) -> Recipe:
        """The recipe of a batch; class and seed are each image's own."""
        about = self.identity(drawing)
        about["decoders"] = tuple(about["decoders"])
        about["weights"] = {name: digest for name, digest in about["weights"].items() if digest}
        labels = self.sampler.info.labels
        return Recipe(**about, class_id=None, seed=0, batch_size=batch_size, labels=labels)


def join_outputs(parts: Sequence[Output]) -> Output:
    """Several outputs of one size as one, in their order; of none: (0, 3, 0, 0)."""
    if not parts:
        return Output(torch.empty(0, 3, 0, 0), (), ())
    return Output(
        torch.cat([p.tensors for p in parts]),
        tuple(r for p in parts for r in p.requests),
        tuple(r for p in parts for r in p.recipes),
        {k: torch.cat([p.steps[k] for p in parts]) for k in parts[0].steps},
    )


def requests_of(latents: Latents) -> list[Request]:
    """A request for each of the latents: its seed, and the class with the most weight (None without classes)."""
    classes = [int(y.argmax()) if bool((y > 0).any()) else None for y in latents.y]
    return [Request(c, s) for c, s in zip(classes, latents.seeds, strict=False)]  # `check_latents` compares lengths


def check_latents(latents: Latents, sampler: Sampler) -> None:
    """Raise UsageError for latents that `sampler` cannot draw: another length of z, or classes that it has not."""
    info, (count, length) = sampler.info, latents.z.shape
    if length != info.z_dim:
        raise UsageError(f"The latents have {length} numbers, the sampler {info.name} takes {info.z_dim}.")
    if count != len(latents.seeds) or latents.y.shape != (count, NUM_CLASSES):
        raise UsageError(f"{count} latents need {count} seeds and weights of {NUM_CLASSES} classes each.")
    if latents.offsets is not None and latents.offsets.shape != (count, sum(info.offsets)):
        places = f"takes {sum(info.offsets)}" if sum(info.offsets) else "takes none"
        raise UsageError(f"The latents have {latents.offsets.shape[-1]} offsets, the sampler {info.name} {places}.")
    used = latents.y.ne(0).any(0).nonzero().flatten().tolist()
    if info.classes is None and used:
        raise UsageError(f"The sampler {info.name} draws without classes, but the latents have class {used[0]}.")
    if info.classes is not None:
        if not used:
            raise UsageError(f"The sampler {info.name} draws classes, but the latents have none.")
        check_available(used, info.classes, info.name)


def check_available(ids: Sequence[int], available: Sequence[int], sampler: str) -> None:
    """Raise UsageError for a class that the sampler cannot draw, with the list of those that it can."""
    missing = [i for i in ids if i not in available]
    if missing:
        listed = ", ".join(f"{i} {find_class(i).name}" for i in available[:40])
        raise UsageError(
            f"The sampler {sampler} cannot draw class {missing[0]} ({find_class(missing[0]).name}). It has: {listed}. "
            "For all 1000 classes use --preset pretrained-256-128 (fetches BigGAN's weights, 234 MB)."
        )


def check_finite(tensor: Tensor, step: str) -> None:
    """Raise NonFiniteError naming the step if the tensor holds NaN or infinity."""
    if not torch.isfinite(tensor).all():
        raise NonFiniteError(f"{step} produced NaN or infinity: run with --dtype fp32, or check the weights.")


def check_joints(pipeline: NsbPipeline) -> None:
    """Check reduction and size where two parts meet; raise JointError naming both sides and what would fit.

    An encoder can make whatever its decoder reads, so it must. A sample or a decoded picture is what it is: a decoder
    of its basis takes it, and the result is moved onto its grid where that is another one (`decoders.anchor`).
    """
    info = pipeline.sampler.info
    left, basis, side = f"the sampler {info.name}", info.basis, info.resolution
    for number, (stage, came) in enumerate(zip(pipeline.stages, pipeline.reductions, strict=True), 1):
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


def with_recipe(output: Output, **changes: Any) -> Output:
    """The same output with fields of all its recipes changed (rejection sampling notes its attempts)."""
    return replace(output, recipes=tuple(replace(r, **changes) for r in output.recipes))

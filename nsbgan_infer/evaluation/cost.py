"""What a row of the paper's tables costs: multiply-adds and seconds a picture, with or without its weights.

A pipeline is outlined on the `meta` device, with the paper's decoders at the paper's size; for the time it is filled
with random numbers of the right scale, which compute as long as trained ones.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import cast

import torch
from torch import nn

from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.decoders.tiling import decode
from nsbgan_infer.diagnostics.estimate import outline_decoder, outline_sampler, plan_pipeline
from nsbgan_infer.pipeline import Drawing, NsbPipeline, Request
from nsbgan_infer.pretrained import Loaders, load_pipeline
from nsbgan_infer.storage.architectures import all_architectures, trained_networks
from nsbgan_infer.storage.components import build_component


def outline_row(preset: str, decoder: str | None, *, paper: bool = True) -> NsbPipeline:
    """The pipeline of a row without its weights; with `paper`, the paper's decoders at the paper's size.

    Raises UnknownNameError for an unknown name and CheckpointError where sizes are known from weights only.
    """

    def outlined(name: str) -> Decoder:
        config = trained_networks().get(name) or ({"arch": name} if name in all_architectures() else None)
        if not paper or config is None:
            return outline_decoder(name)
        with torch.device("meta"):
            return cast(Decoder, build_component(config).eval().requires_grad_(False))

    return load_pipeline(preset, decoder=decoder, loaders=Loaders(sampler=outline_sampler, decoder=outlined))


def multiply_adds(outlined: NsbPipeline, resolution: int, *, decoders_only: bool = False) -> int:
    """Of one picture of `resolution`, all steps or the decoders' alone."""
    steps = plan_pipeline(outlined, resolution=resolution).steps
    return sum(s.multiply_adds for s in steps if not decoders_only or s.step.startswith("4"))


def seconds_a_decode(outlined: NsbPipeline, *, repeats: int = 3) -> float:
    """The median time of the first decoder on one sample, as in `seconds_a_picture`."""
    decoder, side = outlined.stages[0].decoder, outlined.sampler.info.resolution
    if isinstance(decoder, nn.Module):
        _fill(decoder)
    low_band = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    return _median_time(lambda: decode(decoder, low_band), repeats)


def seconds_a_picture(outlined: NsbPipeline, resolution: int, *, repeats: int = 3) -> float:
    """The median time of one picture, batch 1, on the CPU with torch's eager engine. Fills the outline."""
    for part in (outlined.sampler, *(s.decoder for s in outlined.stages)):
        if isinstance(part, nn.Module):
            _fill(part)
    classes = outlined.sampler.info.classes
    request = Request(classes[0] if classes else None, 0)
    return _median_time(lambda: list(outlined.stream([request], Drawing(resolution=resolution))), repeats)


def _median_time(work: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats + 1):  # the first warms up
        start = time.perf_counter()
        with torch.inference_mode():
            work()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def _fill(part: nn.Module) -> None:
    """Numbers that keep the size of activations: 1 / sqrt(fan in) for matrices and filters, ones for vectors and for
    stored statistics."""
    if not any(t.is_meta for t in part.state_dict().values()):
        return
    part.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in part.parameters():
            if parameter.dim() < 2:
                parameter.fill_(1.0)
            else:
                parameter.normal_(0, parameter[0].numel() ** -0.5, generator=generator)
        for buffer in part.buffers():
            buffer.fill_(1)

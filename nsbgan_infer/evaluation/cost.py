"""What a row of the paper's tables costs: multiply-adds and seconds a picture, with or without its weights.

A pipeline is outlined on the `meta` device, with the paper's decoders at the paper's size; for the time it is filled
with random numbers of the right scale, which compute as long as trained ones.
"""

from __future__ import annotations

import statistics
import time
from typing import cast

import torch
from torch import nn

from nsbgan_infer.components import build_component
from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.pipeline import NsbPipeline, Request
from nsbgan_infer.plan import outline_decoder, outline_sampler, plan_pipeline
from nsbgan_infer.storage import Loaders, load_pipeline

PAPER_DECODERS: dict[str, dict[str, str]] = {
    "esrgan-w": {"arch": "srresnet", "name": "esrgan-w", "basis": "wavelet"},
    "esrgan-p": {"arch": "srresnet", "name": "esrgan-p", "basis": "pixel"},
    "unet-w": {"arch": "unet-w"},
    "unet-p": {"arch": "unet-p"},
}


def outline_row(preset: str, decoder: str | None, *, paper: bool = True) -> NsbPipeline:
    """The pipeline of a row without its weights; with `paper`, the paper's decoders at the paper's size.

    Raises UnknownNameError for an unknown name and CheckpointError where sizes are known from weights only.
    """

    def outlined(name: str) -> Decoder:
        if not paper or name not in PAPER_DECODERS:
            return outline_decoder(name)
        with torch.device("meta"):
            return cast(Decoder, build_component(PAPER_DECODERS[name]).eval().requires_grad_(False))

    return load_pipeline(preset, decoder=decoder, loaders=Loaders(sampler=outline_sampler, decoder=outlined))


def multiply_adds(outlined: NsbPipeline, resolution: int) -> int:
    """Of one picture of `resolution`, all steps."""
    return plan_pipeline(outlined, resolution=resolution).multiply_adds


def seconds_a_picture(outlined: NsbPipeline, resolution: int, *, repeats: int = 3) -> float:
    """The median time of one picture, batch 1, on the CPU with torch's eager engine. Fills the outline."""
    for part in (outlined.sampler, *(s.decoder for s in outlined.stages)):
        if isinstance(part, nn.Module):
            _fill(part)
    classes = outlined.sampler.info.classes
    request = Request(classes[0] if classes else None, 0)
    times = []
    for _ in range(repeats + 1):  # the first warms up
        start = time.perf_counter()
        for _output in outlined.stream([request], resolution=resolution):
            pass
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:])


def _fill(part: nn.Module) -> None:
    """Numbers that keep the size of activations: 1 / sqrt(fan in) for matrices and filters, ones for vectors."""
    if not any(t.is_meta for t in part.state_dict().values()):
        return
    part.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in part.state_dict().values():
            if not tensor.is_floating_point():
                tensor.zero_()
            elif tensor.dim() < 2:
                tensor.fill_(1.0)
            else:
                tensor.normal_(0, tensor[0].numel() ** -0.5, generator=generator)

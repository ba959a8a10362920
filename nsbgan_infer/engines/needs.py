"""Which networks a run of a pipeline needs, for which shapes, and roughly how much work each is.

A decoder's multiply-adds are counted on the smallest low band that it takes, in a few hundredths of a second. A sampler
makes one size only, so its own are told from the number of its weights, to within a factor of about two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.decoders.anchor import RIM, moves
from nsbgan_infer.decoders.base import DecoderInfo
from nsbgan_infer.decoders.tiling import extend
from nsbgan_infer.engines.graph import part_graph
from nsbgan_infer.engines.openvino import network_for
from nsbgan_infer.engines.rule import NetworkWork
from nsbgan_infer.pipeline import AS_TRAINED, Drawing, NsbPipeline, Request
from nsbgan_infer.storage.architectures import Component

SAMPLER_REUSE = 1.5  # times its side: how often a sampler's weight is used for one picture (BigGAN-deep: 1.0 to 1.7)


def needed_networks(
    pipeline: NsbPipeline, images: int, dtype: torch.dtype, *, batch_size: int = 1, drawing: Drawing = AS_TRAINED
) -> list[NetworkWork]:
    """A row for each network and shape that `images` pictures in batches of `batch_size` meet.

    Raises UsageError for a sampler that no engine takes, and as `stages_for`.
    """
    whole, rest = divmod(images, batch_size)
    sizes = [batch_size] * (whole > 0) + [rest] * (rest > 0)
    rows = []
    for size in sizes:
        share = (size if size == rest and rest else whole * batch_size) / images
        for part, given, work in _calls(pipeline, size, drawing):
            graph = part_graph(part)
            if graph is None:
                continue
            weights = sum(p.numel() for p in part.parameters())
            kept = network_for(part, graph, dtype).kept_file(graph.inputs(given)).is_file()
            rows.append(NetworkWork(share * work, 4 * weights / 1e6, kept))
    return rows


def _calls(pipeline: NsbPipeline, batch: int, drawing: Drawing) -> Iterator[tuple[Any, Any, float]]:
    """Each part with weights, what one batch of that size calls it with, and G multiply-adds of a picture."""
    sampler: Any = pipeline.sampler
    info = sampler.info
    first = None if info.classes is None else info.classes[0]
    work = SAMPLER_REUSE * info.resolution * _weights(sampler) / 1e9
    yield sampler, pipeline.latents([Request(first, 0)] * batch, drawing), work
    last, side = pipeline.stages_for(drawing.resolution), info.resolution
    for stage, came in zip(pipeline.stages[:last], pipeline.reductions, strict=False):
        low = _low_band(batch, side >> (stage.encoder.levels if stage.encoder else 0))
        if moves(stage.decoder, came.anchor):
            low = F.pad(low, (RIM,) * 4)
        low = extend(low, stage.decoder.info.multiple)
        if isinstance(stage.decoder, Component):
            yield stage.decoder, low, _decoder_work(stage.decoder) * low.shape[-2] * low.shape[-1] / 1e9
        side = stage.emits(side)


def _low_band(batch: int, side: int) -> Tensor:
    return torch.zeros(1, 3, side, side).expand(batch, -1, -1, -1)


def _decoder_work(decoder: Component) -> float:
    """Multiply-adds of the convolutions for one low-band pixel, counted while the smallest low band is enlarged.

    By hooks: torch's own counter imports its compiler first, which takes longer than a picture.
    """
    smallest = extend(_low_band(1, 1), _info(decoder).multiple)
    counted = [0]

    def count(module: nn.Module, given: tuple[Tensor, ...], made: Tensor) -> None:
        each = module.weight[0].numel()  # type: ignore[index]
        counted[0] += each * (given[0] if isinstance(module, nn.ConvTranspose2d) else made).numel()

    convolutions = [m for m in decoder.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    hooks = [m.register_forward_hook(count) for m in convolutions]
    try:
        with torch.no_grad():
            decoder(smallest.to(next(decoder.parameters(), smallest)))
    finally:
        for hook in hooks:
            hook.remove()
    return counted[0] / (smallest.shape[-2] * smallest.shape[-1])


def _info(decoder: Any) -> DecoderInfo:
    info: DecoderInfo = decoder.info
    return info


def _weights(part: nn.Module | Any) -> int:
    return sum(p.numel() for p in part.parameters()) if isinstance(part, nn.Module) else 0

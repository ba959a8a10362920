"""Training pairs of a decoder for photos: windows of pictures, and what blur, noise and JPEG leave of them.

Pair i of a run depends on its seed and i alone, like `CropBatches`, whose windows these are; they are cut and degraded
on the CPU, in a thread or in worker processes, ahead of the step that asks for them. A window is degraded with a margin
and its low-resolution picture cut out at a random place: the 8 x 8 blocks of JPEG then lie anywhere, as they do in the
tiles of a photo, and no border of the window is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from nsbgan_infer.errors import UsageError
from nsbgan_infer.training.data import CropBatches, Prefetched, WorkerBatches, as_floats
from nsbgan_infer.training.decoders.degradations import degradation, degrade
from nsbgan_infer.training.loop import step_generator

MARGIN = 8  # low-resolution pixels: one block of JPEG
DEGRADE_STREAM = 3  # of `step_generator`


class Pair(NamedTuple):
    """`low` (B, 3, S / scale, S / scale) and the `picture` (B, 3, S, S) that it was made from, uint8 or in [0, 1]."""

    low: Tensor
    picture: Tensor


@dataclass(frozen=True)
class DegradedBatches:
    """Pairs of windows. Each is degraded in one of several ways, or only made smaller."""

    windows: CropBatches
    """The windows, `MARGIN` low-resolution pixels larger than the pairs."""
    scale: int
    """By how much the low-resolution picture is smaller."""
    ways: tuple[str, ...]
    """Names of `degradations.PRESETS`; one is drawn for every window."""
    clean: float
    """The share of windows that are only made smaller, so that clean pictures stay clean."""
    reduce: Callable[[Tensor], Tensor]
    """The reduction of these: (B, 3, H, W) -> (B, 3, H / scale, W / scale)."""

    def __post_init__(self) -> None:
        for way in self.ways:
            degradation(way)
        if not self.ways or not 0 <= self.clean <= 1:
            raise UsageError("Degraded windows need the name of a degradation, and a share of clean ones from 0 to 1.")

    @property
    def batch(self) -> int:
        """Pairs of a step in all processes together."""
        return self.windows.batch

    def __call__(self, step: int) -> Pair:
        """The pairs of a step, float32 in [0, 1]."""
        low, picture = self.pixels(step)
        return Pair(as_floats(low), as_floats(picture))

    def pixels(self, step: int) -> Pair:
        """The same as uint8."""
        rows = range(self.windows.rank, self.windows.batch, self.windows.world)
        pictures = as_floats(self.windows.pixels(step))
        pairs = [self._pair(p, step * self.windows.batch + row) for p, row in zip(pictures, rows, strict=True)]
        low, picture = (
            torch.stack(parts).clamp(0, 1).mul(255).round().to(torch.uint8) for parts in zip(*pairs, strict=True)
        )
        return Pair(low, picture)

    def _pair(self, picture: Tensor, position: int) -> Pair:
        """The pair of one window (3, S + margin, S + margin)."""
        generator = step_generator(self.windows.seed, position, DEGRADE_STREAM)
        chance, way, down, right = torch.rand(4, generator=generator, dtype=torch.float64).tolist()
        if chance < self.clean:
            low = self.reduce(picture[None])[0]
        else:
            settings = degradation(self.ways[int(way * len(self.ways))])
            low = degrade(picture, settings, self.scale, generator=generator)
        side = low.shape[-1] - MARGIN
        top, left = int(down * (MARGIN + 1)), int(right * (MARGIN + 1))
        s = self.scale
        inside = picture[:, top * s : (top + side) * s, left * s : (left + side) * s]
        return Pair(low[:, top : top + side, left : left + side], inside)


def widen(windows: CropBatches, scale: int) -> CropBatches:
    """Windows with the margin that `DegradedBatches` cuts off."""
    return replace(windows, size=windows.size + MARGIN * scale)


def feed_pairs(batches: DegradedBatches, device: torch.device, workers: int = 0) -> Callable[[int], Pair]:
    """The pairs on `device` in channels_last, made ahead of the step that asks for them.

    `workers` processes make them, 0 means one thread. Raises UsageError where processes cannot share the pictures.
    """
    made = WorkerBatches(batches.pixels, workers) if workers else Prefetched(batches.pixels)

    def on_device(step: int) -> Pair:
        low, picture = (as_floats(part.to(device, non_blocking=True)) for part in made(step))
        channels_last = torch.channels_last
        return Pair(low.contiguous(memory_format=channels_last), picture.contiguous(memory_format=channels_last))

    return on_device

"""Training pairs: windows of pictures, and these made smaller, or what blur, noise and JPEG leave of them.

Pair i of a run depends on its seed and i alone, like `CropBatches`, whose windows these are; they are cut and degraded
on the CPU, in a thread or in worker processes, ahead of the step that asks for them. A window is degraded with a margin
and its low-resolution picture cut out at a random place: the 8 x 8 blocks of JPEG then lie anywhere, as they do in the
tiles of a photo, and no border of the window is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from nsbgan_infer.degradations.world import degradation, degrade
from nsbgan_infer.encoders.reduce import Reducer
from nsbgan_infer.errors import UsageError
from nsbgan_infer.training.decoders.windows import CropBatches, Prefetched, WorkerBatches, as_floats, feed
from nsbgan_infer.training.loop import step_generator

MARGIN = 8  # low-resolution pixels: one block of JPEG
DEGRADE_STREAM = 3  # of `step_generator`


class Pair(NamedTuple):
    """`low` (B, 3, S / scale, S / scale) and the `picture` (B, 3, S, S) that it was made from, uint8 or in [0, 1]."""

    low: Tensor
    picture: Tensor


class Pairs(Protocol):
    """The pairs of a run: those of a step by calling it, or made ahead and on a device by `feed`."""

    @property
    def batch(self) -> int:
        """Pairs of a step in all processes together."""

    def __call__(self, step: int) -> Pair:
        """The pairs of a step, float32 in [0, 1], on the CPU."""

    def feed(self, device: torch.device, workers: int) -> Callable[[int], Pair]:
        """The same on `device` in channels_last, made ahead of the step that asks for them by `workers` processes,
        0 means one thread. Raises UsageError where processes cannot share the pictures."""


@dataclass(frozen=True)
class ReducedBatches:
    """Windows, and these made smaller on the device that trains."""

    windows: CropBatches
    reduce: Reducer

    @property
    def batch(self) -> int:
        """See `Pairs`."""
        return self.windows.batch

    def __call__(self, step: int) -> Pair:
        """See `Pairs`."""
        picture = self.windows(step)
        return Pair(self.reduce(picture), picture)

    def feed(self, device: torch.device, workers: int) -> Callable[[int], Pair]:
        """See `Pairs`; a reduction may follow its input's layout in memory."""
        next_batch = feed(self.windows, device, workers)

        def on_device(step: int) -> Pair:
            picture = next_batch(step)
            return Pair(self.reduce(picture), picture)

        return on_device


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
    reduce: Reducer
    """The reduction of these."""

    def __post_init__(self) -> None:
        for way in self.ways:
            degradation(way)
        if not self.ways or not 0 <= self.clean <= 1:
            raise UsageError("Degraded windows need the name of a degradation, and a share of clean ones from 0 to 1.")

    @property
    def batch(self) -> int:
        """See `Pairs`."""
        return self.windows.batch

    def __call__(self, step: int) -> Pair:
        """See `Pairs`."""
        low, picture = self.pixels(step)
        return Pair(as_floats(low), as_floats(picture))

    def feed(self, device: torch.device, workers: int) -> Callable[[int], Pair]:
        """See `Pairs`."""
        made = WorkerBatches(self.pixels, workers) if workers else Prefetched(self.pixels)

        def on_device(step: int) -> Pair:
            low, picture = (as_floats(part.to(device, non_blocking=True)) for part in made(step))
            form = torch.channels_last
            return Pair(low.contiguous(memory_format=form), picture.contiguous(memory_format=form))

        return on_device

    def pixels(self, step: int) -> Pair:
        """The pairs as uint8."""
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

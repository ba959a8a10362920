"""Pictures for the decoder and UNet trainers: kept as uint8 in memory, cut into batches as a pure function of the step.

A batch is (B, 3, S, S) float32 in [0, 1], RGB. Which pictures, which windows and which flips step i of a run sees
depends on (seed, i) alone: resuming needs no state, and process r of n takes rows r, r + n, ... of the global batch.
Every window is encoded as a picture of its own; with the symmetric boundary low band and picture then agree up to
the window's border, and a decoder learns borders as it will meet them. Flips happen here, in pixel space: the 5/3 grid
is not flip-symmetric (spec 8, row 10).
"""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from nsbgan_infer.datasets import ImageSource, centre_square
from nsbgan_infer.errors import ImageFileError, NsbError, UsageError
from nsbgan_infer.frame.progress import bar
from nsbgan_infer.training.loop import step_generator

Pixels = NDArray[np.uint8]
CACHE_BYTES = 4 << 30
DATA_STREAM = 1  # of `step_generator`
ORDER_STREAM = 2
B = TypeVar("B")  # a batch: a tensor, or a tuple of them


@dataclass(frozen=True)
class Pictures:
    """A checked set of pictures; `get(i)` is (H, W, 3) uint8, at least `smallest` pixels a side."""

    names: tuple[str, ...]
    get: Callable[[int], Pixels]

    def __len__(self) -> int:
        return len(self.names)


def load_pictures(
    source: ImageSource,
    *,
    smallest: int,
    square: int = 0,
    cache_bytes: int = CACHE_BYTES,
    threads: int = 4,
    quiet: bool = False,
) -> Pictures:
    """Decode every picture of `source` once, so that bad ones are found before step 0, and keep what fits in memory.

    `square` > 0 prepares each picture by `centre_square` to that size, 0 keeps it as it is. Pictures beyond
    `cache_bytes` are checked now and decoded again when they are drawn. A bar shows unless `quiet`. Raises
    ImageFileError naming up to five pictures that cannot be decoded or have a side under `smallest`.
    """

    def prepare(index: int) -> Pixels:
        image = source.image(index)
        return np.asarray(centre_square(image, square) if square else image, dtype=np.uint8)

    def check(index: int) -> Pixels | str:
        try:
            pixels = prepare(index)
        except NsbError as error:
            return str(error)
        height, width = pixels.shape[:2]
        if min(height, width) < smallest:
            return f"{source.names[index]} is {width} x {height}, but training needs {smallest} pixels a side."
        return pixels

    kept: dict[int, Pixels] = {}
    problems: list[str] = []
    used = 0
    with ThreadPoolExecutor(threads) as pool, bar(len(source), unit="picture", shown=not quiet) as shown:
        for index, result in enumerate(pool.map(check, range(len(source)))):
            if shown is not None:
                shown.update()
            if isinstance(result, str):
                problems.append(result)
            elif used + result.nbytes <= cache_bytes:
                kept[index] = result
                used += result.nbytes
    if problems:
        more = f" And {len(problems) - 5} more." if len(problems) > 5 else ""
        raise ImageFileError(" ".join(problems[:5]) + more)
    return Pictures(source.names, lambda i: kept[i] if i in kept else prepare(i))


@dataclass(frozen=True)
class CropBatches:
    """`batch` windows of `size` pixels a step, each from the next picture of a shuffled order, flipped half the time.

    With `turns` they are also mirrored top to bottom and transposed, half the time each: all eight symmetries of the
    square (Lim et al. 2017, EDSR, section 4.1, turns likewise). With `shrink` < 1 a window is a larger one made smaller
    with antialiasing, by a factor between `shrink` and 1, as far as the picture goes. `rank` of `world` processes sees
    rows rank, rank + world, ... of the global batch.
    """

    pictures: Pictures
    batch: int
    size: int
    seed: int
    flip: bool = True
    turns: bool = False
    shrink: float = 1.0
    rank: int = 0
    world: int = 1

    def __call__(self, step: int) -> Tensor:
        """The batch of a step, (B / world, 3, size, size) float32 in [0, 1]."""
        return as_floats(self.pixels(step))

    def pixels(self, step: int) -> Tensor:
        """The same batch as uint8, a quarter of the bytes on the way to a GPU."""
        generator = step_generator(self.seed, step, DATA_STREAM)
        numbers = torch.rand(self.batch, 3, generator=generator)
        if self.turns:  # drawn after the others, so that these stay what they are without turns
            numbers = torch.cat([numbers, torch.rand(self.batch, 2, generator=generator)], dim=1)
        if self.shrink < 1:
            numbers = torch.cat([numbers, torch.rand(self.batch, 1, generator=generator)], dim=1)
        rows = range(self.rank, self.batch, self.world)
        windows = [self._window(step * self.batch + row, numbers[row].tolist()) for row in rows]
        return torch.from_numpy(np.stack(windows)).permute(0, 3, 1, 2)

    def _window(self, position: int, numbers: list[float]) -> Pixels:
        pixels = self.pictures.get(self._picture(position))
        side = self.size
        if self.shrink < 1:  # drawn last
            side = min(round(self.size / (1 - (1 - self.shrink) * numbers[-1])), *pixels.shape[:2])
        top = int(numbers[0] * (pixels.shape[0] - side + 1))
        left = int(numbers[1] * (pixels.shape[1] - side + 1))
        window = pixels[top : top + side, left : left + side]
        if side != self.size:
            window = np.asarray(Image.fromarray(window).resize((self.size, self.size), Image.Resampling.BICUBIC))
        if self.flip and numbers[2] < 0.5:
            window = window[:, ::-1]
        if self.turns and numbers[3] < 0.5:
            window = window[::-1]
        return window.swapaxes(0, 1) if self.turns and numbers[4] < 0.5 else window

    def _picture(self, position: int) -> int:
        """The picture at a position of the endless order: a new permutation for every epoch."""
        epoch, place = divmod(position, len(self.pictures))
        return int(_permutation(self.seed, epoch, len(self.pictures))[place])


def feed(batches: CropBatches, device: torch.device, workers: int = 0) -> Callable[[int], Tensor]:
    """The batches on `device` in channels_last, cut ahead of the step that asks for them.

    `workers` processes cut them, 0 means one thread. Raises UsageError where processes cannot share the pictures.
    """
    cut = WorkerBatches(batches.pixels, workers) if workers else Prefetched(batches.pixels)

    def on_device(step: int) -> Tensor:
        pixels = cut(step).to(device, non_blocking=True)
        return as_floats(pixels).contiguous(memory_format=torch.channels_last)

    return on_device


def as_floats(pixels: Tensor) -> Tensor:
    """uint8 -> float32 in [0, 1]."""
    return pixels.float().div_(255)


class Prefetched(Generic[B]):
    """The same batches, the next one being cut in a thread while the present one is used."""

    def __init__(self, batches: Callable[[int], B]) -> None:
        self.batches = batches
        self.pool = ThreadPoolExecutor(1)
        self.following: tuple[int, Future[B]] | None = None

    def __call__(self, step: int) -> B:
        """The batch of a step; fastest if the steps come in order."""
        expected = self.following is not None and self.following[0] == step
        batch = self.following[1].result() if expected and self.following else self.batches(step)
        self.following = (step + 1, self.pool.submit(self.batches, step + 1))
        return batch


@dataclass(frozen=True)
class _Steps(Dataset[B | NsbError]):
    """A data set whose item i is the batch of step i, or the error, which a DataLoader would bury in a traceback."""

    batches: Callable[[int], B]

    def __getitem__(self, step: int) -> B | NsbError:
        try:
            return self.batches(step)
        except NsbError as error:
            return error


class WorkerBatches(Generic[B]):
    """The same batches, cut by `workers` forked processes of a DataLoader, in page-locked memory where there is CUDA.

    Forked processes share the decoded pictures with this one; where systems cannot fork, UsageError is raised.
    """

    def __init__(self, batches: Callable[[int], B], workers: int) -> None:
        if "fork" not in multiprocessing.get_all_start_methods():
            raise UsageError("This system cannot share pictures with worker processes: set workers = 0.")
        self.batches, self.workers = batches, workers
        self.following = -1
        self.iterator: Iterator[B | NsbError] = iter(())

    def __call__(self, step: int) -> B:
        """The batch of a step; any other than the next one starts the processes anew."""
        if step != self.following:
            self.iterator = iter(
                DataLoader(
                    _Steps(self.batches),
                    batch_size=None,
                    sampler=itertools.count(step),
                    num_workers=self.workers,
                    pin_memory=torch.cuda.is_available(),
                    multiprocessing_context="fork",
                )
            )
        self.following = step + 1
        batch = next(self.iterator)
        if isinstance(batch, NsbError):
            self.following, self.iterator = -1, iter(())  # ends the processes: nobody may ask again
            raise batch
        return batch


_CACHE: dict[tuple[int, int, int], Tensor] = {}


def _permutation(seed: int, epoch: int, length: int) -> Tensor:
    key = (seed, epoch, length)
    if key not in _CACHE:
        if len(_CACHE) > 4:
            _CACHE.clear()
        _CACHE[key] = torch.randperm(length, generator=step_generator(seed, epoch, ORDER_STREAM))
    return _CACHE[key]

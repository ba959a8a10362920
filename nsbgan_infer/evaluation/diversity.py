"""Measures on the pixels themselves, as ProGAN defines them (Karras et al. 2018, sections 5 and 6.1; spec section 12).

Sliced Wasserstein distance between patches of Laplacian pyramids, and MS-SSIM between pictures of one class: the lower
its mean, the more varied the pictures. Both work on bounded sets and say how large these were.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.errors import UsageError
from nsbgan_infer.evaluation.scores import Pool

PATCH, PATCHES, COARSEST = 7, 128, 16
WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)  # of MS-SSIM's scales, finest first (Wang et al. 2003)


def laplacian_pyramid(pictures: Tensor) -> list[Tensor]:
    """(B, 3, S, S) -> differences between neighbouring Gaussian levels from S down, and the 16-pixel level last."""
    levels, x = [], pictures
    while min(x.shape[-2:]) >= 2 * COARSEST:
        smaller = _smooth(x)[..., ::2, ::2]
        levels.append(x - _enlarge(smaller, x.shape[-2:]))
        x = smaller
    return [*levels, x]


class PatchSets:
    """128 random patches of 7 x 7 x 3 a picture and pyramid level, at places that depend on the picture's key alone.

    Of more than `limit` pictures those with the smallest keys are taken (37 kB a level and picture).
    """

    def __init__(self, limit: int = 4096) -> None:
        self.limit = limit
        self.sizes: list[int] = []
        self._pools: list[Pool] = []

    def update(self, pictures: Tensor, keys: list[int]) -> None:
        """Add 8-bit pictures (B, 3, S, S) uint8 with their keys."""
        levels = laplacian_pyramid(pictures.float())
        if not self._pools:
            self.sizes = [level.shape[-1] for level in levels]
            self._pools = [Pool(self.limit) for _ in levels]
        for pool, level in zip(self._pools, levels, strict=True):
            pool.update(_cut(level, keys).half(), keys)

    @property
    def n(self) -> int:
        """How many pictures are in."""
        return len(self._pools[0]) if self._pools else 0

    def level(self, index: int) -> Tensor:
        """Patches of one level (n * 128, 147) float32, each channel with mean 0 and deviation 1 over the set."""
        x = self._pools[index].features.float().view(-1, 3, PATCH * PATCH)
        mean, deviation = x.mean((0, 2), keepdim=True), x.std((0, 2), keepdim=True)
        return ((x - mean) / deviation.clamp(min=1e-8)).flatten(1)


def sliced_wasserstein(a: Tensor, b: Tensor, *, directions: int = 512, seed: int = 0) -> float:
    """Mean over random directions of the 1-D Wasserstein distance of projections: (n, d) and (m, d), equal n and m.

    Raises UsageError for sets of unequal size.
    """
    if a.shape != b.shape:
        raise UsageError(f"A sliced Wasserstein distance needs sets of one size, got {len(a)} and {len(b)}.")
    generator = torch.Generator().manual_seed(seed)
    total = torch.zeros((), dtype=torch.float64)
    for _ in range(directions // 64):
        way = F.normalize(torch.randn(64, a.shape[1], generator=generator), dim=1)
        total += ((way @ a.T).sort(1).values - (way @ b.T).sort(1).values).abs().double().mean()
    return float(total / (directions // 64))


def swd(fake: PatchSets, real: PatchSets) -> dict[str, float]:
    """Distances x 1000 by level size, finest first, and their `mean`; over as many pictures as both sets hold.

    Raises UsageError for pictures of different sizes.
    """
    if fake.sizes != real.sizes:
        raise UsageError("Sliced Wasserstein distance needs fake and real pictures of one size: give --size.")
    count = min(fake.n, real.n) * PATCHES
    rows = {}
    for index, size in enumerate(fake.sizes):
        rows[str(size)] = 1000 * sliced_wasserstein(fake.level(index)[:count], real.level(index)[:count])
    return {**rows, "mean": sum(rows.values()) / len(rows)}


def ms_ssim(a: Tensor, b: Tensor, *, peak: float = 255.0) -> Tensor:
    """Multi-scale structural similarity of pairs: (B, C, H, W) float32 or float64 twice, sides of at least 32 -> (B,)
    float64.

    Five scales by 2 x 2 means; at scales smaller than 11 pixels the window shrinks with its sigma. A negative mean
    structure counts as 0.
    """
    if min(a.shape[-2:]) < 32:
        raise UsageError(f"MS-SSIM needs pictures of at least 32 pixels a side, got {a.shape[-2]} x {a.shape[-1]}.")
    result = torch.ones(len(a), dtype=torch.float64, device=a.device)
    for index, weight in enumerate(WEIGHTS):
        whole, structure = _ssim_parts(a, b, peak)
        result = result * (whole if index == len(WEIGHTS) - 1 else structure).clamp(min=0) ** weight
        a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return result


@dataclass(frozen=True)
class Similarity:
    """Mean MS-SSIM over `pairs` random pairs, drawn within classes (`within` = class) or from all pictures (all)."""

    mean: float
    pairs: int
    within: str


def mean_ms_ssim(
    pictures: Tensor, classes: list[int | None], *, pairs: int = 10_000, batch: int = 16, seed: int = 0
) -> Similarity:
    """The similarity of pictures (n, 3, H, W) uint8 of the same class. Raises UsageError if no class has two."""
    labelled = all(c is not None for c in classes)
    groups: dict[int | None, list[int]] = {}
    for index, class_id in enumerate(classes):
        groups.setdefault(class_id if labelled else None, []).append(index)
    choices = [(i, j) for group in groups.values() for n, i in enumerate(group) for j in group[:n]]
    if not choices:
        raise UsageError("MS-SSIM compares two pictures of one class, and no class has two: give more pictures.")
    chosen = random.Random(seed).sample(choices, min(pairs, len(choices)))
    total = 0.0
    for start in range(0, len(chosen), batch):
        first, second = zip(*chosen[start : start + batch], strict=True)
        total += float(ms_ssim(pictures[list(first)].float(), pictures[list(second)].float()).sum())
    return Similarity(total / len(chosen), len(chosen), "class" if labelled else "all")


def _ssim_parts(a: Tensor, b: Tensor, peak: float) -> tuple[Tensor, Tensor]:
    """Mean SSIM and mean contrast-structure term of each pair."""
    size, middle = min(11, *a.shape[-2:]), peak / 2
    a, b = a - middle, b - middle  # differences of squares lose fewer digits around 0
    mean_a, mean_b = _window(a, size), _window(b, size)
    var_a, var_b = _window(a * a, size) - mean_a**2, _window(b * b, size) - mean_b**2
    covariance = _window(a * b, size) - mean_a * mean_b
    mean_a, mean_b = mean_a + middle, mean_b + middle
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    return (luminance * structure).double().mean((1, 2, 3)), structure.double().mean((1, 2, 3))


def _window(x: Tensor, size: int) -> Tensor:
    """A Gaussian window, inside the picture only, as shifted sums: five times faster than one-channel convolutions."""
    weights = [math.exp(-0.5 * ((i - (size - 1) / 2) / (1.5 * size / 11)) ** 2) for i in range(size)]
    for axis in (-1, -2):
        length = x.shape[axis] - size + 1
        total = torch.zeros_like(x.narrow(axis, 0, length))
        for i, weight in enumerate(weights):
            total.add_(x.narrow(axis, i, length), alpha=weight / sum(weights))
        x = total
    return x


def _separable(x: Tensor, taps: Tensor) -> Tensor:
    b, c, h, w = x.shape
    x = F.conv2d(x.reshape(b * c, 1, h, w), taps.view(1, 1, 1, -1))
    x = F.conv2d(x, taps.view(1, 1, -1, 1))
    return x.reshape(b, c, *x.shape[-2:])


def _smooth(x: Tensor) -> Tensor:
    """The pyramid's binomial filter [1 4 6 4 1] / 16, border mirrored."""
    taps = torch.tensor([1.0, 4, 6, 4, 1], dtype=x.dtype, device=x.device) / 16
    return _separable(F.pad(x, (2, 2, 2, 2), mode="reflect"), taps)


def _enlarge(x: Tensor, size: torch.Size) -> Tensor:
    """Zeros between the samples, then the same filter with gain 4."""
    large = x.new_zeros(*x.shape[:2], *size)
    large[..., ::2, ::2] = x
    return _smooth(large) * 4


def _cut(level: Tensor, keys: list[int]) -> Tensor:
    """(B, 3, h, w) -> (B, 128, 147): random patches, places drawn from each picture's key."""
    c, h, w = level.shape[1:]
    span = torch.arange(PATCH)
    parts = []
    for picture, key in zip(level.cpu(), keys, strict=True):
        generator = torch.Generator().manual_seed(key >> 1)
        top = torch.randint(h - PATCH + 1, (PATCHES,), generator=generator)
        left = torch.randint(w - PATCH + 1, (PATCHES,), generator=generator)
        rows = (top[:, None] + span)[:, :, None].expand(-1, -1, PATCH)
        columns = (left[:, None] + span)[:, None, :].expand(-1, PATCH, -1)
        parts.append(picture[:, rows, columns].transpose(0, 1).reshape(PATCHES, c * PATCH * PATCH))
    return torch.stack(parts)

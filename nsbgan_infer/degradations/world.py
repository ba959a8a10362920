"""What happens to a photo before somebody wants it enlarged: blur, resizing, noise and JPEG, once or twice in a row.

(3, H, W) or (B, 3, H, W) in [0, 1] -> (.., 3, ceil(H / s), ceil(W / s)) in [0, 1], a low-resolution picture whose
samples lie at cell centres, like those of a `bicubic` reduction. Every random number comes from the generator that is
given: equal settings and equal seeds give equal bytes. Model after Wang et al. 2021 (Real-ESRGAN, arXiv:2107.10833).
"""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from nsbgan_infer.degradations.blur_kernels import filter_picture, gaussian_kernel, plateau_kernel, sinc_kernel
from nsbgan_infer.encoders.base import pad_to_multiple
from nsbgan_infer.errors import UsageError, unknown_name

Range = tuple[float, float]
SHORTEST = 8  # pixels that a side keeps however far a round shrinks it
RESIZES = ("area", "bilinear", "bicubic")


@dataclass(frozen=True)
class Round:
    """One round: blur, resize, noise, JPEG. Numbers between two limits are drawn uniformly, every time anew."""

    blur: float = 1.0
    """How often a picture is blurred at all, 0 to 1."""
    sinc: float = 0.1
    """How often a blur is a sinc filter instead of one of the shapes below."""
    sizes: tuple[int, int] = (7, 21)
    """Smallest and largest side of a kernel in pixels, both odd."""
    sigma: Range = (0.2, 3.0)
    """Width of a blur in pixels of the picture that it meets."""
    shapes: tuple[float, float, float] = (0.70, 0.15, 0.15)
    """How often a blur is a Gaussian, a generalised Gaussian, a plateau; the sum is 1."""
    stretched: float = 0.3
    """How often a blur has two different widths along two axes at any angle."""
    gaussian_beta: Range = (0.5, 4.0)
    """The exponent of a generalised Gaussian."""
    plateau_beta: Range = (1.0, 2.0)
    """The exponent of a plateau."""
    resize: tuple[float, float, float] = (0.2, 0.7, 0.1)
    """How often a picture is made larger, made smaller, or neither; the sum is 1."""
    factor: Range = (0.15, 1.5)
    """The smallest and largest factor of that. The last round's counts from the size of the result."""
    antialias: bool = False
    """Whether bilinear and bicubic resizing smooths what it shrinks; the published model leaves the aliasing in."""
    gaussian: float = 0.5
    """How often noise is Gaussian; otherwise it is that of counted photons (Poisson)."""
    noise: Range = (1.0, 30.0)
    """Standard deviation of Gaussian noise, in grey levels of 255."""
    photons: Range = (0.05, 3.0)
    """Strength a of Poisson noise: a value x of 255 has the standard deviation a * sqrt(x)."""
    grey: float = 0.4
    """How often noise is the same in all three colours."""
    jpeg: tuple[int, int] = (30, 95)
    """Lowest and highest quality of JPEG."""

    def __post_init__(self) -> None:
        shares = (self.blur, self.sinc, self.stretched, self.gaussian, self.grey, *self.shapes, *self.resize)
        if not all(0 <= share <= 1 for share in shares):
            raise UsageError("How often something happens to a picture is a number from 0 to 1.")
        if not all(math.isclose(sum(shares), 1, abs_tol=1e-6) for shares in (self.shapes, self.resize)):
            raise UsageError("The shares of shapes and of resize must each have the sum 1.")
        if self.sizes[0] < 1 or not all(size % 2 for size in self.sizes):
            raise UsageError(f"Kernels have odd sides of at least 1, not {self.sizes[0]} to {self.sizes[1]}.")
        positive = (self.sigma, self.gaussian_beta, self.plateau_beta, self.factor)
        if not all(low > 0 for low, _ in positive) or min(self.noise[0], self.photons[0]) < 0:
            raise UsageError("Widths, exponents and factors are positive, the strengths of noise at least 0.")
        if not all(low <= high for low, high in (*positive, self.sizes, self.noise, self.photons, self.jpeg)):
            raise UsageError("Two limits are given as lowest, highest.")
        if not 1 <= self.jpeg[0] <= self.jpeg[1] <= 95:
            raise UsageError(f"The quality of JPEG goes from 1 to 95, not {self.jpeg[0]} to {self.jpeg[1]}.")


@dataclass(frozen=True)
class Degradation:
    """One round or several, and what the last one does with the picture of final size."""

    rounds: tuple[Round, ...]
    """In the order in which they happen."""
    last_sinc: float = 0.8
    """How often the picture of final size goes through a sinc filter, which leaves rings beside edges."""
    last_sizes: tuple[int, int] = (7, 21)
    """Smallest and largest side of that filter, both odd."""
    either_order: bool = True
    """Whether the last JPEG may also come before the final resize and the filter, in half of all cases."""

    def __post_init__(self) -> None:
        if not self.rounds:
            raise UsageError("A degradation has at least one round.")
        if not 0 <= self.last_sinc <= 1 or self.last_sizes[0] < 1 or not all(size % 2 for size in self.last_sizes):
            raise UsageError("last_sinc is a number from 0 to 1, last_sizes are two odd sides.")


PRESETS: dict[str, Degradation] = {
    # the values that the authors of arXiv:2107.10833 trained with, but that of every shape of kernel three in ten are
    # stretched (theirs: 36 % of Gaussians, 20 % of the others)
    "two-round": Degradation(
        (
            Round(),
            Round(
                blur=0.8,
                sigma=(0.2, 1.5),
                resize=(0.3, 0.4, 0.3),
                factor=(0.3, 1.2),
                noise=(1.0, 25.0),
                photons=(0.05, 2.5),
            ),
        )
    ),
    # one lens, one sensor of the final size, one file: what a phone or a web page does
    "camera": Degradation(
        (
            Round(
                sinc=0.0,
                sigma=(0.4, 2.4),
                shapes=(0.8, 0.1, 0.1),
                resize=(0.0, 0.0, 1.0),
                antialias=True,
                noise=(1.0, 10.0),
                photons=(0.05, 0.8),
                jpeg=(40, 80),
            ),
        ),
        last_sinc=0.0,
        either_order=False,
    ),
}


def degradation(name: str) -> Degradation:
    """The preset called `name`: `two-round` (as published) or `camera` (milder). Raises UnknownNameError."""
    if name not in PRESETS:
        raise unknown_name("degradation", name, PRESETS)
    return PRESETS[name]


@torch.no_grad()
def degrade(pictures: Tensor, settings: Degradation, scale: int, *, generator: torch.Generator) -> Tensor:
    """Degrade (3, H, W) or (B, 3, H, W), float, RGB in [0, 1], on the CPU, to a low-resolution picture in [0, 1].

    The result has the sides ceil(H / scale), ceil(W / scale); sides that are no multiple of `scale` are extended by
    their last row and column first, as encoders do. The pictures of a batch are degraded in order with one generator
    (of the CPU), each in its own way. Its values are whole grey levels, as a file holds them. Raises UsageError for
    another shape or a scale below 2.
    """
    if pictures.ndim not in (3, 4) or pictures.shape[-3] != 3 or pictures.numel() == 0:
        raise UsageError(f"Pictures to degrade are (3, H, W) or (B, 3, H, W), not {tuple(pictures.shape)}.")
    if scale < 2:
        raise UsageError(f"A degraded picture is smaller by 2 or more, not by {scale}.")
    extended = pad_to_multiple(pictures if pictures.ndim == 4 else pictures[None], scale)
    low = torch.stack([_Chain(settings, scale, generator).run(p.float().clamp(0, 1)) for p in extended])
    return (low if pictures.ndim == 4 else low[0]).to(pictures.dtype)


class _Chain:
    """All that happens to one picture; the numbers are drawn as they are needed."""

    def __init__(self, settings: Degradation, scale: int, generator: torch.Generator) -> None:
        self.settings, self.scale, self.generator = settings, scale, generator

    def run(self, picture: Tensor) -> Tensor:
        """(3, H, W), sides multiples of the scale -> (3, H / scale, W / scale)."""
        final = (picture.shape[-2] // self.scale, picture.shape[-1] // self.scale)
        *before, last = self.settings.rounds
        for one in before:
            picture = self._resize(self._blur(picture, one), one, (picture.shape[-2], picture.shape[-1]))
            picture = self._jpeg(self._noise(picture, one), one)
        picture = self._noise(self._resize(self._blur(picture, last), last, final), last)
        if self.settings.either_order and self._happens(0.5):
            return self._finish(self._jpeg(picture, last), last, final)
        return self._jpeg(self._finish(picture, last, final), last)

    def _blur(self, picture: Tensor, one: Round) -> Tensor:
        if not self._happens(one.blur):
            return picture
        size = self._odd(one.sizes)
        if self._happens(one.sinc):
            return filter_picture(picture, self._sinc(size)).clamp(0, 1)
        first = self._between(one.sigma)
        stretched = self._happens(one.stretched)
        sigma = (first, self._between(one.sigma) if stretched else first)
        angle = self._between((0.0, math.pi)) if stretched else 0.0
        shape = self._choose(one.shapes)
        if shape == 2:
            return filter_picture(picture, plateau_kernel(size, sigma, angle, self._between(one.plateau_beta)))
        beta = self._between(one.gaussian_beta) if shape == 1 else 1.0
        return filter_picture(picture, gaussian_kernel(size, sigma, angle, beta))

    def _sinc(self, size: int) -> Tensor:
        """A sinc filter; small kernels cannot hold a low cutoff."""
        return sinc_kernel(size, self._between((math.pi / 3 if size < 13 else math.pi / 5, math.pi)))

    def _resize(self, picture: Tensor, one: Round, size: tuple[int, int]) -> Tensor:
        """`picture` at `size` times a random factor."""
        way = self._choose(one.resize)
        low, high = one.factor
        limits = ((max(1.0, low), max(1.0, high)), (min(1.0, low), min(1.0, high)), (1.0, 1.0))[way]
        factor = self._between(limits)
        height, width = (max(SHORTEST, round(side * factor)) if factor != 1 else side for side in size)
        return self._resized(picture, (height, width), one.antialias)

    def _resized(self, picture: Tensor, size: tuple[int, int], antialias: bool) -> Tensor:
        """Resized with the borders kept in place, by a method drawn from three."""
        if tuple(picture.shape[-2:]) == size:
            return picture
        mode = RESIZES[self._choose((1 / 3, 1 / 3, 1 / 3))]
        if mode == "area":
            return F.interpolate(picture[None], size, mode="area")[0]
        out = F.interpolate(picture[None], size, mode=mode, align_corners=False, antialias=antialias)
        return out[0].clamp(0, 1)

    def _noise(self, picture: Tensor, one: Round) -> Tensor:
        gaussian, grey = self._happens(one.gaussian), self._happens(one.grey)
        if gaussian:
            return add_gaussian(picture, self._between(one.noise), grey, generator=self.generator).clamp(0, 1)
        return add_photons(picture, self._between(one.photons), grey, generator=self.generator).clamp(0, 1)

    def _jpeg(self, picture: Tensor, one: Round) -> Tensor:
        return through_jpeg(picture, round(self._between(one.jpeg)))

    def _finish(self, picture: Tensor, one: Round, final: tuple[int, int]) -> Tensor:
        """The final size, and the filter that leaves rings, in whole grey levels."""
        picture = self._resized(picture, final, one.antialias)
        if self._happens(self.settings.last_sinc):
            picture = filter_picture(picture, self._sinc(self._odd(self.settings.last_sizes)))
        return picture.clamp(0, 1).mul(255).round().div(255)

    def _between(self, limits: Sequence[float]) -> float:
        low, high = limits
        return low + (high - low) * self._uniform()

    def _odd(self, limits: tuple[int, int]) -> int:
        """An odd number between two odd ones."""
        low, high = limits
        return low + 2 * int(self._uniform() * ((high - low) // 2 + 1))

    def _happens(self, share: float) -> bool:
        return self._uniform() < share

    def _choose(self, shares: Sequence[float]) -> int:
        """The number of one of `shares`, which sum to 1."""
        place, total = self._uniform(), 0.0
        for index, share in enumerate(shares):
            total += share
            if place < total:
                return index
        return max(index for index, share in enumerate(shares) if share)  # the sum was rounded

    def _uniform(self) -> float:
        return float(torch.rand((), dtype=torch.float64, generator=self.generator))


def add_gaussian(picture: Tensor, sigma: float, grey: bool, *, generator: torch.Generator) -> Tensor:
    """(3, H, W) in [0, 1] with noise of `sigma` grey levels, unclamped; `grey`: the same in all three colours."""
    shape = (1, *picture.shape[-2:]) if grey else tuple(picture.shape)
    return picture + torch.randn(shape, generator=generator) * (sigma / 255)


def add_photons(picture: Tensor, strength: float, grey: bool, *, generator: torch.Generator) -> Tensor:
    """(3, H, W) in [0, 1] with Poisson noise of deviation `strength` * sqrt(x) at the value x of 255, unclamped;
    `grey`: that of the mean of the three colours, the same in all."""
    counted = picture.mean(0, keepdim=True) if grey else picture
    return picture + (torch.poisson(counted * 255, generator=generator) / 255 - counted) * strength


def through_jpeg(picture: Tensor, quality: int) -> Tensor:
    """(3, H, W) in [0, 1] as a JPEG of `quality` 1 to 95 keeps it (colours at half the resolution, as cameras do)."""
    pixels = picture.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality, subsampling="4:2:0")
    back = np.asarray(Image.open(file, formats=("JPEG",)), dtype=np.float32) / 255
    return torch.from_numpy(back).permute(2, 0, 1).contiguous()

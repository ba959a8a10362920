"""Blur kernels of degraded photos: what a lens, a shake of the hand and a sharpening filter do to a picture.

Each function returns (size, size) float32 with sum 1, `size` odd, its centre on the middle pixel, so that a filtered
picture keeps its brightness and its place. Shapes after Wang et al. 2021 (Real-ESRGAN, arXiv:2107.10833, section 3.1).
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.errors import UsageError


def gaussian_kernel(size: int, sigma: tuple[float, float], angle: float = 0.0, beta: float = 1.0) -> Tensor:
    """exp(-t^beta / 2) with t the squared distance in units of `sigma` along two axes, the first at `angle` radians.

    `beta` 1 is a Gaussian; below, the peak is sharper and the tails are longer (generalised Gaussian). An unbounded
    kernel has the variance sigma^2 * 2^(1 / beta) * gamma(2 / beta) / (2 * gamma(1 / beta)) along each axis.
    """
    return _normalised(torch.exp(-0.5 * _distance(size, sigma, angle) ** beta))


def plateau_kernel(size: int, sigma: tuple[float, float], angle: float = 0.0, beta: float = 1.0) -> Tensor:
    """1 / (1 + t^beta), `t` as in `gaussian_kernel`: at the distance sigma it falls to a half, the steeper the larger
    `beta` is."""
    return _normalised(1 / (1 + _distance(size, sigma, angle) ** beta))


def sinc_kernel(size: int, cutoff: float) -> Tensor:
    """The round low-pass filter: nothing above `cutoff` radians a pixel (pi: everything), and ringing beside edges.

    cutoff * J1(cutoff * r) / (2 pi r) at the radius r, with J1 Bessel's function; cutoff^2 / (4 pi) at the centre.
    """
    x, y = _grid(size)
    radius = torch.hypot(x, y)
    kernel = cutoff * torch.special.bessel_j1(cutoff * radius) / (2 * math.pi * radius)
    kernel[size // 2, size // 2] = cutoff**2 / (4 * math.pi)
    return _normalised(kernel)


def filter_picture(picture: Tensor, kernel: Tensor) -> Tensor:
    """(3, H, W) filtered by `kernel`, the same size. The picture goes on beyond its border as its own mirror image,
    or, where it is smaller than the kernel, with its last pixel."""
    reach = kernel.shape[-1] // 2
    mode = "reflect" if min(picture.shape[-2:]) > reach else "replicate"
    padded = F.pad(picture[:, None], (reach,) * 4, mode=mode)  # (3, 1, H + 2 reach, W + 2 reach)
    filtered: Tensor = F.conv2d(padded, kernel.to(picture)[None, None])[:, 0]
    return filtered


def _distance(size: int, sigma: tuple[float, float], angle: float) -> Tensor:
    """Squared distance from the centre in units of sigma, (size, size) float64."""
    if min(sigma) <= 0:
        raise UsageError(f"A blur's sigma is a positive number of pixels, not {min(sigma):g}.")
    x, y = _grid(size)
    along = math.cos(angle) * x + math.sin(angle) * y
    across = math.cos(angle) * y - math.sin(angle) * x
    return (along / sigma[0]) ** 2 + (across / sigma[1]) ** 2


def _grid(size: int) -> tuple[Tensor, Tensor]:
    """x (to the right) and y (down) of every pixel from the centre, each (size, size) float64."""
    if size < 1 or size % 2 == 0:
        raise UsageError(f"A blur kernel has an odd side, not {size}: an even one would move the picture.")
    steps = torch.arange(size, dtype=torch.float64) - size // 2
    return steps[None, :].expand(size, size), steps[:, None].expand(size, size)


def _normalised(kernel: Tensor) -> Tensor:
    return (kernel / kernel.sum()).float()

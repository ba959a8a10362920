"""Antialiased resizing by whole factors, exactly as the benchmark pairs were made (MATLAB's `imresize`).

(..., H, W) -> (..., ceil(H / s), ceil(W / s)), any float dtype, any device. Sample k lies at s * k + (s - 1) / 2. The
kernel is Keys' cubic with a = -1/2 (or the triangle), stretched by s, its weights normalised to sum 1; the border pixel
is repeated; rows are summed before columns. A factor is whole, so all samples have the same taps, and a sum of shifted
slices is the same on every device: neither TF32 nor autocast touches it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

from nsbgan_infer.errors import UsageError


def cubic(t: float) -> float:
    """Cubic convolution with a = -1/2 (Keys 1981, equation 15), which reproduces quadratics."""
    t = abs(t)
    if t < 1:
        return (1.5 * t - 2.5) * t * t + 1
    return ((-0.5 * t + 2.5) * t - 4) * t + 2 if t < 2 else 0.0


def triangle(t: float) -> float:
    """Linear interpolation."""
    return max(0.0, 1 - abs(t))


KERNELS: dict[str, tuple[Callable[[float], float], int]] = {"bicubic": (cubic, 2), "bilinear": (triangle, 1)}


def shrink(picture: Tensor, scale: int, filter: str = "bicubic", *, eight_bits: bool = False) -> Tensor:
    """`picture` (..., H, W) in [0, 1] made smaller by a whole number. Half precision sums in fp32.

    `eight_bits` rounds to multiples of 1/255 in [0, 1] after the rows and after the columns, as programs do that
    resize 8-bit pictures: for factors 2 and 4 the benchmark pairs come out bit by bit. Raises UsageError for a picture
    without pixels.
    """
    if min(picture.shape[-2:]) < 1:
        raise UsageError(f"A picture of {picture.shape[-2]} x {picture.shape[-1]} pixels cannot be made smaller.")
    if scale == 1:
        return picture
    x = picture if picture.dtype == torch.float64 else picture.float()
    if eight_bits:
        x = (x * 255).round()  # whole numbers: sums are exact, and so are halves
    for dim in (-2, -1):
        x = _shrink_along(x, dim, scale, filter)
        if eight_bits:
            x = (x + 0.5).floor().clamp(0, 255)
    return (x / 255 if eight_bits else x).to(picture.dtype)


@cache
def shrink_taps(filter: str, scale: int) -> tuple[int, tuple[float, ...]]:
    """How many pixels before pixel scale * k the first tap of sample k lies, and the weights of all taps."""
    kernel, reach = KERNELS[filter]
    centre = (scale - 1) / 2
    before = int(reach * scale - centre)
    weights = [kernel((i - centre) / scale) for i in range(-before, scale + before)]
    total = sum(weights)
    return before, tuple(w / total for w in weights)


def _shrink_along(x: Tensor, dim: int, scale: int, filter: str) -> Tensor:
    """One dimension: sample k is the sum of taps[j] * x[scale * k + j - before]."""
    before, taps = shrink_taps(filter, scale)
    length, count = x.shape[dim], -(-x.shape[dim] // scale)
    places = torch.arange(-before, scale * count + before, device=x.device).clamp(0, length - 1)
    x = x.index_select(dim, places)
    stop = scale * (count - 1) + 1
    every = (..., slice(None, None, scale), slice(None)) if dim == -2 else (..., slice(None, None, scale))
    total = x.narrow(dim, 0, stop)[every] * taps[0]
    for j, weight in enumerate(taps[1:], 1):
        total = torch.add(total, x.narrow(dim, j, stop)[every], alpha=weight)
    return total

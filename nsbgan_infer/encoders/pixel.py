"""Step 3, pixel basis: smooth and subsample (paper section 3.2, after Jo et al. 2018; or a plain resize).

(B, 3, H, W) nominally [0, 1] -> (B, 3, ceil(H/s), ceil(W/s)) with s = 2^levels.

`gaussian` is the paper's: sigma = 0.4 s, 13 taps, reflecting border, sampled at pixels 0, s, 2s, ... (the top left
pixel of each cell, like the wavelet). `bilinear` and `bicubic` are antialiased resizes with samples at cell centres,
as in Pillow; they serve as comparisons and for samplers that were trained on such pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.encoders.base import Basis, check_levels, pad_to_multiple, register_encoder
from nsbgan_infer.errors import UsageError

PixelFilter = Literal["gaussian", "bilinear", "bicubic"]
RADIUS = 6  # 13 taps


@register_encoder("pixel")
@dataclass(frozen=True)
class PixelEncoder:
    """Shrink by 2^levels with one filter pass (not level by level). Raises UsageError for bad settings."""

    levels: int = 2
    filter: PixelFilter = "gaussian"
    basis: ClassVar[Basis] = "pixel"

    @property
    def makes(self) -> str:
        """The reduction: filters are called after it."""
        return self.filter

    def __post_init__(self) -> None:
        check_levels(self.levels)
        if self.filter not in get_args(PixelFilter):
            raise UsageError(f"Unknown pixel filter '{self.filter}': use gaussian, bilinear or bicubic.")

    def __call__(self, picture: Tensor) -> Tensor:
        """The low band of `picture`. Raises UsageError for sides under 7 pixels (gaussian)."""
        scale = 2**self.levels
        picture = pad_to_multiple(picture, scale)
        if self.filter != "gaussian":
            size = [picture.shape[-2] // scale, picture.shape[-1] // scale]
            return F.interpolate(picture, size, mode=self.filter, align_corners=False, antialias=True)
        if min(picture.shape[-2:]) <= RADIUS:
            raise UsageError(
                f"The Gaussian encoder needs at least {RADIUS + 1} pixels a side, got "
                f"{picture.shape[-2]} x {picture.shape[-1]}: take a larger picture."
            )
        taps = gaussian_taps(0.4 * scale).to(picture)
        b, c, h, w = picture.shape
        x = F.pad(picture.reshape(b * c, 1, h, w), (RADIUS,) * 4, mode="reflect")
        x = F.conv2d(x, taps.view(1, 1, 1, -1), stride=(1, scale))
        x = F.conv2d(x, taps.view(1, 1, -1, 1), stride=(scale, 1))
        return x.reshape(b, c, h // scale, w // scale)


def gaussian_taps(sigma: float) -> Tensor:
    """13 samples of a Gaussian cut off at 4 sigma (rounded to whole pixels, at most 6), with sum 1, float32.

    For sigma 1.6: 0.24935 in the middle, then 0.20511, 0.11416, 0.04299, 0.01096, 0.00189, 0.00022.
    """
    offset = torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float64)
    taps = torch.exp(-0.5 * (offset / sigma) ** 2)
    taps[offset.abs() > int(4 * sigma + 0.5)] = 0
    return (taps / taps.sum()).float()

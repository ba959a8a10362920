"""Colours under transparent pixels, which a decoder must not see as they are: most programs leave black there."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

VISIBLE = 1 / 8  # from this transparency on a pixel keeps its own colour


def spread_colours(rgb: Tensor, alpha: Tensor) -> Tensor:
    """(1, 3, h, w) and (1, 1, h, w) in [0, 1] -> colours in which hidden pixels continue the visible ones around them.

    Premultiplied colours and transparencies are averaged over 2 x 2 pixels, again and again, and divided: the finest
    mean that has seen something visible gives a hidden pixel its colour (Gortler et al. 1996, push and pull).
    """
    own = (alpha / VISIBLE).clamp(0, 1)
    return own * rgb + (1 - own) * _fill(rgb * alpha, alpha)


def _fill(premultiplied: Tensor, alpha: Tensor) -> Tensor:
    """Colours everywhere from premultiplied ones; 0 where nothing is visible at all."""
    colours = premultiplied / alpha.clamp_min(1e-6)
    h, w = alpha.shape[-2:]
    if h == w == 1 or bool((alpha >= VISIBLE).all()):
        return colours
    coarser = _fill(*(F.avg_pool2d(_even(x), 2) for x in (premultiplied, alpha)))
    smooth = F.interpolate(coarser, scale_factor=2.0, mode="bilinear", align_corners=False)[..., :h, :w]
    own = (alpha / VISIBLE).clamp(0, 1)
    return torch.lerp(smooth, colours, own)


def _even(x: Tensor) -> Tensor:
    """Sides made even by repeating the last row and column."""
    return F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2), mode="replicate")

"""Differentiable augmentation (Zhao et al. 2020, arXiv:2006.10738): the same kinds of change for real and drawn.

(B, 3, H, W) -> the same shape. The discriminator never sees an unchanged picture, so it cannot learn a small training
set by heart; gradients pass through to the generator. Not for large data: the paper's samplers train without.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

POLICIES = ("color", "translation", "cutout")
SHIFT = 0.125  # largest translation, as a share of the side
HOLE = 0.5  # side of the cut-out square, as a share of the side


def augment(x: Tensor, policies: tuple[str, ...], generator: torch.Generator, *, share: float = 1.0) -> Tensor:
    """Apply `policies` (names of POLICIES) in order, with random numbers from a CPU generator. Each policy changes a
    picture with the probability `share`."""
    for policy in policies:
        numbers = torch.rand(4, x.shape[0], generator=generator).to(x.device)
        changed = {"color": _color, "translation": _translation, "cutout": _cutout}[policy](x, numbers)
        if share < 1:
            kept = torch.rand(x.shape[0], generator=generator).to(x.device) >= share
            changed = torch.where(kept.view(-1, 1, 1, 1), x, changed)
        x = changed
    return x


def _color(x: Tensor, numbers: Tensor) -> Tensor:
    """Brightness by -0.5 to 0.5 of a unit range, saturation by 0 to 2, contrast by 0.5 to 1.5."""
    brightness, saturation, contrast = (n.view(-1, 1, 1, 1) for n in numbers[:3])
    x = x + (brightness - 0.5)
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * (2 * saturation)
    level = x.mean((1, 2, 3), keepdim=True)
    out: Tensor = level + (x - level) * (contrast + 0.5)
    return out


def _translation(x: Tensor, numbers: Tensor) -> Tensor:
    """A shift by up to an eighth of the side, zeros coming in."""
    b, _, h, w = x.shape
    reach_y, reach_x = int(h * SHIFT + 0.5), int(w * SHIFT + 0.5)
    dy = (numbers[0] * (2 * reach_y + 1)).long()
    dx = (numbers[1] * (2 * reach_x + 1)).long()
    rows = dy.view(-1, 1, 1) + torch.arange(h, device=x.device).view(1, -1, 1)
    columns = dx.view(-1, 1, 1) + torch.arange(w, device=x.device).view(1, 1, -1)
    padded = F.pad(x, (reach_x, reach_x, reach_y, reach_y))
    picture = torch.arange(b, device=x.device).view(-1, 1, 1)
    return padded.permute(0, 2, 3, 1)[picture, rows, columns].permute(0, 3, 1, 2)


def _cutout(x: Tensor, numbers: Tensor) -> Tensor:
    """A square of half the side set to 0, its centre anywhere."""
    h, w = x.shape[-2:]
    half_y, half_x = int(h * HOLE / 2 + 0.5), int(w * HOLE / 2 + 0.5)
    cy, cx = (numbers[0] * h).long().view(-1, 1, 1), (numbers[1] * w).long().view(-1, 1, 1)
    rows = torch.arange(h, device=x.device).view(1, -1, 1)
    columns = torch.arange(w, device=x.device).view(1, 1, -1)
    hole = ((rows - cy).abs() < half_y) & ((columns - cx).abs() < half_x)
    return x * (~hole)[:, None]

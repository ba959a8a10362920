"""Losses of the decoders, all means over batch, colours and pixels (paper section 3.3, equation 9; spec 3.5)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.errors import UsageError
from nsbgan_infer.training.processes import global_mean

PixelLoss = Literal["l1", "charbonnier", "mse"]
CHARBONNIER_EPSILON = 1e-3
LATTICE_WINDOW = 8


def pixel_loss(decoded: Tensor, picture: Tensor, name: PixelLoss = "l1") -> Tensor:
    """The distance of two pictures (B, 3, H, W) as a scalar: |d|, sqrt(d^2 + 1e-6) or d^2, averaged."""
    difference = decoded - picture
    if name == "l1":
        return difference.abs().mean()
    if name == "charbonnier":
        return torch.sqrt(difference.square() + CHARBONNIER_EPSILON**2).mean()
    if name == "mse":
        return difference.square().mean()
    raise UsageError(f"Unknown pixel loss '{name}': use {', '.join(get_args(PixelLoss))}.")


def lattice_loss(decoded: Tensor, picture: Tensor, scale: int) -> Tensor:
    """How far the decoded picture repeats a pattern of period `scale` that the picture lacks, a scalar.

    The difference is averaged, for each of the scale * scale places in a cell of the low band, over 8 x 8 cells every
    4; then the mean absolute value. Features of a network with strides reward such a pattern where texture is missing.
    """
    cells = F.pixel_unshuffle(decoded - picture, scale)  # (B, 3 * scale^2, H / scale, W / scale)
    return F.avg_pool2d(cells, LATTICE_WINDOW, LATTICE_WINDOW // 2).abs().mean()


def generator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The relativistic average loss of a generator; logits (B, 1), no gradient flows into `real`.

    1/2 [ BCE(D(y) - mean D(y'), 0) + BCE(D(y') - mean D(y), 1) ] with y' the decoded pictures. The means run over all
    processes (Jolicoeur-Martineau 2018).
    """
    real = real.detach()
    return 0.5 * (_bce(real - global_mean(fake), 0.0) + _bce(fake - global_mean(real), 1.0))


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The relativistic average loss of a discriminator: 1/2 [ BCE(D(y) - mean D(y'), 1) + BCE(D(y') - mean D(y), 0) ].

    No gradient flows through the means (as the authors ran it).
    """
    from_fake, from_real = global_mean(fake.detach()), global_mean(real.detach())
    return 0.5 * (_bce(real - from_fake, 1.0) + _bce(fake - from_real, 0.0))


def _bce(logits: Tensor, label: float) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, torch.full_like(logits, label))

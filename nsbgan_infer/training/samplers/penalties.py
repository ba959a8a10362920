"""Gradient penalties of a discriminator: R1, R2 (zero-centred) and that of WGAN-GP (centred at a norm).

All look at the gradient of C(x), the discriminator's raw output, with respect to a picture, per picture over all of its
numbers. A discriminator of several heads counts as their sum, each the mean over its places.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

Discriminator = Callable[[Tensor], list[Tensor]]


def score(logits: list[Tensor]) -> Tensor:
    """C(x) of each picture, (B,), from the logits (B, ...) of all heads."""
    return torch.stack([x.reshape(len(x), -1).mean(1) for x in logits]).sum(0)


def squared_slope(logits: list[Tensor], pictures: Tensor) -> Tensor:
    """|grad C(x)|^2 of each picture, (B,), to be differentiated once more.

    R1 = g/2 of its mean over real pictures, R2 = g/2 of its mean over drawn ones (Mescheder et al. 2018, eq. 9 and 10;
    Huang et al. 2024, section 3).

    `logits` were computed from `pictures`, a leaf that requires its gradient, no picture touching another's.
    """
    (slope,) = torch.autograd.grad(score(logits).sum(), pictures, create_graph=True)
    return slope.square().flatten(1).sum(1)


def one_centred(
    discriminator: Discriminator, real: Tensor, drawn: Tensor, mix: Tensor, *, target: float = 1.0
) -> Tensor:
    """E (|grad C(x)| - target)^2 / target^2 at points x between real and drawn pictures (Gulrajani et al. 2017, eq. 3;
    with another target than 1 Karras et al. 2018, appendix D).

    `mix` (B,) in [0, 1] says how far towards the drawn picture each point lies.
    """
    between = torch.lerp(real, drawn, mix.view(-1, 1, 1, 1).to(real)).detach().requires_grad_()
    norm = (squared_slope(discriminator(between), between) + 1e-12).sqrt()  # smooth at 0
    return ((norm - target) / target).square().mean()


def differentiable_twice(needed: bool) -> AbstractContextManager[None]:
    """Where `needed`, attention is computed plainly: the fused kernels have no second derivative."""
    return sdpa_kernel(SDPBackend.MATH) if needed else nullcontext()

"""Adversarial losses of the samplers, one row each: what the discriminator minimises, and what the generator does.

C(x) is the discriminator's raw output. A discriminator may hold several heads; their logits (B, ...) come as a list,
and the losses of all are summed. Means run over the batch, and in the relativistic average over the batches of all
processes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.training.processes import global_mean

LossName = Literal["hinge", "rpgan", "ragan-sgan", "ragan-hinge", "ragan-ls", "lsgan", "wgan-gp"]
Pair = Callable[[Tensor, Tensor], Tensor]  # logits of real and of drawn pictures -> a scalar


@dataclass(frozen=True)
class Loss:
    """One row. `generator` of a loss that is not `relativistic` looks at its second argument alone."""

    discriminator: Pair
    generator: Pair
    relativistic: bool
    source: str


def non_saturating(margin: Tensor) -> Tensor:
    """f(t) = log(1 + exp(-t)): -log of the sigmoid of t (Goodfellow et al. 2014)."""
    return F.softplus(-margin)


def hinge(margin: Tensor) -> Tensor:
    """f(t) = max(0, 1 - t) (Lim & Ye 2017)."""
    return F.relu(1 - margin)


def least_squares(margin: Tensor) -> Tensor:
    """f(t) = (t - 1)^2 (Mao et al. 2017)."""
    return (margin - 1).square()


def _pairing(f: Callable[[Tensor], Tensor], source: str) -> Loss:
    """D: E f(C(xr) - C(xf)); G: E f(C(xf) - C(xr)), over pairs of a real and a drawn picture."""
    return Loss(lambda r, d: f(r - d).mean(), lambda r, d: f(d - r).mean(), True, source)


def _average(f: Callable[[Tensor], Tensor], source: str) -> Loss:
    """D: E f(C(xr) - E C(xf)) + E f(-(C(xf) - E C(xr))); G: the same with xr and xf exchanged."""

    def above(upper: Tensor, lower: Tensor) -> Tensor:
        return f(upper - global_mean(lower)).mean() + f(-(lower - global_mean(upper))).mean()

    return Loss(above, lambda r, d: above(d, r), True, source)


LOSSES: dict[LossName, Loss] = {
    "hinge": Loss(
        lambda r, d: hinge(r).mean() + hinge(-d).mean(),
        lambda _, d: -d.mean(),
        False,
        "Lim & Ye 2017; BigGAN, and the paper's section C.1",
    ),
    "rpgan": _pairing(non_saturating, "Jolicoeur-Martineau 2018, RpGAN; Huang et al. 2024, eq. 2"),
    "ragan-sgan": _average(non_saturating, "Jolicoeur-Martineau 2018, RaSGAN"),
    "ragan-hinge": _average(hinge, "Jolicoeur-Martineau 2018, RaHingeGAN"),
    "ragan-ls": _average(least_squares, "Jolicoeur-Martineau 2018, RaLSGAN: targets 1 and -1"),
    "lsgan": Loss(
        lambda r, d: 0.5 * least_squares(r).mean() + 0.5 * d.square().mean(),
        lambda _, d: 0.5 * least_squares(d).mean(),
        False,
        "Mao et al. 2017, eq. 9: targets 1 and 0",
    ),
    "wgan-gp": Loss(
        lambda r, d: d.mean() - r.mean(),
        lambda _, d: -d.mean(),
        False,
        "Gulrajani et al. 2017, eq. 3, without its penalty (`penalties.one_centred`)",
    ),
}


def discriminator_loss(name: LossName, real: list[Tensor], drawn: list[Tensor]) -> Tensor:
    """What the discriminator minimises: a scalar. Logits of one head have one shape for real and drawn pictures."""
    return torch.stack([LOSSES[name].discriminator(r, d) for r, d in zip(real, drawn, strict=True)]).sum()


def generator_loss(name: LossName, real: list[Tensor] | None, drawn: list[Tensor]) -> Tensor:
    """What the generator minimises: a scalar. `real` is needed by the relativistic losses alone."""
    loss = LOSSES[name]
    if real is None:
        assert not loss.relativistic, f"{name} compares with real pictures"
        real = drawn
    return torch.stack([loss.generator(r, d) for r, d in zip(real, drawn, strict=True)]).sum()

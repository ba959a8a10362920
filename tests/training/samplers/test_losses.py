"""The adversarial losses against plain loops, and over two processes against one."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import run_ranks
from hypothesis import given, settings
from hypothesis import strategies as st

from nsbgan_infer.cli.train import LOSSES as OFFERED
from nsbgan_infer.training.samplers.losses import LOSSES, LossName, discriminator_loss, generator_loss

F: dict[str, Callable[[float], float]] = {
    "sgan": lambda t: math.log1p(math.exp(-t)),
    "hinge": lambda t: max(0.0, 1.0 - t),
    "ls": lambda t: (t - 1.0) ** 2,
}


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def slow(name: str, real: list[float], drawn: list[float]) -> tuple[float, float]:
    """What discriminator and generator minimise, by the table of formulas, number by number."""
    if name == "hinge":
        f = F["hinge"]
        return mean([f(r) for r in real]) + mean([f(-d) for d in drawn]), -mean(drawn)
    if name == "rpgan":
        f = F["sgan"]
        pairs = list(zip(real, drawn, strict=True))
        return mean([f(r - d) for r, d in pairs]), mean([f(d - r) for r, d in pairs])
    if name == "lsgan":
        discriminator = 0.5 * mean([(r - 1) ** 2 for r in real]) + 0.5 * mean([d**2 for d in drawn])
        return discriminator, 0.5 * mean([(d - 1) ** 2 for d in drawn])
    if name == "wgan-gp":
        return mean(drawn) - mean(real), -mean(drawn)
    f = F[name.removeprefix("ragan-")]
    of_real, of_drawn = mean(real), mean(drawn)
    discriminator = mean([f(r - of_drawn) for r in real]) + mean([f(-(d - of_real)) for d in drawn])
    return discriminator, mean([f(d - of_real) for d in drawn]) + mean([f(-(r - of_drawn)) for r in real])


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=20)
@given(logits=st.lists(st.tuples(st.floats(-20, 20), st.floats(-20, 20)), min_size=1, max_size=6))
def test_every_loss_is_its_formula(name: LossName, logits: list[tuple[float, float]]) -> None:
    real, drawn = ([float(x) for x in column] for column in zip(*logits, strict=True))
    r, d = torch.tensor(real, dtype=torch.float64), torch.tensor(drawn, dtype=torch.float64)
    found = float(discriminator_loss(name, [r], [d])), float(generator_loss(name, [r], [d]))
    np.testing.assert_allclose(found, slow(name, real, drawn), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", LOSSES)
def test_heads_are_summed_and_pull_apart(name: LossName) -> None:
    torch.manual_seed(0)
    real, drawn = ((0.25 + 0.5 * torch.rand(5, 2)).requires_grad_() for _ in range(2))  # between all targets
    one, two = (discriminator_loss(name, [x], [y]) for x, y in ((real[:, 0], drawn[:, 0]), (real[:, 1], drawn[:, 1])))
    both = discriminator_loss(name, [real[:, 0], real[:, 1]], [drawn[:, 0], drawn[:, 1]])
    torch.testing.assert_close(both, one + two)
    up, down = torch.autograd.grad(both, (real, drawn))
    assert up.sum() < 0 < down.sum()  # downhill: C rises on real pictures and falls on drawn ones
    (pulled,) = torch.autograd.grad(generator_loss(name, [real.detach()], [drawn]), drawn)
    assert pulled.sum() < 0


def test_the_command_offers_every_loss() -> None:
    """The list stands in the command because `--help` must not import torch."""
    assert tuple(LOSSES) == OFFERED
    assert all(len(loss.source) > 10 for loss in LOSSES.values())


PROCESS = """
import os, sys, torch, torch.distributed as dist
from nsbgan_infer.training.samplers.losses import LOSSES, discriminator_loss, generator_loss
dist.init_process_group("gloo")
rank = dist.get_rank()
real, drawn = torch.load(sys.argv[1])
found = {}
for name in LOSSES:
    for what, loss in (("d", discriminator_loss), ("g", generator_loss)):
        scale = torch.ones((), requires_grad=True)  # a weight that both processes hold
        value = loss(name, [scale * real[4 * rank : 4 * rank + 4]], [scale**2 * drawn[4 * rank : 4 * rank + 4]])
        (slope,) = torch.autograd.grad(value, scale)
        both = torch.stack((value.detach(), slope))
        dist.all_reduce(both)  # as a run does with gradients
        found[name + what] = both / 2
if rank == 0:
    torch.save(found, sys.argv[2])
dist.destroy_process_group()
"""


def test_two_processes_have_the_loss_and_the_gradient_of_the_whole_batch(tmp_path: Path) -> None:
    torch.manual_seed(3)
    real, drawn = torch.randn(8) + 1, torch.randn(8)
    torch.save([real, drawn], tmp_path / "in.pt")
    run_ranks(PROCESS, str(tmp_path / "in.pt"), str(tmp_path / "out.pt"))
    found = torch.load(tmp_path / "out.pt", weights_only=True)
    for name in LOSSES:
        for what, loss in (("d", discriminator_loss), ("g", generator_loss)):
            scale = torch.ones((), requires_grad=True)
            value = loss(name, [scale * real], [scale**2 * drawn])
            (slope,) = torch.autograd.grad(value, scale)
            torch.testing.assert_close(found[name + what], torch.stack((value.detach(), slope)), msg=name + what)

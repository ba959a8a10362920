"""Gradient penalties against formulas worked out by hand, finite differences, and what they are for."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nsbgan_infer.samplers.r3gan import R3GANConfig
from nsbgan_infer.training.samplers.discriminators import ResNetDiscriminator
from nsbgan_infer.training.samplers.losses import discriminator_loss, generator_loss
from nsbgan_infer.training.samplers.penalties import differentiable_twice, one_centred, score, squared_slope
from nsbgan_infer.training.samplers.r3gan import R3GANDiscriminator


def test_the_slope_of_a_quadratic_is_that_of_the_formula() -> None:
    """C(x) = 1/2 x' A x has the gradient A x; d/da of |A x|^2 for A = a I is 2 a |x|^2."""
    torch.manual_seed(0)
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64, requires_grad=True)
    a = torch.tensor(1.7, dtype=torch.float64, requires_grad=True)
    found = squared_slope([(0.5 * a * x.flatten(1).square()).sum(1)], x)
    length = x.detach().flatten(1).square().sum(1)
    torch.testing.assert_close(found, a.detach() ** 2 * length)
    (slope,) = torch.autograd.grad(found.mean(), a)
    torch.testing.assert_close(slope, 2 * a.detach() * length.mean())


def test_of_several_heads_the_sum_counts_each_by_its_mean() -> None:
    x = torch.ones(2, 1, 2, 2, requires_grad=True)
    logits = [3 * x.flatten(1).sum(1), (x * 8).squeeze(1)]  # (B,) and (B, 2, 2)
    torch.testing.assert_close(score(logits), torch.tensor([20.0, 20.0]))
    torch.testing.assert_close(squared_slope(logits, x).detach(), torch.tensor([100.0, 100.0]))  # 4 * (3 + 8/4)^2


def discriminators() -> dict[str, nn.Module]:
    torch.manual_seed(0)
    r3gan = R3GANDiscriminator(R3GANConfig((8,) * 5, (16,) * 5, (2,) * 5, (1,) * 5, num_classes=3, classes=(1, 2, 3)))
    for parameter in r3gan.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    found = {"r3gan": r3gan, **{f"deep={d}": ResNetDiscriminator(3, 4, deep=d, depth=1) for d in (False, True)}}
    for discriminator in found.values():
        for name, parameter in discriminator.named_parameters():
            if name.endswith("gamma"):
                parameter.data.fill_(0.7)  # attention takes part
    return {name: discriminator.double().eval() for name, discriminator in found.items()}


@pytest.mark.parametrize("name", ["r3gan", "deep=False", "deep=True"])
def test_penalties_of_the_discriminators_agree_with_finite_differences(name: str) -> None:
    discriminator = discriminators()[name]
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()
    labels = torch.tensor([0, 2])
    weight = next(p for p in discriminator.parameters() if p.dim() == 4)

    def penalty() -> Tensor:
        with differentiable_twice(True):
            return squared_slope(discriminator(x, labels), x).mean()

    (slope,) = torch.autograd.grad(penalty(), weight)
    way = torch.randn(weight.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    step, ends = 1e-9, []  # so small that hardly a leaky ReLU changes sides
    for sign in (1, -1):
        weight.data += sign * step * way
        ends.append(penalty().detach())
        weight.data -= sign * step * way
    torch.testing.assert_close((slope * way).sum(), (ends[0] - ends[1]) / (2 * step), rtol=1e-3, atol=1e-8)


def test_the_centred_penalty_looks_between_real_and_drawn() -> None:
    """C(x) = 1/2 |x|^2: the gradient at a point is the point, so its norm is known."""
    real, drawn = torch.zeros(2, 1, 1, 2), torch.tensor([[3.0, 4.0], [6.0, 8.0]]).view(2, 1, 1, 2)
    found = one_centred(
        lambda x: [0.5 * x.flatten(1).square().sum(1)], real, drawn, torch.tensor([1.0, 0.5]), target=2.0
    )
    assert float(found.detach()) == pytest.approx((5 - 2) ** 2 / 4)  # both points lie at (3, 4)


GRID = torch.cartesian_prod(torch.arange(-2.0, 3), torch.arange(-2.0, 3))  # 25 modes, at distance 1


class Toy:
    """A generator of the plane that begins with the identity on a square, so all modes are covered, and a discriminator
    that can be as steep as it likes. Plain gradient steps for the generator: steepness counts."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.added, self.network = self._network(2, 2), self._network(6, 1)
        self.g_optimiser = torch.optim.SGD(self.added.parameters(), 0.2)
        self.d_optimiser = torch.optim.Adam(self.network.parameters(), 5e-3, (0.0, 0.99))

    @staticmethod
    def _network(inputs: int, outputs: int) -> nn.Sequential:
        act = nn.LeakyReLU(0.2)
        return nn.Sequential(nn.Linear(inputs, 64), act, nn.Linear(64, 64), act, nn.Linear(64, outputs))

    def draw(self, count: int) -> Tensor:
        z = 5 * torch.rand(count, 2) - 2.5
        drawn: Tensor = z + self.added(z)
        return drawn

    def discriminator(self, x: Tensor) -> Tensor:
        waves = 2 * torch.pi * x
        logits: Tensor = self.network(torch.cat((x, waves.sin(), waves.cos()), 1)).squeeze(1)
        return logits

    def train(self, weight: float, *, steps: int = 100, batch: int = 256) -> Toy:
        for _ in range(steps):
            for _ in range(2):
                real = GRID[torch.randint(25, (batch,))] + 0.05 * torch.randn(batch, 2)
                both = torch.cat((real, self.draw(batch).detach())).requires_grad_()
                logits = self.discriminator(both)
                value = discriminator_loss("rpgan", *([half] for half in logits.chunk(2)))
                if weight:
                    r1, r2 = squared_slope([logits], both).chunk(2)
                    value = value + weight / 2 * (r1.mean() + r2.mean())
                self.d_optimiser.zero_grad()
                value.backward()
                self.d_optimiser.step()
            logits = self.discriminator(torch.cat((real, self.draw(batch))))
            self.g_optimiser.zero_grad()
            generator_loss("rpgan", *([half] for half in logits.chunk(2))).backward()
            self.g_optimiser.step()
        return self

    @torch.no_grad()
    def modes(self) -> tuple[Tensor, float]:
        """How many of 2,500 samples lie in the cell of each mode, and the share that lies near one."""
        torch.manual_seed(1)
        distance, mode = torch.cdist(self.draw(2500), GRID).min(1)
        return torch.bincount(mode[distance < 0.5], minlength=25), float((distance < 0.2).float().mean())


def test_relativistic_pairing_keeps_all_25_modes_with_both_penalties_and_loses_most_without() -> None:
    _, before = Toy().modes()
    kept, near = Toy().train(0.1).modes()
    assert kept.min() >= 25, kept.tolist()  # a fair share is 100
    assert near > before + 0.01  # and it learns
    lost, _ = Toy().train(0.0).modes()
    assert (lost >= 25).sum() <= 18, lost.tolist()

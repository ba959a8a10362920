"""Trains ProGAN samplers (Karras et al. 2018, arXiv:1710.10196): both networks grow from 4 x 4, stage by stage.

A new stage is faded in before it stands alone. Where a run is in its growth depends on the step alone, so it resumes
inside a fade too. What is saved on the way is a sampler of the size that has been reached.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.errors import UsageError
from nsbgan_infer.samplers.progan import SLOPE, ProGAN, ProGANConfig, double, unit
from nsbgan_infer.training.loop import train
from nsbgan_infer.training.samplers.adversarial import AdversarialSettings, AdversarialTask, span_of
from nsbgan_infer.training.samplers.equalised import put_equalised_rate
from nsbgan_infer.training.samplers.lowbands import LowBandSet
from nsbgan_infer.training.samplers.spectral import plain_state

GROUP = 4  # pictures whose deviation is taken together


@dataclass(frozen=True)
class ProGANSettings(AdversarialSettings):
    """One run of ProGAN. `widths` are the channels at 4 x 4, 8 x 8, ... in both networks."""

    form: Literal["progan"] = "progan"
    widths: tuple[int, ...] = (512, 512, 512, 512, 256)
    z_dim: int = 512
    growth: float = 0.9
    """The share of the steps until the last stage stands alone. It is cut into phases: 4 x 4, then for each further
    size a fade and, but for the last, as long without one."""
    phase_ratio: float = 1.0
    """The steps of a size's phases in units of those of the size before. Below 1 the small sizes, which cost little
    time, are shown more."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.growth <= 1:
            raise UsageError("growth is a share in (0, 1].")
        if not 0.1 <= self.phase_ratio <= 10:
            raise UsageError("phase_ratio lies in [0.1, 10].")


@dataclass(frozen=True)
class Growth:
    """How far a run has grown: `stages` of the networks are in use, the last one faded in as far as `alpha`."""

    stages: int
    alpha: float


def growth_at(step: int, steps: int, stages: int, share: float, ratio: float = 1.0) -> Growth:
    """The growth at `step` of `steps`, with `stages` in the end and the last fade over after `share` of the run.

    >>> places = [growth_at(step, 80, 3, 0.5) for step in (0, 15, 25, 35, 79)]
    >>> [(growth.stages, growth.alpha) for growth in places]
    [(1, 1.0), (2, 0.5), (2, 1.0), (3, 0.5), (3, 1.0)]
    """
    # the first size, then fade, alone, fade, ..., fade
    phases = [(1 + (i + 1) // 2, i % 2 == 1) for i in range(2 * (stages - 1))]
    lengths = [ratio ** (stage - 1) for stage, _ in phases]
    place = sum(lengths) * step / (share * steps)
    for (stage, fading), length in zip(phases, lengths, strict=True):
        if place < length:
            return Growth(stage, place / length if fading else 1.0)
        place -= length
    return Growth(stages, 1.0)


def progan_config(settings: ProGANSettings, data: LowBandSet) -> ProGANConfig:
    """The sampler that `settings` describe for `data`, fully grown. Raises UsageError if they do not fit."""
    side = data.low.shape[-1]
    try:
        config = ProGANConfig(
            widths=settings.widths, z_dim=settings.z_dim, makes=data.encoder.makes, **span_of(settings, data)
        )
    except ValueError as error:
        raise UsageError(f"These settings describe no ProGAN: {error}.") from error
    if config.resolution != side:
        raise UsageError(
            f"{len(settings.widths)} widths lead to {config.resolution} x {config.resolution}, but {settings.data} "
            f"holds {side} x {side} low bands: give one width for each of 4, 8, ... {side} pixels."
        )
    return config


class ProGANTask(AdversarialTask):
    """ProGAN as a `loop.Task`."""

    settings: ProGANSettings
    growth = Growth(1, 1.0)

    def _configure(self) -> ProGANConfig:
        return progan_config(self.settings, self.data)

    def _build(self) -> tuple[ProGAN, ProGAN, ProGANDiscriminator]:
        sampler = ProGAN(self.config)
        put_equalised_rate(sampler, last=tuple(sampler.to_rgb))
        shadow = ProGAN(self.config).eval().requires_grad_(False)
        shadow.load_state_dict(plain_state(sampler))
        return sampler, shadow, ProGANDiscriminator(self.config)

    def step(self, step: int) -> Mapping[str, Tensor | float]:
        """As the base's, at the size of the step."""
        self.growth = self._growth(step)
        self.discriminator.growth = self.growth
        values = super().step(step)
        return {**values, "side": float(4 << (self.growth.stages - 1)), "alpha": self.growth.alpha}

    def _growth(self, step: int) -> Growth:
        settings = self.settings
        return growth_at(step, settings.loop.steps, len(settings.widths), settings.growth, settings.phase_ratio)

    def _sample(self, z: Tensor, weights: Tensor) -> Tensor:
        drawn: Tensor = self.sampler.draw(unit(z), weights, stages=self.growth.stages, alpha=self.growth.alpha)
        return drawn.float()

    def _discriminate(self, both: Tensor, labels: Tensor) -> list[Tensor]:
        """In two passes: the deviation is that of real or of drawn pictures alone."""
        halves = [self.discriminator(x, y)[0] for x, y in zip(both.chunk(2), labels.chunk(2), strict=True)]
        return [torch.cat(halves)]

    def _fitted(self, real: Tensor) -> Tensor:
        """At the present size, faded as the drawn ones are (the paper's section 3)."""
        for _ in range(len(self.settings.widths) - self.growth.stages):
            real = F.avg_pool2d(real, 2)
        if self.growth.alpha < 1:
            real = torch.lerp(double(F.avg_pool2d(real, 2)), real, self.growth.alpha)
        return real

    def _plain_state(self) -> Mapping[str, Tensor]:
        return plain_state(self.sampler)

    def _shipped(self, step: int) -> ProGAN:
        """The part that has been grown, as a sampler of its size."""
        return grown_part(self.shadow, self._growth(max(0, step - 1)))


def grown_part(sampler: ProGAN, growth: Growth) -> ProGAN:
    """The sampler that `sampler` is at a growth: only the stages in use."""
    part = ProGAN(replace(sampler.config, widths=sampler.config.widths[: growth.stages], alpha=growth.alpha))
    state = sampler.state_dict()
    part.load_state_dict({key: state[key] for key in part.state_dict()})
    return part.eval().requires_grad_(False)


class ProGANDiscriminator(nn.Module):
    """(B, 3, S, S) in [-1, 1], S the side at its `growth`, and class indices (B,) -> one list of logits (B,).

    Mirrors the generator: 3 x 3 twice and an average pool a stage; at 4 x 4 the deviation within groups of pictures is
    one more channel. Class by projection (Miyato & Koyama 2018).
    """

    def __init__(self, config: ProGANConfig) -> None:
        super().__init__()
        widths, top = config.widths, config.widths[0]
        self.growth = Growth(len(widths), 1.0)
        self.from_rgb = nn.ModuleList(nn.Conv2d(3, width, 1) for width in widths)
        self.stages = nn.ModuleList(
            nn.ModuleList((nn.Conv2d(b, b, 3, padding=1), nn.Conv2d(b, a, 3, padding=1))) for a, b in pairwise(widths)
        )
        self.last = nn.Conv2d(top + 1, top, 3, padding=1)
        self.dense = nn.Linear(top * 16, top)
        self.logit = nn.Linear(top, 1)
        self.embedding = nn.Linear(len(config.classes), top, bias=False)
        put_equalised_rate(self, last=(self.logit,))

    def forward(self, x: Tensor, labels: Tensor) -> list[Tensor]:
        """See the class."""
        stages, alpha = self.growth.stages, self.growth.alpha
        h = F.leaky_relu(self.from_rgb[stages - 1](x), SLOPE)
        for i in range(stages - 2, -1, -1):
            for conv in self.stages[i]:  # type: ignore[attr-defined]
                h = F.leaky_relu(conv(h), SLOPE)
            h = F.avg_pool2d(h, 2)
            if i == stages - 2 and alpha < 1:
                h = torch.lerp(F.leaky_relu(self.from_rgb[i](F.avg_pool2d(x, 2)), SLOPE), h, alpha)
        h = F.leaky_relu(self.last(with_deviation(h)), SLOPE)  # (B, top, 4, 4)
        h = F.leaky_relu(self.dense(h.flatten(1)), SLOPE)
        kind = self.embedding.weight.t()[labels]  # (B, top)
        return [(self.logit(h).squeeze(1) + (h * kind).sum(1)).float()]


def with_deviation(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C + 1, h, w): the deviation within groups of 4 pictures, as one more channel (section 3).

    Of each number within its group, averaged to one number a group. Picture i belongs to group i mod B/4; where B is no
    multiple of 4, all are one group.
    """
    b, c, h, w = x.shape
    size = GROUP if b % GROUP == 0 else b
    grouped = x.view(size, b // size, c, h, w).float()
    deviation = (grouped.var(0, unbiased=False) + 1e-8).sqrt().mean((1, 2, 3))  # (B / size,)
    extra = deviation.to(x.dtype).repeat(size).view(b, 1, 1, 1).expand(b, 1, h, w)
    return torch.cat((x, extra), 1)


def train_progan(settings: ProGANSettings) -> ProGAN:
    """Run, or resume, the training of a ProGAN; the sampler, also saved in the run folder. Raises as `train`."""
    return cast("ProGAN", train(ProGANTask, settings))

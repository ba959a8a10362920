"""Trains R3GAN samplers (Huang et al. 2024, arXiv:2501.05441): relativistic pairing with R1 and R2, and no other trick.

The discriminator mirrors the generator of `samplers.r3gan`: residual blocks of grouped convolutions without any
normalisation, each stage half the side of the one before. Both networks start as Zhang et al. 2019 (Fixup) have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.errors import UsageError
from nsbgan_infer.samplers.r3gan import R3GAN, SLOPE, Block, R3GANConfig
from nsbgan_infer.training.loop import train
from nsbgan_infer.training.samplers.adversarial import AdversarialSettings, AdversarialTask, span_of
from nsbgan_infer.training.samplers.lowbands import LowBandSet

GAIN = (2 / (1 + SLOPE**2)) ** 0.5  # keeps the variance over a leaky ReLU (He et al. 2015)
EXPANSION = 2  # channels inside a block, in units of those outside


@dataclass(frozen=True)
class R3GANSettings(AdversarialSettings):
    """One run of R3GAN. `widths` are the channels at 4 x 4, 8 x 8, ... in both networks."""

    form: Literal["r3gan"] = "r3gan"
    widths: tuple[int, ...] = (1536,) * 5
    depth: int = 2
    """Residual blocks of each stage."""
    group: int = 32
    """Channels of each group of the 3 x 3 convolutions."""
    z_dim: int = 64
    class_dim: int = 64


def r3gan_config(settings: R3GANSettings, data: LowBandSet) -> R3GANConfig:
    """The sampler that `settings` describe for `data`. Raises UsageError if they do not fit."""
    side, hidden = data.low.shape[-1], tuple(EXPANSION * w for w in settings.widths)
    if settings.group < 1 or any(h % settings.group for h in hidden):
        raise UsageError(f"Twice each of widths must be a multiple of group, {settings.group}.")
    try:
        config = R3GANConfig(
            widths=settings.widths,
            hidden=hidden,
            groups=tuple(h // settings.group for h in hidden),
            depths=(settings.depth,) * len(settings.widths),
            z_dim=settings.z_dim,
            class_dim=settings.class_dim,
            num_classes=len(data.classes),
            makes=data.encoder.makes,
            **span_of(settings, data),
        )
    except ValueError as error:
        raise UsageError(f"These settings describe no R3GAN: {error}.") from error
    if config.resolution != side:
        raise UsageError(
            f"{len(settings.widths)} widths lead to {config.resolution} x {config.resolution}, but {settings.data} "
            f"holds {side} x {side} low bands: give one width for each of 4, 8, ... {side} pixels."
        )
    return config


class R3GANTask(AdversarialTask):
    """R3GAN as a `loop.Task`."""

    settings: R3GANSettings

    def _configure(self) -> R3GANConfig:
        return r3gan_config(self.settings, self.data)

    def _build(self) -> tuple[R3GAN, R3GAN, nn.Module]:
        sampler = R3GAN(self.config)
        start_generator(sampler)
        shadow = R3GAN(self.config).eval().requires_grad_(False)
        shadow.load_state_dict(sampler.state_dict())
        return sampler, shadow, R3GANDiscriminator(self.config)

    def _sample(self, z: Tensor, weights: Tensor) -> Tensor:
        drawn: Tensor = self.sampler.draw(z, weights)
        return drawn.float()


class R3GANDiscriminator(nn.Module):
    """(B, 3, R, R) in [-1, 1] and class indices (B,) -> one list of logits (B,), by projection on the class alone."""

    def __init__(self, config: R3GANConfig) -> None:
        super().__init__()
        stages = list(zip(config.widths, config.hidden, config.groups, config.depths, strict=True))[::-1]
        top = config.widths[0]
        self.from_rgb = nn.Conv2d(3, stages[0][0], 1, bias=False)
        self.stages = nn.ModuleList(
            nn.ModuleList(Block(width, hidden, groups) for _ in range(depth)) for width, hidden, groups, depth in stages
        )
        self.mixes = nn.ModuleList(
            nn.Identity() if a[0] == b[0] else nn.Conv2d(a[0], b[0], 1, bias=False) for a, b in pairwise(stages)
        )
        self.basis = nn.Parameter(torch.empty(1, top, 4, 4))  # what is looked for at 4 x 4, mirroring the generator's
        self.last = nn.Linear(top, top, bias=False)
        self.embedding = nn.Embedding(config.num_classes, top)
        start_blocks(self)
        mixes = [m for m in self.mixes if isinstance(m, nn.Conv2d)]
        for layer in (self.from_rgb, self.last, *mixes):
            start_layer(layer, 1.0)  # type: ignore[arg-type]
        nn.init.normal_(self.basis, std=1 / 4)  # fan-in 16
        nn.init.normal_(self.embedding.weight, std=top**-0.5)

    def forward(self, x: Tensor, labels: Tensor) -> list[Tensor]:
        """See the class."""
        h = self.from_rgb(x)
        for i, stage in enumerate(self.stages):
            if i:
                h = self.mixes[i - 1](shrink(h))
            for block in stage:  # type: ignore[attr-defined]
                h = block(h)
        features = self.last((h * self.basis).sum((2, 3)))  # (B, top)
        return [(features * self.embedding(labels)).sum(1).float()]


def shrink(x: Tensor) -> Tensor:
    """(B, C, 2h, 2w) -> (B, C, h, w): the filter [1, 3, 3, 1] of gain 1 and stride 2, zeros beyond the border.

    As three averages over 2 x 2, which have fast second derivatives; the counterpart of `samplers.r3gan.enlarge`.
    """
    x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1)), 2, stride=1)
    return F.avg_pool2d(F.avg_pool2d(x, 2, stride=1), 2)


def start_generator(sampler: R3GAN) -> None:
    """Weights and biases as training starts: unit variance along the way, residual branches 0."""
    start_blocks(sampler)
    with torch.no_grad():
        sampler.basis.normal_()
        if sampler.config.num_classes:
            sampler.embedding.weight.normal_()  # a column for each class, as large as z
    mixes = [stage.mix for stage in sampler.stages if stage.mix is not None]
    for layer in (sampler.mix, sampler.to_rgb, *mixes):
        start_layer(layer, 1.0)  # type: ignore[arg-type]


def start_blocks(network: nn.Module) -> None:
    """Fixup: of each block the last convolution is 0, the others are scaled by L^(-1/4), with L blocks in all."""
    blocks = [m for m in network.modules() if isinstance(m, Block)]
    for block in blocks:
        for layer in (block.widen, block.conv):
            start_layer(layer, GAIN * len(blocks) ** -0.25)
            nn.init.zeros_(cast("Tensor", layer.bias))
        nn.init.zeros_(block.narrow.weight)


def start_layer(layer: nn.Conv2d | nn.Linear, gain: float) -> None:
    """Weights N(0, gain^2 / fan-in)."""
    nn.init.normal_(layer.weight, std=gain * layer.weight[0].numel() ** -0.5)


def train_r3gan(settings: R3GANSettings) -> R3GAN:
    """Run, or resume, the training of an R3GAN; the sampler, also saved in the run folder. Raises as `train`."""
    return cast("R3GAN", train(R3GANTask, settings))

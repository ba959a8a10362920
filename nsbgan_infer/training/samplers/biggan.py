"""Trains BigGAN and BigGAN-deep samplers (paper 3.3, C.1; spec 5.1), in the wavelet basis with min-max normalised low
bands or in the pixel basis. The lean form is trained in `lean.py`, R3GAN in `r3gan.py`, ProGAN in `progan.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn

from nsbgan_infer.errors import UsageError
from nsbgan_infer.samplers.learned import LearnedConfig, LearnedSampler
from nsbgan_infer.samplers.span import gain, normalised
from nsbgan_infer.training.loop import train
from nsbgan_infer.training.samplers.adversarial import AdversarialSettings, AdversarialTask, span_of
from nsbgan_infer.training.samplers.discriminators import ProjectedDiscriminator, ResNetDiscriminator
from nsbgan_infer.training.samplers.lowbands import LowBandSet
from nsbgan_infer.training.samplers.spectral import (
    largest_singular_value,
    orthogonal_init,
    orthogonal_penalty,
    plain_state,
    put_spectral_norm,
)


@dataclass(frozen=True)
class SamplerSettings(AdversarialSettings):
    """One run of a BigGAN.

    `channels` and `depth` size both networks. `orthogonal` weighs Brock et al.'s regularisation. `discriminator` biggan
    has the generator's form, projected stands on EfficientNet-Lite0.
    """

    form: Literal["biggan", "biggan-deep"] = "biggan-deep"
    channels: int = 128
    depth: int = 2
    z_dim: int = 128
    class_dim: int = 128
    orthogonal: float = 0.0
    discriminator: Literal["biggan", "projected"] = "biggan"


def sampler_config(settings: SamplerSettings, data: LowBandSet) -> LearnedConfig:
    """The sampler that `settings` describe for `data`. Raises UsageError if they do not fit."""
    side = data.low.shape[-1]
    if settings.discriminator == "projected" and side != 64:
        raise UsageError(f"{settings.data} holds {side} x {side} low bands; the projected discriminator wants 64 x 64.")
    try:
        return LearnedConfig(
            form=settings.form,
            resolution=side,
            z_dim=settings.z_dim,
            class_dim=settings.class_dim,
            channels=settings.channels,
            depth=settings.depth,
            **span_of(settings, data),
        )
    except ValueError as error:
        raise UsageError(f"{settings.data} ({side} x {side}) and these settings make no sampler: {error}.") from error


class SamplerTask(AdversarialTask):
    """A BigGAN as a `loop.Task`: spectral norm while it is trained, plain weights in the running mean."""

    settings: SamplerSettings
    sheet_truncation = 0.5

    def _configure(self) -> LearnedConfig:
        return sampler_config(self.settings, self.data)

    def _build(self) -> tuple[LearnedSampler, LearnedSampler, nn.Module]:
        sampler = LearnedSampler(self.config)
        orthogonal_init(sampler)
        shadow = LearnedSampler(self.config).eval().requires_grad_(False)
        shadow.load_state_dict(sampler.state_dict())
        put_spectral_norm(sampler)
        return sampler, shadow, make_discriminator(self.settings, self.config)

    def _sample(self, z: Tensor, weights: Tensor) -> Tensor:
        return normalised(self.sampler.draw(z, weights), self.config)

    def _plain_state(self) -> Mapping[str, Tensor]:
        return plain_state(self.sampler)

    def _generator_penalty(self) -> Tensor | None:
        if self.settings.orthogonal == 0:
            return None
        penalty = orthogonal_penalty(self.sampler.generator)
        self.logged["orthogonal"] = penalty.detach()
        return self.settings.orthogonal * penalty

    def step(self, step: int) -> Mapping[str, Tensor | float]:
        """As the base's, with the largest singular values."""
        values = super().step(step)
        sigmas = {
            "g_sigma": largest_singular_value(self.sampler),
            "d_sigma": largest_singular_value(self.discriminator),
        }
        return {**values, **sigmas}


def make_discriminator(settings: SamplerSettings, config: LearnedConfig) -> nn.Module:
    """The discriminator of `settings`."""
    if settings.discriminator == "projected":
        factor = config.scale / 2 / gain(config)
        offset = (config.scale / 2 - config.shift) / gain(config)
        return ProjectedDiscriminator(len(config.classes), factor=factor, offset=offset)
    deep = settings.form == "biggan-deep"
    return ResNetDiscriminator(
        len(config.classes), settings.channels, deep=deep, depth=settings.depth, resolution=config.resolution
    )


def train_sampler(settings: SamplerSettings) -> LearnedSampler:
    """Run, or resume, the adversarial training of `settings`; the sampler, also saved in the run folder.

    Raises as `train`.
    """
    return cast("LearnedSampler", train(SamplerTask, settings))

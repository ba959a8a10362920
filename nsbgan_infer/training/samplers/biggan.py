"""Trains samplers adversarially: BigGAN and BigGAN-deep (paper 3.3, C.1; spec 5.1), in the wavelet basis with min-max
normalised low bands or in the pixel basis. The lean form is trained in `lean.py`.

Real low bands (B, 3, R, R), R 64 for the paper's samplers, come from a set that `nsbgan data encode` made; its
encoder is the decoder's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.encoders import WaveletEncoder
from nsbgan_infer.errors import UsageError, unknown_name
from nsbgan_infer.latents import draw_latents
from nsbgan_infer.samplers.learned import LearnedConfig, LearnedSampler, normalised
from nsbgan_infer.storage.components import Component, load_component, save_component
from nsbgan_infer.training.loop import (
    LoopSettings,
    autocast,
    average_gradients,
    move_towards,
    step_generator,
    train,
)
from nsbgan_infer.training.samplers.augment import POLICIES, augment
from nsbgan_infer.training.samplers.discriminators import (
    ProjectedDiscriminator,
    ResNetDiscriminator,
    hinge_discriminator,
    hinge_generator,
)
from nsbgan_infer.training.samplers.lowbands import LowBandSet, open_lowbands
from nsbgan_infer.training.samplers.spectral import (
    largest_singular_value,
    orthogonal_init,
    orthogonal_penalty,
    plain_state,
    put_spectral_norm,
)
from nsbgan_infer.training.sheet import write_sheet

REAL_STREAM, DRAWN_STREAM, AUGMENT_STREAM = 11, 12, 13  # of `step_generator`; + 16 times the process
SHEET_ROWS = 8


@dataclass(frozen=True)
class SamplerSettings:
    """One adversarial run. `data` is a folder of `encode_lowbands`; its encoder decides the basis.

    `channels` and `depth` size both networks. A step draws `batch` pictures `accumulate` times for the generator and
    as often for each of `d_steps` updates of the discriminator: the effective batch is batch * accumulate over all
    processes. `ema` is the decay of the weights that are saved, from step `ema_start` on. `orthogonal` weighs Brock et
    al.'s regularisation. `augment` names policies of `augment.POLICIES`. `discriminator` biggan has the generator's
    form, projected stands on EfficientNet-Lite0.
    """

    loop: LoopSettings
    data: str
    form: Literal["biggan", "biggan-deep"] = "biggan-deep"
    name: str = "learned"
    licence: str = "none"
    channels: int = 128
    depth: int = 2
    z_dim: int = 128
    class_dim: int = 128
    batch: int = 256
    accumulate: int = 2
    d_steps: int = 1
    g_lr: float = 1e-4
    d_lr: float = 4e-4
    betas: tuple[float, float] = (0.0, 0.999)
    adam_eps: float = 1e-6
    ema: float = 0.9999
    ema_start: int = 20_000
    orthogonal: float = 0.0
    discriminator: Literal["biggan", "projected"] = "biggan"
    augment: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if min(self.batch, self.accumulate, self.d_steps) < 1 or self.batch < 2:
            raise UsageError("A batch has at least 2 pictures; accumulate and d_steps are at least 1.")
        if not 0 <= self.ema < 1 or min(self.g_lr, self.d_lr) <= 0:
            raise UsageError("ema is a decay in [0, 1), and learning rates are above 0.")
        for policy in self.augment:
            if policy not in POLICIES:
                raise unknown_name("augmentation", policy, POLICIES)


def sampler_config(settings: SamplerSettings, data: LowBandSet) -> LearnedConfig:
    """The sampler that `settings` describe for `data`. Raises UsageError if they do not fit."""
    shift, scale = data.shift_and_scale()
    side = data.low.shape[-1]
    if settings.discriminator == "projected" and side != 64:
        raise UsageError(f"{settings.data} holds {side} x {side} low bands; the projected discriminator wants 64 x 64.")
    try:
        return LearnedConfig(
            classes=data.classes,
            form=settings.form,
            basis=data.encoder.basis,
            resolution=side,
            levels=data.encoder.levels,
            z_dim=settings.z_dim,
            class_dim=settings.class_dim,
            channels=settings.channels,
            depth=settings.depth,
            shift=shift,
            scale=scale,
            name=settings.name,
            licence=settings.licence,
        )
    except ValueError as error:
        raise UsageError(f"{settings.data} ({side} x {side}) and these settings make no sampler: {error}.") from error


class SamplerTask:
    """Hinge GAN as a `loop.Task`."""

    def __init__(self, settings: SamplerSettings, accelerator: Any) -> None:
        self.settings, self.accelerator = settings, accelerator
        self.data = open_lowbands(Path(settings.data))
        self.config = sampler_config(settings, self.data)
        if settings.batch % accelerator.num_processes:
            raise UsageError(f"A batch of {settings.batch} does not divide into {accelerator.num_processes} processes.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.loop.seed)
            self.sampler = LearnedSampler(self.config)
            orthogonal_init(self.sampler)
            self.shadow = LearnedSampler(self.config).eval().requires_grad_(False)
            self.shadow.load_state_dict(self.sampler.state_dict())
            put_spectral_norm(self.sampler)
            self.judge = make_judge(settings, self.config)
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            self.sampler = nn.SyncBatchNorm.convert_sync_batchnorm(self.sampler)  # type: ignore[no-untyped-call]
        for part in (self.sampler, self.shadow, self.judge):
            part.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.g_optimiser = torch.optim.Adam(
            self.sampler.parameters(), lr=settings.g_lr, betas=settings.betas, eps=settings.adam_eps
        )
        self.trained = [p for p in self.judge.parameters() if p.requires_grad]
        self.d_optimiser = torch.optim.Adam(self.trained, lr=settings.d_lr, betas=settings.betas, eps=settings.adam_eps)
        self.offset = accelerator.process_index * 16

    def step(self, step: int) -> Mapping[str, Tensor | float]:
        """`d_steps` updates of the discriminator, one of the generator, then the running mean."""
        settings = self.settings
        d_loss = torch.zeros((), device=self.accelerator.device)
        for i in range(settings.d_steps):
            d_loss = self._judge_update(step * settings.d_steps + i)
        g_loss, penalty = self._sampler_update(step)
        self._average(step)
        return {
            "d_loss": d_loss,
            "g_loss": g_loss,
            "orthogonal": penalty,
            "g_sigma": largest_singular_value(self.sampler),
            "d_sigma": largest_singular_value(self.judge),
        }

    def _judge_update(self, index: int) -> Tensor:
        settings, device = self.settings, self.accelerator.device
        self._train(self.trained, True)
        self.d_optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=device)
        for part in range(settings.accumulate):
            at = index * settings.accumulate + part
            real, labels = self._real(at)
            with autocast(device, settings.loop.precision):
                with torch.no_grad():
                    drawn, drawn_labels = self._draw(at, DRAWN_STREAM)
                shown = self._augmented(torch.cat((real, drawn)), at)
                # one pass over both: spectral norm iterates once, and there is no batch norm to mix them
                logits = self.judge(shown, torch.cat((labels, drawn_labels)))
            pairs = [x.chunk(2) for x in logits]
            loss = hinge_discriminator([r for r, _ in pairs], [d for _, d in pairs])
            self.accelerator.backward(loss / settings.accumulate)
            total += loss.detach() / settings.accumulate
        average_gradients(self.trained, self.accelerator)
        self.d_optimiser.step()
        return total

    def _sampler_update(self, step: int) -> tuple[Tensor, Tensor]:
        settings, device = self.settings, self.accelerator.device
        self._train(self.trained, False)
        self.g_optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=device)
        for part in range(settings.accumulate):
            at = step * settings.accumulate + part
            with autocast(device, settings.loop.precision):
                drawn, labels = self._draw(at, DRAWN_STREAM + 1)
                logits = self.judge(self._augmented(drawn, -1 - at), labels)
            loss = hinge_generator(logits)
            self.accelerator.backward(loss / settings.accumulate)
            total += loss.detach() / settings.accumulate
        penalty = torch.zeros((), device=device)
        if settings.orthogonal > 0:
            penalty = orthogonal_penalty(self.sampler.generator)
            self.accelerator.backward(settings.orthogonal * penalty)
        average_gradients(self.sampler.parameters(), self.accelerator)
        self.g_optimiser.step()
        return total, penalty.detach()

    def _real(self, index: int) -> tuple[Tensor, Tensor]:
        """Normalised real low bands of this process and their labels."""
        generator = step_generator(self.settings.loop.seed, index, REAL_STREAM + self.offset)
        count = self.settings.batch // self.accelerator.num_processes
        rows = torch.randint(len(self.data), (count,), generator=generator)
        flips = torch.randint(self.data.flips, (count,), generator=generator)
        low = normalised(self.data.batch(rows, flips), self.config).to(self.accelerator.device)
        return low.contiguous(memory_format=torch.channels_last), self.data.labels[rows].to(low.device)

    def _draw(self, index: int, stream: int) -> tuple[Tensor, Tensor]:
        """Normalised drawn low bands and their labels, drawn as often as the data has them."""
        generator = step_generator(self.settings.loop.seed, index, stream + self.offset)
        count = self.settings.batch // self.accelerator.num_processes
        labels = self.data.labels[torch.randint(len(self.data), (count,), generator=generator)]
        z = torch.randn(count, self.config.z_dim, generator=generator).to(self.accelerator.device)
        labels = labels.to(z.device)
        low = self.sampler.draw(z, F.one_hot(labels, len(self.config.classes)).to(z.dtype))
        return normalised(low, self.config), labels

    def _augmented(self, x: Tensor, index: int) -> Tensor:
        generator = step_generator(self.settings.loop.seed, index, AUGMENT_STREAM + self.offset)
        return augment(x, self.settings.augment, generator)

    def _average(self, step: int) -> None:
        decay = self.settings.ema if step >= self.settings.ema_start else 0.0
        move_towards(self.shadow.state_dict(), plain_state(self.sampler), decay)

    @staticmethod
    def _train(parameters: list[nn.Parameter], on: bool) -> None:
        for parameter in parameters:
            parameter.requires_grad_(on)

    @property
    def tracked(self) -> Mapping[str, Any]:
        """Both networks, both optimisers, the running mean."""
        return {
            "sampler": self.sampler,
            "judge": self.judge,
            "shadow": self.shadow,
            "g_optimiser": self.g_optimiser,
            "d_optimiser": self.d_optimiser,
        }

    def save(self, folder: Path, step: int, sheet: bool) -> None:
        """The sampler as it would ship now, and a sheet of eight classes."""
        save_component(self.shadow, folder)
        if sheet:
            write_classes(load_component(folder), folder, step)


def make_judge(settings: SamplerSettings, config: LearnedConfig) -> nn.Module:
    """The discriminator of `settings`."""
    if settings.discriminator == "projected":
        level = 2.0**config.levels if config.basis == "wavelet" else 1.0
        factor, offset = config.scale / 2 / level, (config.scale / 2 - config.shift) / level
        return ProjectedDiscriminator(len(config.classes), factor=factor, offset=offset)
    deep = settings.form == "biggan-deep"
    return ResNetDiscriminator(
        len(config.classes), settings.channels, deep=deep, depth=settings.depth, resolution=config.resolution
    )


@torch.no_grad()
def write_classes(network: Component, folder: Path, step: int, *, truncation: float = 0.5) -> None:
    """The sheet of `step`: eight seeds of each of the first eight classes, low bands enlarged to pictures."""
    config: LearnedConfig = network.config
    classes = config.classes[:SHEET_ROWS]
    latents = draw_latents(
        [s for _ in classes for s in range(SHEET_ROWS)],
        [c for c in classes for _ in range(SHEET_ROWS)],
        z_dim=config.z_dim,
        truncation=truncation,
        mode="std",
    )
    picture = network(latents)
    if config.basis == "wavelet":
        picture = WaveletEncoder(1).enlarge(picture)
    write_sheet(list(picture.unflatten(0, (len(classes), SHEET_ROWS))), folder, step)


def train_sampler(settings: SamplerSettings) -> LearnedSampler:
    """Run, or resume, the adversarial training of `settings`; the sampler, also saved in the run folder.

    Raises as `train`.
    """
    return cast("LearnedSampler", train(SamplerTask, settings))

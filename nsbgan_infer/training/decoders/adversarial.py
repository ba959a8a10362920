"""Trains decoders: the adversarial stage, which makes `esrgan-w`, `esrgan-p` and `subband-w-sharp` from the decoders of
the L1 stage (paper section 3.3, equation 9, C.2; spec 3.4 to 3.6).

Decoder: 1e-2 L1 + 1.0 perceptual + 5e-3 relativistic average GAN; the discriminator learns in every step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.errors import CheckpointError, UsageError
from nsbgan_infer.storage.components import Component, load_component, save_component
from nsbgan_infer.training.decoders.discriminators import VggDiscriminator
from nsbgan_infer.training.decoders.l1 import (
    DecoderSettings,
    make_network,
    open_pairs,
    save_decoder,
    write_pairs,
)
from nsbgan_infer.training.decoders.losses import discriminator_loss, generator_loss, lattice_loss, pixel_loss
from nsbgan_infer.training.decoders.perceptual import PerceptualName, make_perceptual
from nsbgan_infer.training.loop import Ema, autocast, take_step, train
from nsbgan_infer.training.optimisers import make_optimiser, set_rate


@dataclass(frozen=True)
class AdversarialSettings:
    """One run of the adversarial stage.

    `decoder` is a run of the L1 stage in every other respect: data, crop, batch, Adam, schedule; its `start` holds the
    weights to begin with. Then the weights of the three losses, the perceptual distance (`perceptual_file`: VGG-19's
    weights) and the discriminator's `width`, 64 as published. `lattice_weight` is that of `losses.lattice_loss`, and
    `shift` moves the window that the perceptual distance sees by 0 to `shift` - 1 pixels, another place each step;
    the paper has neither (0).
    """

    decoder: DecoderSettings
    pixel_weight: float = 1e-2
    perceptual_weight: float = 1.0
    adversarial_weight: float = 5e-3
    perceptual: PerceptualName = "lite1"
    perceptual_file: str = ""
    width: int = 64
    lattice_weight: float = 0.0
    shift: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.shift <= 2 * self.decoder.crop:
            raise UsageError(f"shift {self.shift} leaves too little of a window: use 0 to {2 * self.decoder.crop}.")
        if not self.decoder.start:
            raise UsageError("The adversarial stage begins with a decoder of the L1 stage: give its folder (start).")

    @property
    def loop(self) -> Any:
        """The loop's settings, where `run_loop` looks for them."""
        return self.decoder.loop


class AdversarialTask:
    """The adversarial stage as a `loop.Task`."""

    def __init__(self, settings: AdversarialSettings, accelerator: Any) -> None:
        self.settings, self.accelerator = settings, accelerator
        inner = settings.decoder
        self.network = make_network(inner)
        decoder = cast(Decoder, self.network)
        size = inner.crop * decoder.info.scale
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(inner.loop.seed)
            self.judge: nn.Module = VggDiscriminator(size, width=settings.width)
        self.distance = make_perceptual(settings.perceptual, settings.perceptual_file)
        self.pairs = open_pairs(inner, decoder, accelerator)
        self.next_pair = self.pairs.feed(accelerator.device, inner.workers)
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            self.judge = nn.SyncBatchNorm.convert_sync_batchnorm(self.judge)  # type: ignore[no-untyped-call]
        for part in (self.network, self.judge, self.distance):
            part.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = make_optimiser(self.network, inner.optimiser, lr=inner.lr, betas=inner.betas)
        self.judge_optimiser = make_optimiser(self.judge, "adam", lr=inner.lr, betas=inner.betas)
        self.ema = Ema(self.network, inner.ema) if inner.ema else None

    def step(self, step: int) -> Mapping[str, Tensor | float]:
        """One update of the decoder, then one of the discriminator, on the batch of `step`."""
        inner, device = self.settings.decoder, self.accelerator.device
        rate = inner.schedule.rate(inner.lr, step, inner.loop.steps)
        set_rate(self.optimiser, rate)
        set_rate(self.judge_optimiser, rate)
        low_band, picture = self.next_pair(step)
        with autocast(device, inner.loop.precision):
            decoded = self.network(low_band).float()
            values = self._decoder_update(decoded, picture, step)
            values |= self._judge_update(decoded.detach(), picture)
        if self.ema:
            self.ema.update(self.network)
        return {**values, "lr": rate}

    def _decoder_update(self, decoded: Tensor, picture: Tensor, step: int) -> dict[str, Tensor | float]:
        settings = self.settings
        self.judge.requires_grad_(False)
        with torch.no_grad():
            real = self.judge(picture).float()
        l1 = pixel_loss(decoded, picture, settings.decoder.pixel_loss)
        perceptual = self.distance(*moved(settings.shift, step, decoded, picture))
        adversarial = generator_loss(real, self.judge(decoded).float())
        loss = (
            settings.pixel_weight * l1
            + settings.perceptual_weight * perceptual
            + settings.adversarial_weight * adversarial
        )
        values: dict[str, Tensor | float] = {"l1": l1, "perceptual": perceptual, "adversarial": adversarial}
        if settings.lattice_weight:
            values["lattice"] = lattice_loss(decoded, picture, cast(Decoder, self.network).info.scale)
            loss = loss + settings.lattice_weight * values["lattice"]
        take_step(self.network, self.optimiser, loss, self.accelerator)
        self.judge.requires_grad_(True)
        return {"loss": loss, **values}

    def _judge_update(self, decoded: Tensor, picture: Tensor) -> dict[str, Tensor | float]:
        real, fake = self.judge(picture).float(), self.judge(decoded).float()
        loss = discriminator_loss(real, fake)
        take_step(self.judge, self.judge_optimiser, loss, self.accelerator)
        return {"judge": loss, "real": real.mean(), "fake": fake.mean()}

    @property
    def tracked(self) -> Mapping[str, Any]:
        """Both networks and optimisers, and the running mean."""
        return {
            "network": self.network,
            "judge": self.judge,
            "optimiser": self.optimiser,
            "judge_optimiser": self.judge_optimiser,
            "ema": self.ema,
        }

    def save(self, folder: Path, step: int, sheet: bool) -> None:
        """The decoder as it would ship now, and a sheet of low band, decoded picture and truth."""
        save_decoder(self.network, self.ema, folder)
        if sheet:
            write_pairs(load_component(folder), self.pairs, folder, step)


def moved(shift: int, step: int, *pictures: Tensor) -> list[Tensor]:
    """The same window of each picture (B, 3, S, S) -> (B, 3, S - shift, S - shift), at a place that `step` decides."""
    if not shift:
        return list(pictures)
    side = pictures[0].shape[-1] - shift
    top, left = step // shift % shift, step % shift
    return [p[..., top : top + side, left : left + side] for p in pictures]


def train_adversarial(settings: AdversarialSettings) -> Component:
    """Run, or resume, the adversarial stage; the decoder, also saved in the run folder. Raises as `train`."""
    return train(AdversarialTask, settings)


def interpolate_weights(a: Path, b: Path, alpha: float, out: Path) -> Component:
    """The decoder with weights (1 - alpha) * a + alpha * b, saved to `out` (Wang et al. 2018, ESRGAN, section 3.4).

    `a` is usually an L1 decoder, `b` the adversarial one made from it; the result bears b's name. Raises
    UsageError for an alpha outside [0, 1], CheckpointError for decoders that differ in architecture.
    """
    if not 0 <= alpha <= 1:
        raise UsageError(f"alpha {alpha:g} is out of range: use 0 (the first) to 1 (the second).")
    first, second = load_component(a, kind="decoder"), load_component(b, kind="decoder")
    have, want = first.state_dict(), second.state_dict()
    if first.arch != second.arch or {k: v.shape for k, v in have.items()} != {k: v.shape for k, v in want.items()}:
        raise CheckpointError(
            f"{a.name} and {b.name} are decoders of different shape: look at both with `nsbgan inspect`."
        )
    second.load_state_dict({k: torch.lerp(have[k], want[k], alpha) for k in want})
    save_component(second, out)
    return second

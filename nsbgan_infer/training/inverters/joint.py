"""Trains a sampler and its inverter together (BigBiGAN: Donahue & Simonyan 2019, arXiv:1907.02544; spec-seeds 4).

One discriminator sees pairs: real low bands with the z that the inverter E finds in them, and drawn ones with the z
that the sampler G drew them from. It has three parts, F on samples, H on z and J on both, and a score for each:
s_x = a.F, s_z = b.H, s_xz = c.J. With y = +1 for (x, E(x)) and -1 for (G(z), z) it minimises the sum of
max(0, 1 - y s) over the scores, E and G minimise y (s_x + s_z + s_xz). E finds a mean and a deviation; what is saved
gives the mean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from nsbgan_infer.errors import UsageError, unknown_name
from nsbgan_infer.inverters.conv_inverter import ConvInverter, ConvInverterConfig
from nsbgan_infer.reductions import OF_BASIS
from nsbgan_infer.samplers.learned import LearnedConfig, LearnedSampler
from nsbgan_infer.samplers.span import normalised
from nsbgan_infer.storage.components import save_component, weights_sha256
from nsbgan_infer.training.loop import Ema, LoopSettings, step_generator, take_step, train
from nsbgan_infer.training.overrides import apply_overrides
from nsbgan_infer.training.samplers.lowbands import LowBandSet, open_lowbands
from nsbgan_infer.training.sheet import write_sheet

SAMPLER = "sampler"  # the folder within the run's that holds the sampler
STREAM = 41  # of `step_generator`; 16 apart for each process
SHEET_PICTURES = 8


@dataclass(frozen=True)
class JointSettings:
    """One run. Raises UsageError for values that cannot be."""

    loop: LoopSettings
    data: str
    """A folder of `nsbgan data encode`."""
    name: str = "joint"
    licence: str = "none"
    z_dim: int = 120
    class_dim: int = 64
    channels: int = 32
    """Of the sampler, a BigGAN-deep of depth 1."""
    width: int = 256
    """Of the discriminator's three parts."""
    hidden: int = 160
    """Of the inverter."""
    batch: int = 32
    d_steps: int = 2
    lr: float = 2e-4
    """Of sampler and discriminator."""
    inverter_times: float = 10.0
    """The inverter's rate is so many times that (BigBiGAN, section 3)."""
    betas: tuple[float, float] = (0.0, 0.999)
    ema: float = 0.999

    def __post_init__(self) -> None:
        if min(self.batch, self.d_steps, self.z_dim, self.width, self.hidden) < 1 or self.batch < 2:
            raise UsageError("d_steps, z_dim, width and hidden are at least 1, batch at least 2.")
        if min(self.lr, self.inverter_times) <= 0 or not 0 <= self.ema < 1:
            raise UsageError("lr and inverter_times are above 0, ema in [0, 1).")


PRESETS: dict[str, dict[str, Any]] = {
    "small": {"steps": 20_000},
    "tiny": {"steps": 20, "channels": 8, "class_dim": 8, "z_dim": 8, "width": 16, "hidden": 16, "batch": 4, "ema": 0.5},
}


def joint_settings(preset: str, *, data: str, out: Path, overrides: Mapping[str, Any] | None = None) -> JointSettings:
    """The settings of a preset with `overrides` laid over them. Raises UsageError or UnknownNameError."""
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    row = dict(PRESETS[preset])
    loop = LoopSettings(out=out, steps=row.pop("steps"))
    return apply_overrides(JointSettings(loop, data, name=out.name, **row), overrides or {})


class PairDiscriminator(nn.Module):
    """Three scores of a sample in [-1, 1] (B, 3, S, S), its z (B, z_dim) and its class (B,): (B, 3)."""

    def __init__(self, resolution: int, z_dim: int, classes: int, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before, side = 3, resolution
        while side > 4:
            after = min(width, 32 * resolution // side)
            layers += [spectral_norm(nn.Conv2d(before, after, 4, 2, 1)), nn.LeakyReLU(0.2)]
            before, side = after, side // 2
        self.f = nn.Sequential(*layers, nn.Flatten(), spectral_norm(nn.Linear(before * 16, width)), nn.LeakyReLU(0.2))
        self.h = _mlp(z_dim, width)
        self.j = _mlp(2 * width, width)
        self.a, self.b, self.c = (spectral_norm(nn.Linear(width, 1)) for _ in range(3))
        self.embed = spectral_norm(nn.Embedding(classes, width))

    def forward(self, sample: Tensor, z: Tensor, label: Tensor) -> Tensor:
        """s_x (with the class by projection: Miyato & Koyama 2018), s_z and s_xz."""
        f, h = self.f(sample), self.h(z)
        x = self.a(f) + (f * self.embed(label)).sum(1, keepdim=True)
        return torch.cat((x, self.b(h), self.c(self.j(torch.cat((f, h), 1)))), 1)


def _mlp(length: int, width: int) -> nn.Sequential:
    layers = [spectral_norm(nn.Linear(length, width)), nn.LeakyReLU(0.2), spectral_norm(nn.Linear(width, width))]
    return nn.Sequential(*layers, nn.LeakyReLU(0.2))


def hinge(scores: Tensor, y: float) -> Tensor:
    """The discriminator's loss: mean over pictures of the sum over scores of max(0, 1 - y s)."""
    return F.relu(1 - y * scores).sum(1).mean()


class JointTask:
    """The joint training as a `loop.Task`."""

    def __init__(self, settings: JointSettings, accelerator: Any) -> None:
        self.settings, self.accelerator = settings, accelerator
        self.data = open_lowbands(Path(settings.data))
        config = joint_sampler_config(settings, self.data)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.loop.seed)
            self.sampler = LearnedSampler(config).to(accelerator.device)
            self.inverter = ConvInverter(inverter_of(config, settings, 2 * config.z_dim)).to(accelerator.device)
            pairs = PairDiscriminator(config.resolution, config.z_dim, len(config.classes), settings.width)
            self.pairs = pairs.to(accelerator.device)
        lr, betas = settings.lr, settings.betas
        both = [
            {"params": list(self.sampler.parameters()), "lr": lr},
            {"params": list(self.inverter.parameters()), "lr": lr * settings.inverter_times},
        ]
        self.makers_optimiser = torch.optim.Adam(both, betas=betas)
        self.pairs_optimiser = torch.optim.Adam(self.pairs.parameters(), lr=lr, betas=betas)
        self.ema = {"sampler": Ema(self.sampler, settings.ema), "inverter": Ema(self.inverter, settings.ema)}

    def step(self, step: int) -> Mapping[str, Tensor | float]:
        """`d_steps` of the discriminator, then one of sampler and inverter."""
        for part in range(self.settings.d_steps):
            with torch.no_grad():
                real, drawn = self.scored(step, part)
            loss = hinge(self.pairs(*real), 1.0) + hinge(self.pairs(*drawn), -1.0)
            take_step(self.pairs, self.pairs_optimiser, loss, self.accelerator)
        self.pairs.requires_grad_(False)
        real, drawn = self.scored(step, self.settings.d_steps)
        made = self.pairs(*real).sum(1).mean() - self.pairs(*drawn).sum(1).mean()
        take_step(nn.ModuleList((self.sampler, self.inverter)), self.makers_optimiser, made, self.accelerator)
        self.pairs.requires_grad_(True)
        for name, network in (("sampler", self.sampler), ("inverter", self.inverter)):
            self.ema[name].update(network)
        return {"pairs": loss, "makers_optimiser": made}

    def scored(self, step: int, part: int) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]:
        """(x, E(x), class) of real low bands and (G(z), z, class) of drawn ones, the samples in [-1, 1]."""
        config, count, device = self.sampler.config, self.settings.batch, self.accelerator.device
        stream = STREAM + 16 * self.accelerator.process_index + part
        generator = step_generator(self.settings.loop.seed, step, stream)
        rows = torch.randint(len(self.data), (count,), generator=generator)
        flips = torch.randint(self.data.flips, (count,), generator=generator)
        low, label = self.data.batch(rows, flips).to(device), self.data.labels[rows].to(device)
        z = torch.randn(count, config.z_dim, generator=generator).to(device)
        noise = torch.randn(count, config.z_dim, generator=generator).to(device)
        mean, deviation = self.inverter(low, self.class_table(label)).chunk(2, 1)
        found = mean + F.softplus(deviation) * noise
        drawn = self.sampler.draw(z, F.one_hot(label, len(config.classes)).float())
        return (normalised(low, config), found, label), (normalised(drawn, config), z, label)

    def class_table(self, label: Tensor) -> Tensor:
        """Class weights (B, 1000) of places in the set's classes."""
        y = torch.zeros(len(label), 1000, device=label.device)
        y[torch.arange(len(label)), torch.tensor(self.sampler.config.classes, device=label.device)[label]] = 1
        return y

    @property
    def tracked(self) -> Mapping[str, Any]:
        """Networks, optimisers and running means."""
        return {
            "sampler": self.sampler,
            "inverter": self.inverter,
            "pairs": self.pairs,
            "makers_optimiser": self.makers_optimiser,
            "pairs_optimiser": self.pairs_optimiser,
            "ema": self.ema,
        }

    def save(self, folder: Path, step: int, sheet: bool) -> None:
        """The running means: the sampler in a folder of its own, and the inverter, which says whose it is."""
        sampler = LearnedSampler(self.sampler.config)
        sampler.load_state_dict(self.ema["sampler"].shadow)
        sampler.weights_file = save_component(sampler, folder / SAMPLER)
        length = sampler.config.z_dim
        config = inverter_of(sampler.config, self.settings, length, weights=weights_sha256(sampler) or "")
        inverter = ConvInverter(config)
        halves = ("last.weight", "last.bias", "layout.weight", "typical.weight")
        shadow = self.ema["inverter"].shadow
        inverter.load_state_dict({k: v[:length] if k in halves else v for k, v in shadow.items()})
        save_component(inverter, folder)
        if sheet:
            rows = torch.arange(min(SHEET_PICTURES, len(self.data)))
            low, y = self.data.batch(rows, torch.zeros_like(rows)), self.class_table(self.data.labels[rows])
            with torch.no_grad():
                again = sampler.draw(inverter(low, y), y[:, list(sampler.config.classes)])
            write_sheet((low, again), folder, step)


def joint_sampler_config(settings: JointSettings, data: LowBandSet) -> LearnedConfig:
    """The sampler that `settings` describe for `data`. Raises UsageError if they do not fit."""
    shift, scale = data.shift_and_scale()
    try:
        return LearnedConfig(
            classes=data.classes,
            form="biggan-deep",
            basis=data.encoder.basis,
            resolution=data.low.shape[-1],
            levels=data.encoder.levels,
            z_dim=settings.z_dim,
            class_dim=settings.class_dim,
            channels=settings.channels,
            depth=1,
            shift=shift,
            scale=scale,
            name=f"{settings.name}-sampler",
            licence=settings.licence,
        )
    except ValueError as error:
        raise UsageError(f"{settings.data} and these settings make no sampler: {error}.") from error


def inverter_of(
    sampler: LearnedConfig, settings: JointSettings, length: int, *, weights: str = ""
) -> ConvInverterConfig:
    """The inverter of a sampler: `length` is z_dim, or twice that with the deviations."""
    halvings = sampler.resolution.bit_length() - 3
    return ConvInverterConfig(
        sampler=sampler.name,
        weights=weights,
        basis=sampler.basis,
        makes=OF_BASIS[sampler.basis],
        resolution=sampler.resolution,
        length=length,
        classes=sampler.classes,
        widths=(32, 64, 128, *[160] * halvings)[:halvings],
        hidden=settings.hidden,
        name=settings.name,
        licence=settings.licence,
    )


def train_joint(settings: JointSettings) -> ConvInverter:
    """Run, or resume, the joint training; the inverter, saved in the run folder with the sampler in `sampler` beneath.

    Raises as `loop.train`.
    """
    return cast("ConvInverter", train(JointTask, settings))

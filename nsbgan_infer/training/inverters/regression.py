"""Trains an inverter for a frozen sampler, on pairs of a vector and the sample that it gives (spec-seeds 4).

The loss is the squared distance of the vectors and, now and then, the L1 distance of what the sampler draws from the
guess to the sample itself (Rubenstein et al. 2018, arXiv:1812.07909: pairs do as well as training both together).
Drawing costs ten times as much as learning, so drawn pairs are kept in a ring and learnt from several times.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from nsbgan_infer.errors import UsageError, unknown_name
from nsbgan_infer.inverters.conv_inverter import ConvInverter, ConvInverterConfig
from nsbgan_infer.latents import Latents, draw_latents
from nsbgan_infer.registry import load_sampler
from nsbgan_infer.samplers.vectors import vectors
from nsbgan_infer.storage.components import load_component, save_component, weights_sha256
from nsbgan_infer.training.inverters.start import solve_linear, start_linear
from nsbgan_infer.training.loop import Ema, LoopSettings, autocast, step_generator, take_step, train
from nsbgan_infer.training.optimisers import set_rate
from nsbgan_infer.training.overrides import apply_overrides
from nsbgan_infer.training.schedules import Schedule
from nsbgan_infer.training.sheet import write_sheet

DRAWN, CHOSEN = 31, 32  # streams of `step_generator`; 8 apart for each process
CHUNK = 32  # pairs drawn together at the start
SHEET_PICTURES = 8


@dataclass(frozen=True)
class InverterSettings:
    """One run. Raises UsageError for values that cannot be."""

    loop: LoopSettings
    sampler: str
    """The frozen sampler: a name, a folder or a file."""
    name: str = "inverter"
    licence: str = "none"
    widths: tuple[int, ...] = ()
    """Channels after each halving, down to 4 x 4 (none: 32, 64, 128, then 160)."""
    hidden: int = 160
    """Width of the layer behind the convolutions; 0: linear maps alone."""
    first: int = 512
    """Pairs drawn before the first step: the linear start comes from them (0: none)."""
    fresh: int = 8
    """Pairs drawn in a step."""
    kept: int = 2048
    """Pairs in the ring, the latest."""
    batch: int = 48
    """Pairs learnt from in a step."""
    least: float = 0.3
    """Truncations are drawn from here up to 1."""
    picture_every: int = 8
    """Every so many steps the sampler draws guesses, for the distance of the pictures (0: never)."""
    pictures: int = 8
    """So many of them."""
    picture_weight: float = 5.0
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.99)
    schedule: Schedule = field(default_factory=Schedule)
    ema: float = 0.99

    def __post_init__(self) -> None:
        if min(self.fresh, self.kept, self.batch, self.pictures) < 1 or self.picture_every < 0:
            raise UsageError("fresh, kept, batch and pictures are at least 1, picture_every at least 0.")
        if self.kept < max(self.fresh, self.first) or self.pictures > self.batch or self.first < 0:
            raise UsageError("kept is at least fresh and first, and pictures at most batch.")
        if not 0 < self.least <= 1 or not 0 <= self.ema < 1 or self.lr <= 0:
            raise UsageError("least is above 0 and at most 1, ema in [0, 1), lr above 0.")


# preset -> (setting -> value); what a CPU of one machine does in a quarter of an hour, and a first try
PRESETS: dict[str, dict[str, Any]] = {
    "small": {"steps": 2000},
    "tiny": {"steps": 50, "first": 32, "fresh": 4, "kept": 64, "batch": 8, "pictures": 4, "hidden": 16},
}


def inverter_settings(
    preset: str, *, sampler: str, out: Path, overrides: Mapping[str, Any] | None = None
) -> InverterSettings:
    """The settings of a preset with `overrides` laid over them. Raises UsageError or UnknownNameError."""
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    row = dict(PRESETS[preset])
    loop = LoopSettings(out=out, steps=row.pop("steps"))
    return apply_overrides(InverterSettings(loop, sampler, name=out.name, **row), overrides or {})


class InverterTask:
    """The training as a `loop.Task`."""

    def __init__(self, settings: InverterSettings, accelerator: Any) -> None:
        self.settings, self.accelerator = settings, accelerator
        device = accelerator.device
        self.sampler: Any = load_sampler(settings.sampler)
        config = inverter_config(settings, self.sampler)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.loop.seed)
            network = ConvInverter(config)
        self.network = network.to(device)
        if isinstance(self.sampler, torch.nn.Module):
            self.sampler.to(device)
        self.optimiser = torch.optim.Adam([{"params": list(self.network.parameters()), "scale": 1.0}], lr=settings.lr,
                                          betas=settings.betas)  # fmt: skip
        self.ema = Ema(self.network, settings.ema)
        side, count = config.resolution, settings.kept
        self.ring = {
            "sample": torch.zeros(count, 3, side, side, dtype=torch.float16, device=device),
            "vector": torch.zeros(count, config.length, device=device),
            "label": torch.zeros(count, dtype=torch.int64, device=device),
        }

    def step(self, step: int) -> Mapping[str, Tensor | float]:
        """Draw a few pairs, then learn from a batch of those kept."""
        settings, rank = self.settings, self.accelerator.process_index
        rate = settings.schedule.rate(settings.lr, step, settings.loop.steps)
        set_rate(self.optimiser, rate)
        if step == 0 and settings.first:
            self.begin()
        self.draw(step, settings.first + step * settings.fresh, settings.fresh)
        filled = min(settings.kept, settings.first + (step + 1) * settings.fresh)
        generator = step_generator(settings.loop.seed, step, CHOSEN + 8 * rank)
        rows = torch.randint(filled, (settings.batch,), generator=generator).to(self.accelerator.device)
        sample, vector = self.ring["sample"][rows].float(), self.ring["vector"][rows]
        latents = self.latents_of(self.ring["label"][rows])
        with autocast(self.accelerator.device, settings.loop.precision):
            guess = self.network(sample, latents.y).float()
        logged = {"vector": (guess - vector).square().mean()}
        loss = logged["vector"]
        if settings.picture_every and step % settings.picture_every == 0:
            some = slice(0, settings.pictures)
            again = vectors(self.sampler).draw_vector(guess[some], latents[some])
            loss = loss + settings.picture_weight * (again - sample[some]).abs().mean()
        take_step(self.network, self.optimiser, loss, self.accelerator)
        self.ema.update(self.network)
        if step + 1 == settings.loop.steps:
            self.finish()
        return {**logged, "lr": rate}

    def begin(self) -> None:
        """The first pairs, and the linear start from them; of several processes, each takes that of the first."""
        for start in range(0, self.settings.first, CHUNK):
            self.draw(-1 - start, start, min(CHUNK, self.settings.first - start))
        rows = slice(0, self.settings.first)
        y = self.latents_of(self.ring["label"][rows]).y
        start_linear(self.network, self.ring["sample"][rows], y, self.ring["vector"][rows])
        if self.accelerator.num_processes > 1:
            from accelerate.utils import broadcast

            for parameter in self.network.parameters():
                parameter.data.copy_(broadcast(parameter.data))

    def finish(self) -> None:
        """Solve the linear maps of the running mean again, from all pairs that are kept."""
        drawn = self.settings.first + self.settings.loop.steps * self.settings.fresh
        rows = slice(0, min(self.settings.kept, drawn))
        mean = ConvInverter(self.network.config).to(self.accelerator.device)
        mean.load_state_dict(self.ema.shadow)
        y = self.latents_of(self.ring["label"][rows]).y
        solve_linear(mean, self.ring["sample"][rows], y, self.ring["vector"][rows])
        for name, tensor in mean.state_dict().items():
            self.ema.shadow[name].copy_(tensor)

    @torch.no_grad()
    def draw(self, step: int, place: int, count: int) -> None:
        """`count` new pairs of `step` into the ring from `place` on, where the oldest lie."""
        settings, device = self.settings, self.accelerator.device
        info, network = self.sampler.info, self.network.config
        generator = step_generator(settings.loop.seed, step, DRAWN + 8 * self.accelerator.process_index)
        seeds = torch.randint(2**32, (count,), generator=generator).tolist()
        label = torch.randint(max(1, len(network.classes)), (count,), generator=generator)
        at = settings.least + (1 - settings.least) * float(torch.rand((), generator=generator))
        classes = [network.classes[i] for i in label.tolist()] if network.classes else [None] * count
        drawn = draw_latents(
            seeds, classes, z_dim=info.z_dim, truncation=at, mode=info.truncation_mode, truncates=info.truncates
        ).to(device)
        places = torch.arange(place, place + count, device=device) % settings.kept
        vector = vectors(self.sampler).vector_of(drawn)
        self.ring["sample"][places] = vectors(self.sampler).draw_vector(vector, drawn).half()
        self.ring["vector"][places] = vector.float()
        self.ring["label"][places] = label.to(device)

    def latents_of(self, label: Tensor) -> Latents:
        """Latents whose classes are those of `label` (B,); z is the network's to find."""
        info, classes = self.sampler.info, self.network.config.classes
        chosen = [classes[i] for i in label.tolist()] if classes else [None] * len(label)
        empty = draw_latents(
            [0] * len(label), chosen, z_dim=info.z_dim, truncation=info.truncation, mode=info.truncation_mode,
            truncates=info.truncates,
        )  # fmt: skip
        return empty.to(label.device)

    @property
    def tracked(self) -> Mapping[str, Any]:
        """Weights, optimiser, running mean and the pairs that are kept."""
        return {"network": self.network, "optimiser": self.optimiser, "ema": self.ema, "ring": self.ring}

    def save(self, folder: Path, step: int, sheet: bool) -> None:
        """The running mean as it would ship now, and a sheet: samples above, what the guesses give below."""
        shipped = ConvInverter(self.network.config)
        shipped.load_state_dict(self.ema.shadow)
        save_component(shipped, folder)
        if sheet:
            with torch.no_grad():
                rows = slice(0, SHEET_PICTURES)
                sample, latents = self.ring["sample"][rows].float(), self.latents_of(self.ring["label"][rows])
                network: Any = load_component(folder)
                guess = network.to(sample.device)(sample, latents.y)
                again = vectors(self.sampler).draw_vector(guess, latents)
            write_sheet((sample, again), folder, step)


def inverter_config(settings: InverterSettings, sampler: Any) -> ConvInverterConfig:
    """The network that `settings` describe for `sampler`. Raises UsageError if they do not fit."""
    info = sampler.info
    halvings = max(1, info.resolution.bit_length() - 3)
    widths = settings.widths or (32, 64, 128, *[160] * halvings)[:halvings]
    blank = draw_latents(
        [0], [info.classes[0] if info.classes else None], z_dim=info.z_dim, truncation=info.truncation,
        mode=info.truncation_mode, truncates=info.truncates,
    )  # fmt: skip
    try:
        return ConvInverterConfig(
            sampler=info.name,
            weights=weights_sha256(sampler) or "",
            basis=info.basis,
            makes=info.makes,
            resolution=info.resolution,
            length=vectors(sampler).vector_of(blank).shape[1],
            classes=info.classes or (),
            widths=widths,
            hidden=settings.hidden,
            name=settings.name,
            licence=settings.licence,
        )
    except ValueError as error:
        raise UsageError(f"These settings describe no inverter of {info.name}: {error}.") from error


def train_inverter(settings: InverterSettings) -> ConvInverter:
    """Run, or resume, the training of an inverter; it is also saved in the run folder. Raises as `loop.train`."""
    return cast("ConvInverter", train(InverterTask, settings))

"""Trains decoders: the L1 stage (paper section 3.3 and C.2; spec 3.5 and 3.6). The adversarial stage is in
`adversarial.py` and starts from what this one leaves.

Pictures (B, 3, S, S) in [0, 1] -> the reduction that the decoder reads -> low band (B, 3, S/4, S/4) -> decoder.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from nsbgan_infer.datasets import open_source
from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.degradations.world import degradation
from nsbgan_infer.encoders.reduce import make_reducer
from nsbgan_infer.errors import UsageError, unknown_name
from nsbgan_infer.storage.architectures import find_architecture, second_stages, trained_networks
from nsbgan_infer.storage.components import Component, build_component, load_component, save_component
from nsbgan_infer.training.decoders.losses import PixelLoss, pixel_loss
from nsbgan_infer.training.decoders.pairs import MARGIN, DegradedBatches, Pairs, ReducedBatches
from nsbgan_infer.training.decoders.start import start_from
from nsbgan_infer.training.decoders.windows import CropBatches, load_pictures
from nsbgan_infer.training.loop import Ema, LoopSettings, autocast, take_step, train
from nsbgan_infer.training.optimisers import OptimiserName, make_optimiser, set_rate
from nsbgan_infer.training.run_folder import name_of_run
from nsbgan_infer.training.schedules import Schedule
from nsbgan_infer.training.sheet import write_sheet

SHEET_PICTURES = 8

# name -> configuration of the network (`build_component`), as the architectures offer them
NETWORKS = {name: config for name, config in trained_networks().items() if name not in second_stages()}


@dataclass(frozen=True)
class DecoderSettings:
    """One run of the L1 stage.

    `arch` is a row of NETWORKS, `name` that of the decoder (default: the run folder's), `blocks` and `channels` (0:
    as in the row) make it narrower, `scale` (0: 4) is what it enlarges by where the architecture has a choice;
    `data` are folders, ZIPs or tar shards. `crop` is the side of the low-band window, `square` > 0 prepares
    pictures as central squares of that size. `turns` adds quarter turns and vertical mirrors to the flips, `shrink`
    < 1 windows made smaller by a random factor down to it (small sets of pictures go further). `start` continues
    from the weights of another run (not a resume: the schedule begins anew). `workers` processes cut the windows;
    0, a thread, keeps up with CPUs. `degrade` names what may happen to a window before it is enlarged (see
    `degradations`; none: it is only made smaller), one of them drawn for each, except for a share of `clean`
    windows.
    """

    loop: LoopSettings
    data: tuple[str, ...]
    arch: str = "subband-w"
    name: str = ""
    licence: str = "none"
    blocks: int = 0
    channels: int = 0
    scale: int = 0
    batch: int = 16
    crop: int = 24
    square: int = 0
    flip: bool = True
    turns: bool = False
    shrink: float = 1.0
    pixel_loss: PixelLoss = "l1"
    optimiser: OptimiserName = "adam"
    lr: float = 5e-4
    betas: tuple[float, float] = (0.9, 0.99)
    schedule: Schedule = field(default_factory=Schedule)
    ema: float = 0.0
    start: str = ""
    workers: int = 0
    degrade: tuple[str, ...] = ()
    clean: float = 0.0

    def __post_init__(self) -> None:
        if self.arch not in NETWORKS:
            raise unknown_name("decoder to train", self.arch, NETWORKS)
        for name in ("blocks", "channels", "scale"):
            if getattr(self, name) and name not in settings_of(self.arch):
                raise UsageError(
                    f"{self.arch} has no setting '{name}': it has {', '.join(sorted(settings_of(self.arch)))}."
                )
        if self.batch < 1 or self.crop < 8:
            raise UsageError("A batch has at least 1 window, and a low-band window at least 8 pixels a side.")
        if not 0 < self.shrink <= 1:
            raise UsageError("shrink is a factor in (0, 1]: the smallest by which a picture is made smaller.")
        if self.workers < 0:
            raise UsageError("workers is the number of processes that cut windows: 0 (a thread) or more.")
        if not 0 <= self.ema < 1 or self.lr <= 0:
            raise UsageError("ema is a decay in [0, 1) and lr a positive number.")
        for name in self.degrade:
            degradation(name)
        if not 0 <= self.clean <= 1:
            raise UsageError("clean is the share of windows that are only made smaller: a number from 0 to 1.")


def settings_of(arch: str) -> set[str]:
    """The fields of the configuration of a row of NETWORKS."""
    return {f.name for f in fields(find_architecture(NETWORKS[arch]["arch"]).Config)}


def make_network(settings: DecoderSettings) -> Component:
    """The network of `settings`, with initial weights drawn from the run's seed, or those of `start`."""
    config = dict(NETWORKS[settings.arch])
    config.update({k: v for k in ("licence", "blocks", "channels", "scale") if (v := getattr(settings, k))})
    config["name"] = name_of_run(settings.name, settings.loop.out)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.loop.seed)
        network = build_component(config)
    if settings.start:
        start_from(network, settings.start)
    return network


def open_batches(settings: DecoderSettings, size: int, accelerator: Any) -> CropBatches:
    """The training windows of this process; all pictures are decoded and checked here."""
    if settings.batch % accelerator.num_processes:
        raise UsageError(f"A batch of {settings.batch} does not divide into {accelerator.num_processes} processes.")
    pictures = load_pictures(
        open_source(settings.data), smallest=size, square=settings.square, quiet=settings.loop.quiet
    )
    return CropBatches(
        pictures,
        settings.batch,
        size,
        settings.loop.seed,
        flip=settings.flip,
        turns=settings.turns,
        shrink=settings.shrink,
        rank=accelerator.process_index,
        world=accelerator.num_processes,
    )


def open_pairs(settings: DecoderSettings, decoder: Decoder, accelerator: Any) -> Pairs:
    """The training pairs of this process; all pictures are decoded and checked here.

    Raises UsageError where windows are to be degraded for a decoder that does not read ordinary small pictures.
    """
    info = decoder.info
    reduce, size = make_reducer(info.reads, info.scale), settings.crop * info.scale
    if not settings.degrade:
        return ReducedBatches(open_batches(settings, size, accelerator), reduce)
    if info.reduction.anchor != "centre":
        raise UsageError(
            f"{info.name} reads a {info.reads} low band, and degraded pictures are ordinary ones: leave degrade empty, "
            "or train a decoder that reads bicubic reductions."
        )
    windows = open_batches(settings, size + MARGIN * info.scale, accelerator)
    return DegradedBatches(windows, info.scale, settings.degrade, settings.clean, reduce)


class DecoderTask:
    """The L1 stage as a `loop.Task`."""

    def __init__(self, settings: DecoderSettings, accelerator: Any) -> None:
        self.settings, self.accelerator = settings, accelerator
        self.network = make_network(settings)
        decoder = cast(Decoder, self.network)
        self.pairs = open_pairs(settings, decoder, accelerator)
        self.next_pair = self.pairs.feed(accelerator.device, settings.workers)
        self.network.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = make_optimiser(self.network, settings.optimiser, lr=settings.lr, betas=settings.betas)
        self.ema = Ema(self.network, settings.ema) if settings.ema else None

    def step(self, step: int) -> Mapping[str, Tensor | float]:
        """One update on the batch of `step`."""
        settings = self.settings
        rate = settings.schedule.rate(settings.lr, step, settings.loop.steps)
        set_rate(self.optimiser, rate)
        low_band, picture = self.next_pair(step)
        with autocast(self.accelerator.device, settings.loop.precision):
            decoded = self.network(low_band)
        loss = pixel_loss(decoded.float(), picture, settings.pixel_loss)
        take_step(self.network, self.optimiser, loss, self.accelerator)
        if self.ema:
            self.ema.update(self.network)
        return {"loss": loss, "lr": rate}

    @property
    def tracked(self) -> Mapping[str, Any]:
        """Weights, optimiser and running mean."""
        return {"network": self.network, "optimiser": self.optimiser, "ema": self.ema}

    def save(self, folder: Path, step: int, sheet: bool) -> None:
        """The decoder as it would ship now, and a sheet of low band, decoded picture and truth."""
        save_decoder(self.network, self.ema, folder)
        if sheet:
            write_pairs(load_component(folder), self.pairs, folder, step)


def save_decoder(network: Component, ema: Ema | None, folder: Path) -> None:
    """Write `network` to `folder`, with the running mean of its weights if there is one."""
    if ema is None:
        save_component(network, folder)
        return
    shipped = build_component({"arch": network.arch, **vars(network.config)})
    shipped.load_state_dict(ema.shadow)
    save_component(shipped, folder)


@torch.no_grad()
def write_pairs(network: Component, pairs: Pairs, folder: Path, step: int) -> None:
    """The sheet of `step`: enlarged low band, decoded picture and truth of eight windows, always the same ones."""
    first = [pairs(i) for i in range(-(-SHEET_PICTURES // pairs.batch))]
    low_band, picture = (torch.cat(parts)[:SHEET_PICTURES] for parts in zip(*first, strict=True))
    near = torch.nn.functional.interpolate(low_band, picture.shape[-2:], mode="nearest")
    write_sheet((near, network(low_band), picture), folder, step)


def train_decoder(settings: DecoderSettings) -> Component:
    """Run, or resume, the L1 stage of `settings`; the decoder, also saved in the run folder. Raises as `train`."""
    return train(DecoderTask, settings)

"""Trains the UNet decoders, one network at a time (paper appendix C.3, figure 30, tables 8 and 9; spec 4.5 and 4.6).

Pictures (B, 3, S, S) in [0, 1]. For `unet-w` each is cut into wavelet-packet patches: network 1 learns the patches of
the details of level 2 from those of the low band, network 2 those of level 1 from both. For `unet-p` each is shrunk
by the Gaussian encoder: network 1 learns the picture at half size from that at a quarter, network 2 the whole one
from that at half. The loss is the mean squared error, a mean over everything (spec section 8, row 19).

The two networks are independent: both can be trained at the same time. Network 2 then sees the truth where in use it
sees what network 1 made of it; given a trained network 1, `true_share` mixes both (spec section 8, row 20).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from nsbgan_infer.datasets import open_source
from nsbgan_infer.decoders.interpolate import make_iwt
from nsbgan_infer.decoders.unet_p import UNetP, UNetPConfig, double
from nsbgan_infer.decoders.unet_p import join_networks as join_p
from nsbgan_infer.decoders.unet_w import Patches, UNetW, UNetWConfig, compose, subdivide
from nsbgan_infer.decoders.unet_w import join_networks as join_w
from nsbgan_infer.encoders import PixelEncoder, WaveletEncoder
from nsbgan_infer.encoders.lifting import Boundary
from nsbgan_infer.errors import UsageError, unknown_name
from nsbgan_infer.storage.components import Component, load_component, save_component
from nsbgan_infer.training.decoders.batchnorm import freeze_cancelled_biases, with_global_batch_norm
from nsbgan_infer.training.decoders.losses import pixel_loss
from nsbgan_infer.training.decoders.windows import CropBatches, feed, load_pictures
from nsbgan_infer.training.loop import (
    LoopSettings,
    autocast,
    step_generator,
    take_step,
    train,
)
from nsbgan_infer.training.optimisers import make_optimiser, set_rate
from nsbgan_infer.training.run_folder import name_of_run
from nsbgan_infer.training.schedules import Schedule
from nsbgan_infer.training.sheet import write_sheet

UNetName = Literal["unet-w", "unet-p"]
MIX_STREAM = 11  # of `step_generator`
SHEET_PICTURES = 8
SCALE_WINDOWS = 64  # from which the scales of the patches are measured
SCALE = 4  # a window of the low band of `crop` samples is one of 4 * crop pixels, for all four networks


@dataclass(frozen=True)
class UNetSettings:
    """One run: network `level` (1 or 2) of `arch`.

    `data` are folders, ZIPs or tar shards; windows have 4 * `crop` pixels a side, `square` > 0 prepares pictures as
    central squares first. For level 2, `level1` is the folder or file of a trained network 1: with it the saved
    decoder holds both, and `true_share` is the share of the batch that sees the truth instead of its output.
    `even_scales` sets the fixed scales of `unet-w` (see `PatchUNet`) from the data and starts either UNet from zero
    details; without it the network is initialised as in the paper.
    """

    loop: LoopSettings
    data: tuple[str, ...]
    arch: UNetName = "unet-w"
    level: Literal[1, 2] = 1
    level1: str = ""
    true_share: float = 1.0
    name: str = ""
    licence: str = "none"
    width: int = 512
    boundary: Boundary = "symmetric"
    batch: int = 128
    crop: int = 64
    square: int = 0
    flip: bool = True
    even_scales: bool = False
    lr: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    schedule: Schedule = field(default_factory=lambda: Schedule("constant"))

    def __post_init__(self) -> None:
        if self.arch not in get_args(UNetName):
            raise unknown_name("UNet to train", self.arch, get_args(UNetName))
        if self.level not in (1, 2):
            raise UsageError(f"A UNet decoder has levels 1 and 2, not {self.level}.")
        multiple = 16 if self.arch == "unet-w" else 8
        if self.batch < 1 or self.crop < multiple or self.crop % multiple:
            raise UsageError(f"{self.arch} needs a batch of at least 1 and a crop that is a multiple of {multiple}.")
        if self.lr <= 0 or not 0 <= self.true_share <= 1:
            raise UsageError("lr is a positive number and true_share one from 0 to 1.")
        if self.level == 1 and self.level1:
            raise UsageError("level1 names a trained network 1 for the training of level 2: leave it out at level 1.")
        if self.level == 2 and self.true_share < 1 and not self.level1:
            raise UsageError(
                "Level 2 with predicted inputs (true_share under 1) needs a trained network 1: give its folder as "
                "level1, or set true_share to 1."
            )


def make_unet(settings: UNetSettings) -> UNetW | UNetP:
    """The network to train, alone in its component, with initial weights drawn from the run's seed."""
    name, networks = name_of_run(settings.name, settings.loop.out), (settings.level,)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.loop.seed)
        if settings.arch == "unet-w":
            return UNetW(UNetWConfig(name, settings.width, networks, settings.boundary, settings.licence))
        return UNetP(UNetPConfig(name, settings.width, networks, settings.licence))


class WaveletSide:
    """What is particular to `unet-w`: inputs and targets are patches."""

    def __init__(self, network: UNetW, first: UNetW | None) -> None:
        self.network, self.first, self.boundary = network, first, network.config.boundary
        self.encoder = WaveletEncoder(2, self.boundary)

    def loss(self, picture: Tensor, true: Tensor) -> Tensor:
        """The mean squared error over all patches; `true` (B,) says which rows of level 2 see true details."""
        patches = self._patches(picture)
        if self.network.network1 is not None:
            return pixel_loss(self.network.network1(patches.low).float(), patches.coarse, "mse")
        assert self.network.network2 is not None
        coarse = patches.coarse
        if self.first is not None and self.first.network1 is not None and not true.all():
            coarse = mixed(coarse, self.first.network1(patches.low), true)
        return pixel_loss(self.network.network2(torch.cat((patches.low, coarse), dim=1)).float(), patches.fine, "mse")

    def shipped(self) -> Component:
        """What is saved: with network 1 beside network 2 where there is one."""
        return self.network if self.first is None else join_w(self.first, self.network)

    def rows(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For a sheet: zero details, decoded, truth. Network 2 alone is shown with the true details of level 2."""
        shipped, low = self.shipped().eval(), self.encoder(picture)
        assert isinstance(shipped, UNetW)
        if shipped.network1 is not None:
            return make_iwt()(low), shipped(low), picture
        patches = self._patches(picture)
        assert shipped.network2 is not None
        fine = shipped.network2(torch.cat((patches.low, patches.coarse), dim=1))
        return make_iwt()(low), compose(low, patches.coarse, fine, self.boundary), picture

    def _patches(self, picture: Tensor) -> Patches:
        pyramid = self.encoder.pyramid(picture)
        return subdivide(pyramid.low, pyramid.details[1], pyramid.details[0], self.boundary)

    @torch.no_grad()
    def even_scales(self, picture: Tensor) -> None:
        """Set shift, divisor and gain of the network from the patches of `picture`, one value a patch."""
        low, coarse, fine = (torch.unflatten(p, 1, (-1, 3)) for p in self._patches(picture))  # (B, patches, 3, h, w)
        first = self.network.network1 is not None
        net = self.network.network1 or self.network.network2
        assert net is not None
        inputs, targets = (low, coarse) if first else (torch.cat((low, coarse), dim=1), fine)
        deviation, mean = torch.std_mean(inputs, dim=(0, 2, 3, 4))
        for buffer, value in (
            (net.shift, mean),
            (net.divisor, deviation.clamp(min=1e-3)),
            (net.gain, targets.square().mean(dim=(0, 2, 3, 4)).sqrt().clamp(min=1e-3)),
        ):
            buffer.copy_(value.repeat_interleave(3)[:, None, None])
        zero_conv(net.heads[-1])


class PixelSide:
    """What is particular to `unet-p`: inputs and targets are pictures of two sizes."""

    def __init__(self, network: UNetP, first: UNetP | None) -> None:
        self.network, self.first = network, first
        (self.level,) = network.config.networks

    def loss(self, picture: Tensor, true: Tensor) -> Tensor:
        """The mean squared error of the doubled picture; `true` (B,) says which rows of level 2 see a true input."""
        small, target = self._pair(picture)
        if self.first is not None and not true.all():
            small = mixed(small, double(self.first.networks["1"], PixelEncoder(2)(picture)), true)
        return pixel_loss(double(self.network.networks[str(self.level)], small).float(), target, "mse")

    def shipped(self) -> Component:
        """What is saved: with network 1 before network 2 where there is one."""
        return self.network if self.first is None else join_p(self.first, self.network)

    def rows(self, picture: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """For a sheet: enlarged, decoded, truth, all of the size that the saved decoder makes."""
        shipped = self.shipped().eval()
        assert isinstance(shipped, UNetP)
        small, target = self._pair(picture)
        if shipped.info.scale == SCALE:
            small = PixelEncoder(2)(picture)
        return make_iwt(shipped.info.scale)(small), shipped(small), target

    @torch.no_grad()
    def even_scales(self, _picture: Tensor) -> None:
        """Start from a zero residual; pictures need no other scales."""
        zero_conv(self.network.networks[str(self.level)].out)

    def _pair(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        half = PixelEncoder(1)(picture)
        return (PixelEncoder(2)(picture), half) if self.level == 1 else (half, picture)


class UNetTask:
    """One network of a UNet decoder as a `loop.Task`."""

    def __init__(self, settings: UNetSettings, accelerator: Any) -> None:
        if settings.batch % accelerator.num_processes:
            raise UsageError(f"A batch of {settings.batch} does not divide into {accelerator.num_processes} processes.")
        self.settings, self.accelerator = settings, accelerator
        self.network = make_unet(settings)
        first = load_level1(settings)
        size = settings.crop * SCALE
        pictures = load_pictures(
            open_source(settings.data), smallest=size, square=settings.square, quiet=settings.loop.quiet
        )
        rank, world = accelerator.process_index, accelerator.num_processes
        self.batches = CropBatches(
            pictures, settings.batch, size, settings.loop.seed, flip=settings.flip, rank=rank, world=world
        )
        self.next_batch = feed(self.batches, accelerator.device)
        freeze_cancelled_biases(self.network)
        if world > 1:
            with_global_batch_norm(self.network)
        for part in (self.network, first):
            if part is not None:
                part.to(accelerator.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.side: WaveletSide | PixelSide
        if isinstance(self.network, UNetW):
            self.side = WaveletSide(self.network, first)
        else:
            self.side = PixelSide(self.network, first)
        if settings.even_scales:
            sample = CropBatches(pictures, SCALE_WINDOWS, size, settings.loop.seed)(0)  # the same in every process
            self.side.even_scales(sample.to(accelerator.device))
        self.side.shipped()  # networks that cannot be joined are refused before step 0
        self.optimiser = make_optimiser(self.network, "adam", lr=settings.lr, betas=settings.betas)

    def step(self, step: int) -> Mapping[str, Tensor | float]:
        """One update on the batch of `step`."""
        settings, device = self.settings, self.accelerator.device
        rate = settings.schedule.rate(settings.lr, step, settings.loop.steps)
        set_rate(self.optimiser, rate)
        self.network.train()
        picture = self.next_batch(step)
        with autocast(device, settings.loop.precision):
            loss = self.side.loss(picture, self.true_rows(step).to(device))
        take_step(self.network, self.optimiser, loss, self.accelerator)
        return {"loss": loss, "lr": rate}

    def true_rows(self, step: int) -> Tensor:
        """(B,) bool: the rows of this process's share of the batch that see the truth at level 2."""
        draws = torch.rand(self.settings.batch, generator=step_generator(self.settings.loop.seed, step, MIX_STREAM))
        return (draws < self.settings.true_share)[self.accelerator.process_index :: self.accelerator.num_processes]

    @property
    def tracked(self) -> Mapping[str, Any]:
        """Weights, running statistics and optimiser."""
        return {"network": self.network, "optimiser": self.optimiser}

    @torch.no_grad()
    def save(self, folder: Path, step: int, sheet: bool) -> None:
        """The decoder as it would ship now, and a sheet of enlarged, decoded and true windows."""
        save_component(self.side.shipped(), folder)
        if not sheet:
            return
        count = -(-SHEET_PICTURES // self.batches.batch)
        picture = torch.cat([self.batches(i) for i in range(count)])[:SHEET_PICTURES].to(self.accelerator.device)
        self.network.eval()
        write_sheet(self.side.rows(picture), folder, step)


def zero_conv(layer: Any) -> None:
    """Set weights and bias of a convolution to zero."""
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)


@torch.no_grad()
def mixed(truth: Tensor, predicted: Tensor, true: Tensor) -> Tensor:
    """Rows of `truth` where `true` (B,), else of `predicted`; no gradient flows into either."""
    return torch.where(true[:, None, None, None], truth, predicted.to(truth.dtype))


def load_level1(settings: UNetSettings) -> Any:
    """The decoder with the trained network 1 that `settings` names, frozen, or None without a name.

    Raises CheckpointError if it cannot be loaded, UsageError if it is of another architecture.
    """
    if not settings.level1:
        return None
    first = load_component(Path(settings.level1), kind="decoder")
    if first.arch != settings.arch:
        raise UsageError(f"{settings.level1} holds a {first.arch}, not a {settings.arch}: give its level 1.")
    return first


def train_unet(settings: UNetSettings) -> Component:
    """Run, or resume, the training of one network; the decoder saved in the run folder. Raises as `train`."""
    return train(UNetTask, settings)

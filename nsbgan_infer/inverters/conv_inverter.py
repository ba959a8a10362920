"""Step 2 backwards by a small convolutional network: (B, 3, S, S) and class weights -> vectors (B, length).

Stride-2 convolutions down to 4 x 4 and two linear layers see what is in the sample; a linear map of the sample at
16 x 16 is added, since the layout of a picture is nearly linear in the vector. Small enough to ship with its sampler.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.classes import NUM_CLASSES
from nsbgan_infer.encoders.base import Basis
from nsbgan_infer.inverters.base import InverterInfo
from nsbgan_infer.reductions import REDUCTIONS
from nsbgan_infer.storage.architectures import Component, Graph, architecture

LAYOUT = 16  # side of the sample that the linear map sees


@dataclass(frozen=True)
class ConvInverterConfig:
    """What an inverter is, see `InverterInfo`. Raises ValueError for values that do not fit together.

    `widths` are the channels after each halving: as many as lead from `resolution` to 4. `hidden` is the width between
    the two linear layers behind them; 0 leaves convolutions and layers out. `classes` is empty for a sampler without
    classes.
    """

    sampler: str
    weights: str
    basis: Basis
    makes: str
    resolution: int
    length: int
    classes: tuple[int, ...] = ()
    widths: tuple[int, ...] = (32, 64, 128, 160)
    hidden: int = 160
    name: str = "inverter"
    licence: str = "unknown"

    def __post_init__(self) -> None:
        if self.resolution != 4 << len(self.widths):
            raise ValueError(f"{len(self.widths)} halvings do not lead from {self.resolution} to 4 pixels")
        if any(w < 8 or w % 8 for w in self.widths) or self.hidden < 0 or self.length < 1:
            raise ValueError("widths are multiples of 8, hidden at least 0 and length at least 1")
        if self.makes not in REDUCTIONS or REDUCTIONS[self.makes].basis != self.basis:
            raise ValueError(f"makes {self.makes!r} is no reduction of basis {self.basis}")
        if any(not 0 <= c < NUM_CLASSES for c in self.classes):
            raise ValueError("classes must be ImageNet ids")


@architecture
class ConvInverter(Component):
    """A convolutional inverter."""

    kind: ClassVar[str] = "inverter"
    arch: ClassVar[str] = "conv-inverter"
    Config = ConvInverterConfig
    tiny = ConvInverterConfig("tiny", "", "wavelet", "wavelet", 16, 4, (1, 207), (8, 8), 8)
    sentence = "Linear maps of the sample, and where that pays a small convolutional network beside them."

    def __init__(self, config: ConvInverterConfig) -> None:
        super().__init__(config)
        c = config
        if c.hidden:
            halvings: list[nn.Module] = []
            for a, b in pairwise((3, *c.widths)):
                halvings += [nn.Conv2d(a, b, 3, 2, 1), nn.GroupNorm(8, b), nn.SiLU()]
            self.body = nn.Sequential(*halvings)
            self.seen = nn.Linear(c.widths[-1] * 16, c.hidden)
            self.embed = nn.Linear(max(1, len(c.classes)), c.hidden)
            self.last = nn.Linear(c.hidden, c.length)
        self.layout = nn.Linear(3 * LAYOUT**2, c.length, bias=False)
        self.typical = nn.Linear(max(1, len(c.classes)), c.length, bias=False)

    @property
    def info(self) -> InverterInfo:
        """From the configuration."""
        c: ConvInverterConfig = self.config
        return InverterInfo(
            c.name, c.sampler, c.weights, c.basis, c.makes, c.resolution, c.classes or None, c.length, c.licence
        )

    def graph(self) -> Graph:
        """Both inputs as they are."""
        return Graph(self, ("sample", "y"), lambda given: given)

    def forward(self, sample: Tensor, y: Tensor) -> Tensor:
        """`sample` (B, 3, S, S) nominally [0, 1] and class weights `y` (B, 1000) -> (B, length)."""
        weights = self.class_weights(y)
        x = sample * 2 - 1
        layout = F.adaptive_avg_pool2d(x, LAYOUT).flatten(1)
        out: Tensor = self.layout(layout) + self.typical(weights)
        if self.config.hidden:
            out = out + self.last(F.silu(self.seen(self.body(x).flatten(1)) + self.embed(weights)))
        return out

    def class_weights(self, y: Tensor) -> Tensor:
        """The columns of `y` (B, 1000) that belong to its classes; one of ones where there are none."""
        classes = self.config.classes
        return y[:, list(classes)] if classes else torch.ones_like(y[:, :1])

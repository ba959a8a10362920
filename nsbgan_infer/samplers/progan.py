"""Step 2, ProGAN: z (B, z_dim), y (B, 1000)  ->  sample (B, 3, R, R), a low band or a small picture, nominally [0, 1],
unclamped.

The generator of Karras et al. 2018 (arXiv:1710.10196), which was grown from 4 x 4 to R x R: z brought to unit length
and, after it, the class; a dense layer to 4 x 4; then stages that enlarge and convolve twice, each value divided by the
root mean square over the channels of its pixel. The equalised learning rate of training is worked into the weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.classes import NUM_CLASSES
from nsbgan_infer.encoders.base import Basis
from nsbgan_infer.latents import Latents
from nsbgan_infer.samplers.base import SamplerInfo, graph_of
from nsbgan_infer.samplers.span import denormalised
from nsbgan_infer.storage.architectures import Component, Graph, architecture

SLOPE = 0.2  # of the leaky ReLU
PIXEL_EPS = 1e-8
LARGEST = 8192


@dataclass(frozen=True)
class ProGANConfig:
    """What one such generator is. Raises ValueError for values that do not fit together."""

    classes: tuple[int, ...]
    """ImageNet ids of the columns of the class input."""
    widths: tuple[int, ...] = (512, 512, 512, 512, 256)
    """Channels at 4 x 4, 8 x 8, ...; the last are those at R x R."""
    z_dim: int = 512
    alpha: float = 1.0
    """How far the last stage is faded in: below 1 only in a generator that is still growing."""
    basis: Basis = "wavelet"
    levels: int = 2
    """Of the low bands that it draws."""
    shift: float = 3.0
    """With `scale`: see `samplers.span`."""
    scale: float = 10.0
    makes: str = ""
    """The reduction that a sample is. Default: that of an ordinary picture, or of the wavelet basis."""
    truncation: float = 1.0
    name: str = "progan"
    licence: str = "unknown"

    def __post_init__(self) -> None:
        if not self.classes or any(not 0 <= c < NUM_CLASSES for c in self.classes):
            raise ValueError("classes must be ImageNet ids, at least one")
        if not 1 <= len(self.widths) <= 9 or not all(1 <= n <= LARGEST for n in (*self.widths, self.z_dim)):
            raise ValueError(f"widths are 1 to 9 numbers, and these and z_dim are 1 to {LARGEST}")
        if not 0 <= self.alpha <= 1 or (self.alpha < 1 and len(self.widths) == 1) or not 0 < self.truncation <= 1:
            raise ValueError("alpha is a share in [0, 1], 1 without a stage before the last; truncation lies in (0, 1]")
        if self.basis not in get_args(Basis) or self.levels < 0 or self.scale <= 0:
            raise ValueError("basis is pixel or wavelet, levels at least 0, scale above 0")

    @property
    def resolution(self) -> int:
        """The side of a sample."""
        return 4 << (len(self.widths) - 1)


@architecture
class ProGAN(Component):
    """The generator: see the module's docstring. fp32 or bf16, on any device.

    Each stage keeps the 1 x 1 layer that drew its pictures while it was the last one: a few hundred numbers.
    """

    kind = "sampler"
    arch = "progan"
    Config = ProGANConfig
    tiny = ProGANConfig((1, 207), (8, 8, 4), z_dim=4)
    sentence = "A progressively grown generator."
    config: ProGANConfig

    def __init__(self, config: ProGANConfig) -> None:
        super().__init__(config)
        c = config
        self.start = nn.Linear(c.z_dim + len(c.classes), c.widths[0] * 16)
        self.first = nn.Conv2d(c.widths[0], c.widths[0], 3, padding=1)
        self.stages = nn.ModuleList(Stage(a, b) for a, b in pairwise(c.widths))
        self.to_rgb = nn.ModuleList(nn.Conv2d(width, 3, 1) for width in c.widths)

    @property
    def info(self) -> SamplerInfo:
        """Only the direction of z counts, so truncation scales what it was brought to (as in w)."""
        c = self.config
        return SamplerInfo(
            name=c.name,
            basis=c.basis,
            resolution=c.resolution,
            z_dim=c.z_dim,
            classes=c.classes,
            truncation_mode="scale",
            truncation=c.truncation,
            licence=c.licence,
            truncates="w",
            makes=c.makes,
        )

    def forward(self, latents: Latents) -> Tensor:
        """Latents of batch B -> (B, 3, R, R), RGB, nominally [0, 1], unclamped."""
        return self.forward_tensors(**self.graph_inputs(latents))

    def graph(self) -> Graph:
        """See `graph_of`."""
        return graph_of(self, "direction", "y")

    def graph_inputs(self, latents: Latents) -> dict[str, Tensor]:
        """The tensors that `forward_tensors` takes: direction (B, z_dim), truncated, and y (B, len(classes))."""
        like = self.start.weight
        direction = unit(latents.z.float()) * latents.truncation
        y = latents.y[:, list(self.config.classes)]
        return {"direction": direction.to(like.device, like.dtype), "y": y.to(like.device, like.dtype)}

    def forward_tensors(self, direction: Tensor, y: Tensor) -> Tensor:
        """A direction and weights over the own classes -> (B, 3, R, R)."""
        drawn = self.draw(direction, y, stages=len(self.config.widths), alpha=self.config.alpha)
        return denormalised(drawn, self.config)

    def draw(self, direction: Tensor, y: Tensor, *, stages: int, alpha: float) -> Tensor:
        """The picture after the first `stages` stages, the last one faded in as far as `alpha`, in the network's own
        range, nominally [-1, 1]."""
        x = self.start(torch.cat((direction, y), 1)).unflatten(1, (-1, 4, 4))  # (B, C, 4, 4)
        x = activate(self.first(activate(x)))
        before = x
        for stage in self.stages[: stages - 1]:
            before, x = x, stage(x)
        out: Tensor = self.to_rgb[stages - 1](x)
        if alpha < 1:
            out = torch.lerp(double(self.to_rgb[stages - 2](before)), out, alpha)
        return out


class Stage(nn.Module):
    """(B, before, h, w) -> (B, width, 2h, 2w)."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(before, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return activate(self.conv2(activate(self.conv1(double(x)))))


def activate(x: Tensor) -> Tensor:
    """Leaky ReLU, then pixel norm (section 4.2): x / sqrt(mean over channels of x^2 + 1e-8)."""
    x = F.leaky_relu(x, SLOPE)
    return x * torch.rsqrt(x.square().mean(1, keepdim=True) + PIXEL_EPS)


def unit(z: Tensor) -> Tensor:
    """z (B, z_dim) brought to unit length, times sqrt(z_dim)."""
    return z * torch.rsqrt(z.square().mean(1, keepdim=True) + PIXEL_EPS)


def double(x: Tensor) -> Tensor:
    """Nearest-neighbour enlargement by 2."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")

"""Step 2, StyleGAN2: z (B, z_dim), y (B, 1000) -> sample (B, 3, R, R), RGB in [0, 1], pixel basis.

The generator of Karras et al. 2020 (arXiv:1912.04958), configuration F, and StyleGAN2-ADA's (arXiv:2006.06676), which
may draw classes: mapping network, modulated convolutions with demodulation, one noise map a layer, RGB outputs summed
over the resolutions or taken at the last one. The weights held here are effective ones: the equalised learning rate's
constants are multiplied in once, when a checkpoint is converted (`stylegan2_layouts`).

Truncation psi acts on w, not on z: w <- w_avg + psi (w - w_avg). So z is drawn from the whole N(0, 1) and the mode is
`scale`, the only one there is in w. Noise maps are drawn from the seed of each image, in a stream of their own;
`StyleGAN2.noise` says so, and can be set to the maps that came with the weights, or to none.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.classes import NUM_CLASSES
from nsbgan_infer.errors import UsageError
from nsbgan_infer.latents import Latents
from nsbgan_infer.samplers.base import SamplerInfo, graph_of
from nsbgan_infer.storage.architectures import Component, Graph, architecture

SQRT2, SQRT_HALF = math.sqrt(2), math.sqrt(0.5)
EPS = 1e-8
Architecture = Literal["skip", "resnet", "orig"]
Noise = Literal["seeds", "stored", "none"]


@dataclass(frozen=True)
class StyleGAN2Config:
    """What one such generator is. Raises ValueError for values that do not fit together."""

    channels: tuple[int, ...] = (512, 512, 512, 512, 512, 256, 128)
    """The widths at 4, 8, 16, ... pixels, so their number sets the resolution (9 of them: 1024)."""
    style_dim: int = 512
    """Length of w, and of z where `z_dim` is 0."""
    mapping_layers: int = 8
    truncation: float = 1.0
    """The default psi."""
    licence: str = "unknown"
    z_dim: int = 0
    mapping_dim: int = 0
    """Width between the layers of the mapping network; 0: that of w."""
    num_classes: int = 0
    """0: the generator draws without classes."""
    class_dim: int = 0
    """Length of the class embedding, which is appended to z."""
    architecture: Architecture = "skip"
    """skip: RGB of every resolution is summed; resnet: of the last one, with residual blocks; orig: without."""
    clamp: float = 0.0
    """Values beyond it are cut after each layer, as networks do that were trained in fp16; 0: none."""
    stored_noise: bool = False
    """Whether the noise maps that came with the weights are kept."""
    name: str = ""
    """Empty: `stylegan2-` and the side."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.channels) <= 10 or min(self.channels) < 1:
            raise ValueError("channels holds 1 to 10 positive widths, one a resolution from 4 on")
        if self.style_dim < 1 or not 1 <= self.mapping_layers <= 64:
            raise ValueError("style_dim is positive and mapping_layers is 1 to 64")
        if not 0 < self.truncation <= 1:
            raise ValueError("truncation is above 0 and up to 1")
        if min(self.z_dim, self.mapping_dim, self.class_dim, self.clamp) < 0:
            raise ValueError("z_dim, mapping_dim, class_dim and clamp are not negative")
        if not 0 <= self.num_classes <= NUM_CLASSES or bool(self.num_classes) != bool(self.class_dim):
            raise ValueError(f"num_classes is 0 to {NUM_CLASSES}, and goes with class_dim")
        if self.architecture not in get_args(Architecture):
            raise ValueError(f"architecture {self.architecture!r} is none of {', '.join(get_args(Architecture))}")

    @property
    def resolution(self) -> int:
        """The side of a sample."""
        return 4 << (len(self.channels) - 1)

    @property
    def mapping_widths(self) -> tuple[int, ...]:
        """What enters each layer of the mapping network, and what leaves the last."""
        between = (self.mapping_dim or self.style_dim,) * (self.mapping_layers - 1)
        return ((self.z_dim or self.style_dim) + self.class_dim, *between, self.style_dim)

    @property
    def noise_sides(self) -> tuple[int, ...]:
        """The side of each layer's noise map: 4, 8, 8, 16, 16, ..."""
        return tuple(4 << ((i + 1) // 2) for i in range(2 * len(self.channels) - 1))


def config_f(resolution: int, *, channel_multiplier: int = 2, licence: str = "unknown") -> StyleGAN2Config:
    """Configuration F at `resolution`, a power of two from 4 to 2048: 512 channels up to 32 pixels, then halving.

    With multiplier 2 the widths are 512 at 64, 256 at 128, ..., 32 at 1024 (the published generators).
    """
    sides = [4 << i for i in range(resolution.bit_length() - 2)]
    if not sides or sides[-1] != resolution:
        raise ValueError(f"resolution {resolution} is not a power of two from 4 on")
    widths = tuple(512 if side <= 32 else min(512, 16384 * channel_multiplier // side) for side in sides)
    return StyleGAN2Config(channels=widths, licence=licence)


class ModulatedConv(nn.Module):
    """A convolution whose input channels are scaled by styles computed from w, an image each.

    (B, in, h, w), w (B, style_dim) -> (B, out, h, w), or (B, out, 2h, 2w) with `up`. Scaling the input, using one
    shared kernel and scaling the output equals giving each image its own kernel (section 2.2 of the paper),
    and is faster.
    """

    def __init__(self, inputs: int, outputs: int, size: int, style_dim: int, *, demodulate: bool, up: bool = False):
        super().__init__()
        self.demodulate, self.up = demodulate, up
        self.weight = nn.Parameter(torch.randn(outputs, inputs, size, size) / math.sqrt(inputs * size**2))
        self.style = nn.Linear(style_dim, inputs)
        nn.init.normal_(self.style.weight, std=style_dim**-0.5)
        nn.init.ones_(self.style.bias)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.style(w)  # (B, in)
        x = x * style[:, :, None, None]
        if self.up:
            x = F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)  # (B, out, 2h+1, 2w+1)
            x = _blur(x)  # (B, out, 2h, 2w)
        else:
            x = F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2)
        if self.demodulate:
            energy = style.float().square() @ self.weight.float().square().sum((2, 3)).T  # (B, out)
            x = x * torch.rsqrt(energy + EPS).to(x.dtype)[:, :, None, None]
        return x


class StyledConv(nn.Module):
    """Modulated 3 x 3 convolution, noise (B, 1, h, w), bias, leaky ReLU, all times `gain`, cut at `clamp` times it."""

    def __init__(
        self, inputs: int, outputs: int, style_dim: int, *, up: bool, gain: float = 1.0, clamp: float = 0.0
    ) -> None:
        super().__init__()
        self.gain, self.clamp = gain, clamp
        self.conv = ModulatedConv(inputs, outputs, 3, style_dim, demodulate=True, up=up)
        self.noise_strength = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        x = _activate(self.conv(x, w) + self.noise_strength * noise + self.bias[:, None, None], self.gain)
        return _cut(x, self.clamp * self.gain)


class ToRGB(nn.Module):
    """Modulated 1 x 1 convolution to RGB, added to the enlarged RGB of the resolution below, if there is one."""

    def __init__(self, inputs: int, style_dim: int, *, clamp: float = 0.0) -> None:
        super().__init__()
        self.clamp = clamp
        self.conv = ModulatedConv(inputs, 3, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, w: Tensor, below: Tensor | None) -> Tensor:
        rgb = _cut(self.conv(x, w) + self.bias[:, None, None], self.clamp)
        return rgb if below is None else rgb + _enlarge(below)


@architecture
class StyleGAN2(Component):
    """The sampler: see the module's docstring. fp32 or bf16; styles are demodulated in fp32 either way."""

    kind = "sampler"
    arch = "stylegan2"
    Config = StyleGAN2Config
    tiny = StyleGAN2Config(channels=(4, 4), style_dim=4, mapping_layers=1)
    sentence = "StyleGAN2, converted."
    published: ClassVar[dict[str, StyleGAN2Config]] = {
        name: replace(config_f(side), name=name)
        for name, side in (("stylegan2-256", 256), ("stylegan2-ffhq", 1024), ("stylegan2-ffhq-256", 256))
    }
    config: StyleGAN2Config
    latent_avg: Tensor

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__(config)
        widths, dim, clamp = config.channels, config.style_dim, config.clamp
        residual = config.architecture == "resnet"
        self.noise: Noise = "seeds"
        if config.num_classes:
            self.embed = nn.Linear(config.num_classes, config.class_dim)
        self.mapping = nn.ModuleList(_mapping_layer(i, o) for i, o in pairwise(config.mapping_widths))
        self.const = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.layers = nn.ModuleList([StyledConv(widths[0], widths[0], dim, up=False, clamp=clamp)])
        for below, width in pairwise(widths):
            self.layers.append(StyledConv(below, width, dim, up=True, clamp=clamp))
            gain = SQRT_HALF if residual else 1.0
            self.layers.append(StyledConv(width, width, dim, up=False, gain=gain, clamp=clamp))
        emitting = widths if config.architecture == "skip" else widths[-1:]
        self.to_rgb = nn.ModuleList(ToRGB(width, dim, clamp=clamp) for width in emitting)
        if residual:
            self.skips = nn.ModuleList(nn.Conv2d(i, o, 1, bias=False) for i, o in pairwise(widths))
        self.register_buffer("latent_avg", torch.zeros(dim))
        for i, side in enumerate(config.noise_sides if config.stored_noise else ()):
            self.register_buffer(f"stored_noise_{i}", torch.zeros(1, 1, side, side))

    @property
    def info(self) -> SamplerInfo:
        """See SamplerInfo."""
        return SamplerInfo(
            name=self.config.name or f"stylegan2-{self.config.resolution}",
            basis="pixel",
            resolution=self.config.resolution,
            z_dim=self.config.z_dim or self.config.style_dim,
            classes=tuple(range(self.config.num_classes)) or None,
            truncation_mode="scale",
            truncation=self.config.truncation,
            licence=self.config.licence,
            truncates="w",
            labels="imagenet" if self.config.num_classes in (0, NUM_CLASSES) else "numbers",
        )

    def forward(self, latents: Latents) -> Tensor:
        """Latents of B images -> (B, 3, R, R) in [0, 1] nominally."""
        return self.forward_tensors(**self.graph_inputs(latents))

    def graph(self) -> Graph:
        """See `graph_of`."""
        return graph_of(
            self, "z", *(("y",) if self.config.num_classes else ()), "truncation", "noise", fixed="truncation"
        )

    def graph_inputs(self, latents: Latents) -> dict[str, Tensor]:
        """The tensors that `forward_tensors` takes, by name: z (B, z_dim), with classes y (B, num_classes), truncation
        (1,), and noise (B, sum of r^2), the maps of all layers one after the other."""
        tensors = {"z": latents.z}
        if self.config.num_classes:
            tensors["y"] = latents.y[:, : self.config.num_classes]
        tensors["truncation"] = torch.tensor([latents.truncation], dtype=latents.z.dtype, device=latents.z.device)
        maps = self.noise_maps(latents.seeds)
        return tensors | {"noise": torch.cat([m.expand(len(latents), -1, -1, -1).flatten(1) for m in maps], 1)}

    def forward_tensors(self, z: Tensor, truncation: Tensor, noise: Tensor, y: Tensor | None = None) -> Tensor:
        """See `graph_inputs`."""
        sides = self.config.noise_sides
        maps = torch.split(noise, [side * side for side in sides], dim=1)
        average = self.latent_avg.float()
        w = (average + truncation.float() * (self.map(z, y).float() - average)).to(self.const.dtype)
        return self.synthesise(w, [m.view(-1, 1, side, side) for m, side in zip(maps, sides, strict=True)])

    def map(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z (B, z_dim) and, with classes, y (B, num_classes) -> w (B, style_dim), untruncated."""
        x = _normalise(z.float())
        if self.config.num_classes:
            if y is None:
                raise UsageError("This StyleGAN2 draws classes: say which.")
            x = torch.cat([x, _normalise(self.embed(y.to(self.const.dtype)).float())], 1)
        x = x.to(self.const.dtype)
        for layer in self.mapping:
            x = _activate(layer(x))
        return x

    def noise_maps(self, seeds: Sequence[int]) -> list[Tensor]:
        """One map (B or 1, 1, r, r) for each layer, as `noise` says. Raises UsageError if none were stored."""
        if self.noise == "seeds":
            return self.draw_noise(seeds)
        if self.noise == "none":
            return [self.const.new_zeros(1, 1, side, side) for side in self.config.noise_sides]
        if not self.config.stored_noise:
            raise UsageError("No noise maps came with the weights of this StyleGAN2: draw them from seeds.")
        return [self.get_buffer(f"stored_noise_{i}") for i in range(len(self.layers))]

    def draw_noise(self, seeds: Sequence[int]) -> list[Tensor]:
        """One map (B, 1, r, r) of N(0, 1) for each layer; image i's maps depend on seeds[i] alone."""
        generators = [_noise_generator(seed) for seed in seeds]
        like, sides = self.const, self.config.noise_sides
        return [torch.stack([torch.randn(1, r, r, generator=g) for g in generators]).to(like) for r in sides]

    def synthesise(self, w: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """w (B, style_dim) and the maps of `draw_noise` -> (B, 3, R, R) in [0, 1] nominally, unclamped."""
        x = self.layers[0](self.const.expand(len(w), -1, -1, -1), w, noise[0])
        rgb = self.to_rgb[0](x, w, None) if self.config.architecture == "skip" else None
        for step in range(1, len(self.config.channels)):
            below = x
            x = self.layers[2 * step - 1](x, w, noise[2 * step - 1])  # (B, C, 2h, 2w)
            x = self.layers[2 * step](x, w, noise[2 * step])
            if self.config.architecture == "resnet":
                x = x + _cut(_enlarge(self.skips[step - 1](below)), self.config.clamp * SQRT_HALF)
            if self.config.architecture == "skip":
                rgb = self.to_rgb[step](x, w, rgb)
        rgb = self.to_rgb[0](x, w, None) if rgb is None else rgb
        out: Tensor = (rgb + 1) / 2
        return out


def _mapping_layer(inputs: int, outputs: int) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    nn.init.normal_(layer.weight, std=inputs**-0.5)
    nn.init.zeros_(layer.bias)
    return layer


def _normalise(x: Tensor) -> Tensor:
    """(B, n) brought to a mean square of 1."""
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS)


def _activate(x: Tensor, gain: float = 1.0) -> Tensor:
    return F.leaky_relu(x, 0.2) * (SQRT2 * gain)


def _cut(x: Tensor, bound: float) -> Tensor:
    return x.clamp(-bound, bound) if bound else x


def _fir(like: Tensor, gain: float) -> Tensor:
    return like.new_tensor((1, 3, 3, 1)) * (gain / 8)


def _blur(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C, h-1, w-1): the FIR with gain 4 and zero padding of 1, one axis after the other."""
    channels, taps = x.shape[1], _fir(x, 2)
    x = F.conv2d(x, taps.view(1, 1, 4, 1).expand(channels, 1, 4, 1), padding=(1, 0), groups=channels)
    return F.conv2d(x, taps.view(1, 1, 1, 4).expand(channels, 1, 1, 4), padding=(0, 1), groups=channels)


def _enlarge(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C, 2h, 2w): zeros in between, padding (2, 1), the FIR with gain 4."""
    taps, channels = _fir(x, 2), x.shape[1]
    kernel = torch.outer(taps, taps).expand(channels, 1, 4, 4)
    return F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=channels)


def _noise_generator(seed: int) -> torch.Generator:
    """A stream that shares nothing with the one from which the same seed draws z."""
    digest = hashlib.sha256(f"stylegan2 noise {seed}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:4], "big"))

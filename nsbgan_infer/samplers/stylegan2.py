"""Step 2, StyleGAN2: z (B, style_dim) -> sample (B, 3, R, R), RGB in [0, 1], pixel basis, unconditional.

The generator of Karras et al. 2020 (arXiv:1912.04958), configuration F: mapping network, modulated convolutions with
demodulation, one noise map a layer, RGB outputs summed over the resolutions. The weights held here are effective ones:
the equalised learning rate's constants are multiplied in once, when a public checkpoint is converted
(`from_public_layout`).

Truncation psi acts on w, not on z: w <- w_avg + psi (w - w_avg). So z is drawn from the whole N(0, 1) and the mode is
`scale`, the only one there is in w. Noise maps are drawn from the seed of each image, in a stream of their own.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.latents import Latents
from nsbgan_infer.samplers.base import SamplerInfo
from nsbgan_infer.storage.components import Component, check_tensors, empty_weights

SQRT2 = math.sqrt(2)
MAPPING_RATE = 0.01  # the mapping network's learning-rate multiplier, which scales its stored weights
AVERAGE_OVER = 10_000  # mapped z that stand in for a missing latent_avg
EPS = 1e-8


@dataclass(frozen=True)
class StyleGAN2Config:
    """`channels`: the widths at 4, 8, 16, ... pixels, so their number sets the resolution (9 of them: 1024).

    `style_dim`: length of z and w; `mapping_layers`: depth of the mapping network; `truncation`: the default psi;
    `licence`: that of the weights.
    """

    channels: tuple[int, ...] = (512, 512, 512, 512, 512, 256, 128)
    style_dim: int = 512
    mapping_layers: int = 8
    truncation: float = 1.0
    licence: str = "unknown"

    def __post_init__(self) -> None:
        if not 1 <= len(self.channels) <= 10 or min(self.channels) < 1:
            raise ValueError("channels holds 1 to 10 positive widths, one a resolution from 4 on")
        if self.style_dim < 1 or not 1 <= self.mapping_layers <= 64:
            raise ValueError("style_dim is positive and mapping_layers is 1 to 64")
        if not 0 < self.truncation <= 1:
            raise ValueError("truncation is above 0 and up to 1")

    @property
    def resolution(self) -> int:
        return 4 << (len(self.channels) - 1)


def config_f(resolution: int, *, channel_multiplier: int = 2, licence: str = "unknown") -> StyleGAN2Config:
    """Configuration F at `resolution`, a power of two from 4 to 2048: 512 channels up to 32 pixels, then halving.

    With multiplier 2 the widths are 512 at 64, 256 at 128, ..., 32 at 1024 (the published generators).
    """
    sides = [4 << i for i in range(resolution.bit_length() - 2)]
    if not sides or sides[-1] != resolution:
        raise ValueError(f"resolution {resolution} is no power of two from 4 on")
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
    """Modulated 3 x 3 convolution, noise (B, 1, h, w), bias, leaky ReLU."""

    def __init__(self, inputs: int, outputs: int, style_dim: int, *, up: bool) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, style_dim, demodulate=True, up=up)
        self.noise_strength = nn.Parameter(torch.zeros(1))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        return _activate(self.conv(x, w) + self.noise_strength * noise + self.bias[:, None, None])


class ToRGB(nn.Module):
    """Modulated 1 x 1 convolution to RGB, added to the enlarged RGB of the resolution below, if there is one."""

    def __init__(self, inputs: int, style_dim: int) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, 3, 1, style_dim, demodulate=False)
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, w: Tensor, below: Tensor | None) -> Tensor:
        rgb: Tensor = self.conv(x, w) + self.bias[:, None, None]
        return rgb if below is None else rgb + _enlarge(below)


class StyleGAN2(Component):
    """The sampler: see the module's docstring. fp32 or bf16; styles are demodulated in fp32 either way."""

    kind = "sampler"
    arch = "stylegan2"
    Config = StyleGAN2Config
    config: StyleGAN2Config
    latent_avg: Tensor

    def __init__(self, config: StyleGAN2Config) -> None:
        super().__init__(config)
        widths, dim = config.channels, config.style_dim
        self.mapping = nn.ModuleList(_mapping_layer(dim) for _ in range(config.mapping_layers))
        self.const = nn.Parameter(torch.randn(1, widths[0], 4, 4))
        self.layers = nn.ModuleList([StyledConv(widths[0], widths[0], dim, up=False)])
        self.to_rgb = nn.ModuleList([ToRGB(widths[0], dim)])
        for below, width in pairwise(widths):
            self.layers.append(StyledConv(below, width, dim, up=True))
            self.layers.append(StyledConv(width, width, dim, up=False))
            self.to_rgb.append(ToRGB(width, dim))
        self.register_buffer("latent_avg", torch.zeros(dim))

    @property
    def info(self) -> SamplerInfo:
        """See SamplerInfo."""
        return SamplerInfo(
            name=f"stylegan2-{self.config.resolution}",
            basis="pixel",
            resolution=self.config.resolution,
            z_dim=self.config.style_dim,
            classes=None,
            truncation_mode="scale",
            truncation=self.config.truncation,
            licence=self.config.licence,
            truncates="w",
        )

    def forward(self, latents: Latents) -> Tensor:
        """Latents of B images -> (B, 3, R, R) in [0, 1] nominally; the class weights y are not used."""
        w = self.latent_avg + latents.truncation * (self.map(latents.z) - self.latent_avg)
        return self.synthesise(w, self.draw_noise(latents.seeds))

    def map(self, z: Tensor) -> Tensor:
        """z (B, style_dim) -> w (B, style_dim), untruncated."""
        z = z.float()
        x = (z * torch.rsqrt(z.square().mean(-1, keepdim=True) + EPS)).to(self.const.dtype)
        for layer in self.mapping:
            x = _activate(layer(x))
        return x

    def draw_noise(self, seeds: Sequence[int]) -> list[Tensor]:
        """One map (B, 1, r, r) of N(0, 1) for each layer; image i's maps depend on seeds[i] alone."""
        generators = [_noise_generator(seed) for seed in seeds]
        sides = [4 << ((i + 1) // 2) for i in range(len(self.layers))]
        like = self.const
        return [torch.stack([torch.randn(1, r, r, generator=g) for g in generators]).to(like) for r in sides]

    def synthesise(self, w: Tensor, noise: Sequence[Tensor]) -> Tensor:
        """w (B, style_dim) and the maps of `draw_noise` -> (B, 3, R, R) in [0, 1] nominally, unclamped."""
        x = self.layers[0](self.const.expand(len(w), -1, -1, -1), w, noise[0])
        rgb = self.to_rgb[0](x, w, None)
        for step, to_rgb in enumerate(list(self.to_rgb)[1:]):
            x = self.layers[2 * step + 1](x, w, noise[2 * step + 1])  # (B, C, 2h, 2w)
            x = self.layers[2 * step + 2](x, w, noise[2 * step + 2])
            rgb = to_rgb(x, w, rgb)
        out: Tensor = (rgb + 1) / 2
        return out


def from_public_layout(
    g_ema: Mapping[str, Tensor], latent_avg: Tensor | None, *, licence: str = "unknown"
) -> StyleGAN2:
    """The sampler from the state dict `g_ema` of the common PyTorch checkpoints (names and scales: see below).

    Stored weights times 1/sqrt(fan in) are the effective ones, in the mapping network times 0.01 as well. Without
    `latent_avg` (style_dim,) the mean of 10,000 mapped z of a fixed seed takes its place. The stored noise maps are
    dropped (noise comes from seeds); stored FIR kernels must be [1, 3, 3, 1]. Raises CheckpointError.
    """
    config = _config_of(g_ema, licence)
    with empty_weights():
        model = StyleGAN2(config)
    names = _public_names(config)
    shapes = {public: torch.empty(shape, device="meta") for public, (_, shape, _) in names.items()}
    _check_kernels(g_ema)
    have = {k: {"shape": list(v.shape)} for k, v in g_ema.items() if not re.search(r"^noises\.|\.kernel$", k)}
    check_tensors(have, shapes, label="the StyleGAN2 checkpoint")
    own = model.state_dict()
    state = {ours: (g_ema[k].float() * gain).reshape(own[ours].shape) for k, (ours, _, gain) in names.items()}
    if latent_avg is not None and latent_avg.shape != (config.style_dim,):
        raise CheckpointError(f"latent_avg is {list(latent_avg.shape)} instead of [{config.style_dim}].")
    state["latent_avg"] = torch.zeros(config.style_dim) if latent_avg is None else latent_avg.float()
    model.load_state_dict(state, strict=True, assign=True)
    if latent_avg is None:
        with torch.no_grad():
            z = torch.randn(AVERAGE_OVER, config.style_dim, generator=torch.Generator("cpu").manual_seed(0))
            model.latent_avg = model.map(z).mean(0)
    return model.eval().requires_grad_(False)


def _mapping_layer(dim: int) -> nn.Linear:
    layer = nn.Linear(dim, dim)
    nn.init.normal_(layer.weight, std=dim**-0.5)
    nn.init.zeros_(layer.bias)
    return layer


def _activate(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2) * SQRT2


def _fir(like: Tensor, gain: float) -> Tensor:
    return like.new_tensor((1, 3, 3, 1)) * (gain / 8)


def _blur(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C, h-1, w-1): the FIR with gain 4 and zero padding of 1, one axis after the other."""
    channels, taps = x.shape[1], _fir(x, 2)
    x = F.conv2d(x, taps.view(1, 1, 4, 1).expand(channels, 1, 4, 1), padding=(1, 0), groups=channels)
    return F.conv2d(x, taps.view(1, 1, 1, 4).expand(channels, 1, 1, 4), padding=(0, 1), groups=channels)


def _enlarge(rgb: Tensor) -> Tensor:
    """(B, 3, h, w) -> (B, 3, 2h, 2w): zeros in between, padding (2, 1), the FIR with gain 4."""
    taps = _fir(rgb, 2)
    kernel = torch.outer(taps, taps).expand(3, 1, 4, 4)
    return F.conv_transpose2d(rgb, kernel, stride=2, padding=1, groups=3)


def _noise_generator(seed: int) -> torch.Generator:
    """A stream that shares nothing with the one from which the same seed draws z."""
    digest = hashlib.sha256(f"stylegan2 noise {seed}".encode()).digest()
    return torch.Generator("cpu").manual_seed(int.from_bytes(digest[:4], "big"))


def _config_of(g_ema: Mapping[str, Tensor], licence: str) -> StyleGAN2Config:
    """Widths and depth as the shapes tell them."""
    try:
        ups = sorted(int(m[1]) for k in g_ema if (m := re.fullmatch(r"convs\.(\d+)\.conv\.weight", k)))
        widths = [g_ema["input.input"].shape[1]] + [g_ema[f"convs.{i}.conv.weight"].shape[1] for i in ups[::2]]
        depth = sum(bool(re.fullmatch(r"style\.\d+\.weight", k)) for k in g_ema)
        return StyleGAN2Config(tuple(widths), g_ema["style.1.weight"].shape[0], depth, licence=licence)
    except (KeyError, IndexError, ValueError) as error:
        raise CheckpointError(f"This is not a StyleGAN2 checkpoint in the usual layout ({error}).") from error


def _public_names(config: StyleGAN2Config) -> dict[str, tuple[str, tuple[int, ...], float]]:
    """Public name -> (our name, public shape, gain that makes the stored numbers effective)."""
    dim, widths = config.style_dim, config.channels
    names: dict[str, tuple[str, tuple[int, ...], float]] = {"input.input": ("const", (1, widths[0], 4, 4), 1)}
    for i in range(config.mapping_layers):
        names[f"style.{i + 1}.weight"] = (f"mapping.{i}.weight", (dim, dim), MAPPING_RATE / math.sqrt(dim))
        names[f"style.{i + 1}.bias"] = (f"mapping.{i}.bias", (dim,), MAPPING_RATE)

    def conv(public: str, ours: str, inputs: int, outputs: int, size: int) -> None:
        shape, gain = (1, outputs, inputs, size, size), 1 / math.sqrt(inputs * size**2)
        names[f"{public}.conv.weight"] = (f"{ours}.conv.weight", shape, gain)
        names[f"{public}.conv.modulation.weight"] = (f"{ours}.conv.style.weight", (inputs, dim), 1 / math.sqrt(dim))
        names[f"{public}.conv.modulation.bias"] = (f"{ours}.conv.style.bias", (inputs,), 1)

    def layer(public: str, ours: str, inputs: int, outputs: int) -> None:
        conv(public, ours, inputs, outputs, 3)
        names[f"{public}.noise.weight"] = (f"{ours}.noise_strength", (1,), 1)
        names[f"{public}.activate.bias"] = (f"{ours}.bias", (outputs,), 1)

    def rgb(public: str, ours: str, inputs: int) -> None:
        conv(public, ours, inputs, 3, 1)
        names[f"{public}.bias"] = (f"{ours}.bias", (1, 3, 1, 1), 1)

    layer("conv1", "layers.0", widths[0], widths[0])
    rgb("to_rgb1", "to_rgb.0", widths[0])
    for j, (below, width) in enumerate(pairwise(widths)):
        layer(f"convs.{2 * j}", f"layers.{2 * j + 1}", below, width)
        layer(f"convs.{2 * j + 1}", f"layers.{2 * j + 2}", width, width)
        rgb(f"to_rgbs.{j}", f"to_rgb.{j + 1}", width)
    return names


def _check_kernels(g_ema: Mapping[str, Tensor]) -> None:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    usual = torch.outer(taps, taps) / 16  # the FIR with gain 4, as it is stored
    for name, kernel in g_ema.items():
        if name.endswith(".kernel") and (
            kernel.shape != (4, 4) or not torch.allclose(kernel.float(), usual, atol=1e-4)
        ):
            raise CheckpointError(f"{name} is not the filter [1, 3, 3, 1]: this variant of StyleGAN2 is not supported.")

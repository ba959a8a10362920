"""Step 2, samplers: BigGAN-deep at 128, 256 and 512, folded for inference (paper section 3.1.3, pre-trained sampler).

    latents: z (B, 128), y (B, 1000), truncation  ->  sample (B, 3, R, R) in the pixel basis, nominally [0, 1]

The generator of Brock et al. 2018 (arXiv:1809.11096, appendix B) as `pytorch-pretrained-biggan` publishes it, with
everything that is constant at inference worked out beforehand by `biggan_checkpoint`: spectral norm is divided out,
each conditional batch norm is one scale and one shift, all of them come from one matrix product, nearest up-sampling
and the 3x3 convolution after it are one transposed convolution, and 3 of the 128 output channels are kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.latents import Latents, check_truncation
from nsbgan_infer.samplers.base import SamplerInfo, graph_of
from nsbgan_infer.samplers.strips import by_strips
from nsbgan_infer.storage.architectures import Component, Graph, architecture

CACHED_TRUNCATIONS = 64
QUERIES = 512  # of attention at a time: all 4,096 have 4 million weights, which exist twice

# (up-sample, input width, output width) of each block; widths times `channel_width` are channels
Layer = tuple[bool, int, int]
_DEEP: tuple[Layer, ...] = ((False, 16, 16), (True, 16, 16), (False, 16, 16), (True, 16, 8), (False, 8, 8))
_WIDE: tuple[Layer, ...] = ((True, 8, 4), (False, 4, 4), (True, 4, 2), (False, 2, 2), (True, 2, 1))
LAYERS: dict[int, tuple[Layer, ...]] = {
    128: (*_DEEP, *_WIDE),
    256: (*_DEEP, (True, 8, 8), (False, 8, 8), *_WIDE),
    512: (*_DEEP, (True, 8, 8), (False, 8, 8), *_WIDE, (False, 1, 1), (True, 1, 1)),
}


@dataclass(frozen=True)
class BigGANConfig:
    """One of the three released networks; `channel_width` 128 is theirs, tests use narrow ones.

    `attention_position`: the block before which self-attention stands (always at 64 x 64). `n_stats` rows of
    batch-norm statistics belong to the truncations 0, 1/(n_stats - 1), ..., 1. `hf_compat` repeats the two slips of
    the wheel when it looks them up (see `statistics_row`).
    """

    resolution: int = 256
    z_dim: int = 128
    class_embed_dim: int = 128
    channel_width: int = 128
    num_classes: int = 1000
    attention_position: int = 8
    eps: float = 1e-4
    n_stats: int = 51
    hf_compat: bool = False
    licence: str = "not stated (DeepMind's weights, converted by Hugging Face)"

    def __post_init__(self) -> None:
        if self.resolution not in LAYERS:
            raise ValueError(f"resolution {self.resolution!r} is not 128, 256 or 512")
        for field in ("z_dim", "class_embed_dim", "channel_width", "num_classes", "n_stats"):
            value = getattr(self, field)
            if type(value) is not int or not 2 <= value <= 4096:
                raise ValueError(f"{field} {value!r} is not a whole number between 2 and 4096")
        if self.channel_width % 4:
            raise ValueError(f"channel_width {self.channel_width} is not a multiple of 4")
        if type(self.attention_position) is not int or not 0 <= self.attention_position < len(self.layers):
            raise ValueError(f"attention_position {self.attention_position!r} is not the number of a block")
        if not isinstance(self.eps, float) or not 0 < self.eps < 1:
            raise ValueError(f"eps {self.eps!r} is not a number between 0 and 1")

    @property
    def name(self) -> str:
        """The registry's name, for example `biggan-deep-256`."""
        return f"biggan-deep-{self.resolution}"

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The blocks of this resolution."""
        return LAYERS[self.resolution]

    @property
    def condition_dim(self) -> int:
        """Length of z and class embedding together, which condition every block."""
        return self.z_dim + self.class_embed_dim

    @property
    def norm_widths(self) -> tuple[int, ...]:
        """Channels of the conditional batch norms, four a block."""
        ch = self.channel_width
        return tuple(c for _, i, _ in self.layers for c in (i * ch, *(i * ch // 4,) * 3))


@architecture
class BigGANDeep(Component):
    """The folded generator; see the module's docstring for shapes and ranges.

    Computes in fp32 or bf16 (`.to(torch.bfloat16)`; the statistics stay fp32), on any device. `forward_tensors` is the
    pure tensor part, which compiles and exports; `forward` adds the look-up of the statistics.
    """

    kind = "sampler"
    arch = "biggan-deep"
    kernel_order = torch.channels_last
    Config = BigGANConfig
    tiny = BigGANConfig(resolution=128, channel_width=8)
    sentence = "BigGAN-deep, with its batch norms folded for a fixed truncation."
    published: ClassVar[dict[str, BigGANConfig]] = {f"biggan-deep-{side}": BigGANConfig(side) for side in LAYERS}
    config: BigGANConfig

    def __init__(self, config: BigGANConfig) -> None:
        super().__init__(config)
        ch, cond = config.channel_width, config.condition_dim
        self.embedding = nn.Linear(config.num_classes, config.class_embed_dim, bias=False)
        self.gen_z = nn.Linear(cond, 16 * ch * 4 * 4)
        self.norms = nn.Linear(cond, 2 * sum(config.norm_widths), bias=False)  # 1 + gain | offset, of all blocks
        self.statistics = Statistics(config.n_stats, sum(config.norm_widths) + ch)  # the last `ch` are final_norm's
        self.blocks = nn.ModuleList(Block(i * ch, o * ch, up) for up, i, o in config.layers)
        self.attention = Attention(config.layers[config.attention_position][1] * ch)
        self.final_norm = Affine(ch)
        self.to_rgb = nn.Conv2d(ch, 3, 3, padding=1)

    @property
    def info(self) -> SamplerInfo:
        """What this sampler is: pixel basis, all 1000 classes."""
        c = self.config
        classes = tuple(range(c.num_classes))
        return SamplerInfo(c.name, "pixel", c.resolution, c.z_dim, classes, "scale", 0.4, c.licence)

    def forward(self, latents: Latents) -> Tensor:
        """Latents of batch B -> (B, 3, R, R), RGB, [0, 1]. Raises UsageError for a truncation outside (0, 1]."""
        return self.forward_tensors(**self.graph_inputs(latents))

    def graph(self) -> Graph:
        """See `graph_of`."""
        return graph_of(self, "z", "y", "statistics", fixed="statistics")

    def graph_inputs(self, latents: Latents) -> dict[str, Tensor]:
        """The tensors that `forward_tensors` takes, by name."""
        like = self.to_rgb.weight
        return {
            "z": latents.z.to(like.device, like.dtype),
            "y": latents.y.to(like.device, like.dtype),
            "statistics": self.statistics.at(latents.truncation, self.config),
        }

    def forward_tensors(self, z: Tensor, y: Tensor, statistics: Tensor) -> Tensor:
        """z (B, z_dim), y (B, num_classes), statistics (2, C) as `self.statistics.at` gives them -> (B, 3, R, R)."""
        ch = self.config.channel_width
        condition = torch.cat([z, self.embedding(y)], 1)  # (B, 256), the same for every block
        gains, shifts, last = self._norms(condition, statistics)
        x = self.gen_z(condition).view(-1, 16 * ch, 4, 4)
        x = x.contiguous(memory_format=torch.channels_last)
        end = len(self.blocks) - 1
        for index, block in enumerate(self.blocks):
            if index == self.config.attention_position:
                x = self.attention(x)
            if index < end:
                x = block(x, gains[4 * index : 4 * index + 4], shifts[4 * index : 4 * index + 4])

        gain, shift = self.final_norm(last)

        def colours(rows: Tensor) -> Tensor:
            wide = self.blocks[end](rows, gains[-4:], shifts[-4:])  # (B, ch, 2H, 2W), larger than all before it
            rgb: Tensor = self.to_rgb(norm_relu(wide, gain, shift))
            return rgb

        return torch.tanh(by_strips(colours, x, times=2, reach=2)) * 0.5 + 0.5  # (B, 3, R, R)

    def _norms(self, condition: Tensor, statistics: Tensor) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """Each conditional norm (x - m) r (1 + S c) + O c as x gain + shift, both (B, C_i, 1, 1); the final norm's."""
        widths = list(self.config.norm_widths)
        inner = statistics[:, : sum(widths)]  # (2, C)
        scale, offset = self.norms(condition).chunk(2, dim=1)  # (B, C) each
        gain = inner[1] * (1 + scale)
        shift = offset - inner[0] * gain
        gains = gain.to(condition.dtype)[:, :, None, None].split(widths, dim=1)
        shifts = shift.to(condition.dtype)[:, :, None, None].split(widths, dim=1)
        return list(gains), list(shifts), statistics[:, sum(widths) :]


class Block(nn.Module):
    """Residual bottleneck: (B, in, H, W) -> (B, out, H, W), or twice the size with `up`; out is in or in / 2."""

    def __init__(self, channels: int, out: int, up: bool) -> None:
        super().__init__()
        mid = channels // 4
        self.out, self.up = out, up
        self.conv_0 = nn.Conv2d(channels, mid, 1)
        # nearest x2, then 3x3: every output pixel sees 2 x 2 different inputs, so 4 taps at stride 2 do it
        self.conv_1 = nn.ConvTranspose2d(mid, mid, 4, 2, 1) if up else nn.Conv2d(mid, mid, 3, padding=1)
        self.conv_2 = nn.Conv2d(mid, mid, 3, padding=1)
        self.conv_3 = nn.Conv2d(mid, out, 1)

    def forward(self, x: Tensor, gains: list[Tensor], shifts: list[Tensor]) -> Tensor:
        h = self.conv_0(norm_relu(x, gains[0], shifts[0]))  # (B, mid, H, W)
        h = self.conv_1(norm_relu(h, gains[1], shifts[1]))  # (B, mid, H, W) or (B, mid, 2H, 2W)
        h = self.conv_2(norm_relu(h, gains[2], shifts[2]))
        h = self.conv_3(norm_relu(h, gains[3], shifts[3]))  # (B, out, ...)
        skip = x[:, : self.out]
        out: Tensor = h.add_(F.interpolate(skip, scale_factor=2.0, mode="nearest") if self.up else skip)
        return out


class Attention(nn.Module):
    """Self-attention x + o(softmax(q k) v), keys and values max-pooled 2 x 2, without 1/sqrt(d); (B, C, H, W) kept.

    Zhang et al. 2018 (arXiv:1805.08318); the learned factor gamma is folded into `out`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = nn.Conv2d(channels, 2 * (channels // 8) + channels // 2, 1, bias=False)
        self.out = nn.Conv2d(channels // 2, channels, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        query, rest = torch.tensor_split(self.qkv(x), (channels // 8,), dim=1)
        key, value = torch.tensor_split(F.max_pool2d(rest, 2), (channels // 8,), dim=1)
        q, k, v = (t.flatten(2).transpose(1, 2).unsqueeze(1) for t in (query, key, value))  # (B, 1, pixels, C/8 or C/2)
        mixed = by_strips(
            lambda some: F.scaled_dot_product_attention(some, k, v, scale=1.0), q, times=1, reach=0, rows=QUERIES
        )  # (B, 1, H W, C/2)
        mixed = mixed.transpose(2, 3).reshape(batch, channels // 2, height, width)
        return torch.add(x, self.out(mixed))


class Affine(nn.Module):
    """The final, unconditional batch norm: statistics (2, C) -> gain and shift, both (1, C, 1, 1)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, statistics: Tensor) -> tuple[Tensor, Tensor]:
        gain = statistics[1] * self.weight
        shift = self.bias - statistics[0] * gain
        return gain.to(self.weight.dtype)[None, :, None, None], shift.to(self.weight.dtype)[None, :, None, None]


class Statistics(nn.Module):
    """Means and variances (n_stats, C) of all batch norms side by side; they stay fp32 whatever the network's dtype."""

    means: Tensor
    variances: Tensor

    def __init__(self, rows: int, channels: int) -> None:
        super().__init__()
        self.register_buffer("means", torch.zeros(rows, channels))
        self.register_buffer("variances", torch.ones(rows, channels))
        self._folded: dict[tuple[float, bool], Tensor] = {}

    def at(self, truncation: float, config: BigGANConfig) -> Tensor:
        """Mean and 1 / sqrt(variance + eps) at a truncation in (0, 1], as (2, C); worked out once each."""
        key = (truncation, config.hf_compat)
        if key not in self._folded:
            if len(self._folded) >= CACHED_TRUNCATIONS:
                self._folded.clear()
            row, here, next_ = statistics_row(truncation, config.n_stats, hf_compat=config.hf_compat)
            with torch.inference_mode(False), torch.no_grad():  # kept, so it must serve in every mode
                tables = (self.means, self.variances)
                mean, variance = (t[row] * here + t[row + 1] * next_ if next_ else t[row] for t in tables)
                self._folded[key] = torch.stack([mean, torch.rsqrt(variance + config.eps)])
        return self._folded[key]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Statistics:
        self._folded.clear()

        def keep_dtype(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return moved if moved.dtype == tensor.dtype else tensor.to(moved.device)

        super()._apply(keep_dtype, recurse)  # type: ignore[no-untyped-call]
        return self


def statistics_row(truncation: float, rows: int, *, hf_compat: bool = False) -> tuple[int, float, float]:
    """Which statistics belong to a truncation: (row, its weight, weight of the next row); the weights sum to 1.

    Row i belongs to truncation i / (rows - 1). With `hf_compat` as the wheel does it: weights swapped, and the row
    below where truncation / step is a rounding error away from a whole number. Raises UsageError outside (0, 1].
    """
    check_truncation(truncation, "scale")
    if hf_compat:
        fraction, row = math.modf(truncation / (1.0 / (rows - 1)))
        return (int(row), fraction, 1 - fraction) if fraction else (int(row), 1.0, 0.0)
    position = truncation * (rows - 1)
    if abs(position - round(position)) < 1e-6:
        return round(position), 1.0, 0.0
    below = min(math.floor(position), rows - 2)
    return below, below + 1 - position, position - below


def norm_relu(x: Tensor, gain: Tensor, shift: Tensor) -> Tensor:
    """max(0, x gain + shift)."""
    return torch.addcmul(shift, x, gain).relu_()


def with_hf_compat(sampler: BigGANDeep, hf_compat: bool = True) -> BigGANDeep:
    """The same sampler, looking up its statistics as the wheel does (or correctly again)."""
    sampler.config = replace(sampler.config, hf_compat=hf_compat)
    return sampler

"""Step 2, BigGAN and BigGAN-deep as other programs train them, at any size, folded for inference.

    latents: z (B, z_dim), y (B, 1000)  ->  sample (B, 3, R, R) in the pixel basis, nominally [0, 1]

Brock et al. 2018 (arXiv:1809.11096, appendix B) and, without classes, the generator of BigBiGAN (Donahue & Simonyan
2019, arXiv:1907.02544). `biggan_layouts` works out all that is constant before the weights are saved: spectral norm is
divided out, a conditional batch norm is one scale and one shift, both linear in the condition; nearest enlargement and
the 3 x 3 convolution after it are one transposed convolution; the skip is mixed before it is enlarged, not after.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.classes import NUM_CLASSES
from nsbgan_infer.latents import Latents
from nsbgan_infer.samplers.base import SamplerInfo, graph_of
from nsbgan_infer.samplers.biggan import Attention, norm_relu
from nsbgan_infer.storage.architectures import Component, Graph, architecture

Split = Literal["parts", "whole", "start"]
Skip = Literal["mixed", "cut"]
LARGEST = 8192  # channels, and lengths of z and of the class embedding


@dataclass(frozen=True)
class BigGANFamilyConfig:
    """What one such generator is; the defaults are BigGAN-PyTorch's for ImageNet at 128 x 128.

    Raises ValueError for values that do not fit together.
    """

    widths: tuple[int, ...] = (1536, 1536, 768, 384, 192, 96)
    """Channels that enter each block, and those that leave the last one."""
    hidden: tuple[int, ...] = ()
    """BigGAN-deep: channels inside each block's bottleneck. Empty: BigGAN's plain blocks."""
    enlarging: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Numbers of the blocks that double the picture's side."""
    attention: tuple[int, ...] = (3,)
    """Numbers of the blocks after which self-attention stands."""
    skip: Skip = "mixed"
    """How a block's input reaches its output: through a 1 x 1 convolution, or its first channels as they are."""
    z_dim: int = 120
    z_split: Split = "parts"
    """Who sees z: the start its first part and each block another one; all of them all of it; the start alone."""
    class_dim: int = 128
    num_classes: int = 1000
    """0: the generator draws without classes."""
    start_side: int = 4
    name: str = "biggan"
    truncation: float = 1.0
    licence: str = "unknown"

    def __post_init__(self) -> None:
        count = self.count
        if not 1 <= count <= 64 or not all(1 <= w <= LARGEST for w in (*self.widths, *self.hidden)):
            raise ValueError(f"widths and hidden hold 2 to 65 numbers from 1 to {LARGEST}")
        if self.hidden and len(self.hidden) != count:
            raise ValueError("hidden holds a number for each block")
        if not all(0 <= n < count for n in (*self.enlarging, *self.attention)):
            raise ValueError("enlarging and attention hold numbers of blocks")
        if self.z_split not in get_args(Split) or self.skip not in get_args(Skip):
            raise ValueError("z_split or skip is none of the known ways")
        if self.skip == "cut" and any(o > i for i, o in pairwise(self.widths)):
            raise ValueError("a block cannot widen a skip that is cut")
        if not 1 <= self.z_dim <= LARGEST or (self.z_split == "parts" and self.z_dim % (count + 1)):
            raise ValueError(f"z_dim is a multiple of {count + 1}, the number of its parts")
        if not 0 <= self.class_dim <= LARGEST or not 0 <= self.num_classes <= NUM_CLASSES:
            raise ValueError(f"num_classes is 0 to {NUM_CLASSES}")
        if bool(self.class_dim) != bool(self.num_classes):
            raise ValueError("classes and their embedding go together")
        if not 1 <= self.start_side <= 64 or self.resolution > 4096 or not 0 < self.truncation <= 1:
            raise ValueError("start_side, enlarging or truncation is out of range")

    @property
    def count(self) -> int:
        """Of blocks."""
        return len(self.widths) - 1

    @property
    def resolution(self) -> int:
        """The side of a sample."""
        return self.start_side << len(set(self.enlarging))

    @property
    def part(self) -> int:
        """Length of the part of z that the start sees."""
        return self.z_dim // (self.count + 1) if self.z_split == "parts" else self.z_dim

    @property
    def condition_dim(self) -> int:
        """Length of what each block's norms see: class embedding first, then its part of z."""
        return self.class_dim + (0 if self.z_split == "start" else self.part)

    @property
    def start_dim(self) -> int:
        """Length of what the start sees."""
        return self.condition_dim if self.z_split == "whole" else self.part

    def norm_widths(self, block: int) -> tuple[int, ...]:
        """Channels of the norms of one block."""
        if self.hidden:
            return (self.widths[block], *(self.hidden[block],) * 3)
        return self.widths[block : block + 2]


def published_bigbigan() -> BigGANFamilyConfig:
    """The sizes of the published BigBiGAN generator at 128 x 128."""
    return BigGANFamilyConfig(class_dim=0, num_classes=0, name="bigbigan-128")


@architecture
class BigGANFamily(Component):
    """The folded generator: see the module's docstring. fp32 or bf16, on any device."""

    kind = "sampler"
    arch = "biggan-family"
    kernel_order = torch.channels_last
    Config = BigGANFamilyConfig
    tiny = BigGANFamilyConfig((8,) * 6, enlarging=(0, 1, 2, 3, 4), attention=(3,), z_dim=12)
    sentence = "BigGAN as other programs train it, converted, with its norms folded."
    published: ClassVar[dict[str, BigGANFamilyConfig]] = {"bigbigan-128": published_bigbigan()}
    config: BigGANFamilyConfig
    final_gain: Tensor
    final_shift: Tensor

    def __init__(self, config: BigGANFamilyConfig) -> None:
        super().__init__(config)
        c = config
        if c.num_classes:
            self.embedding = nn.Linear(c.num_classes, c.class_dim, bias=False)
        self.start = nn.Linear(c.start_dim, c.widths[0] * c.start_side**2)
        self.blocks = nn.ModuleList(DeepBlock(c, i) if c.hidden else PlainBlock(c, i) for i in range(c.count))
        self.attention = nn.ModuleDict({str(i): Attention(c.widths[i + 1]) for i in sorted(set(c.attention))})
        self.register_buffer("final_gain", torch.ones(c.widths[-1]))
        self.register_buffer("final_shift", torch.zeros(c.widths[-1]))
        self.to_rgb = nn.Conv2d(c.widths[-1], 3, 3, padding=1)

    @property
    def info(self) -> SamplerInfo:
        """z is plain N(0, 1), as these programs train and draw; truncation is its deviation."""
        c = self.config
        return SamplerInfo(
            name=c.name,
            basis="pixel",
            resolution=c.resolution,
            z_dim=c.z_dim,
            classes=tuple(range(c.num_classes)) or None,
            truncation_mode="std",
            truncation=c.truncation,
            licence=c.licence,
            labels="imagenet" if c.num_classes == NUM_CLASSES else "numbers",
        )

    def forward(self, latents: Latents) -> Tensor:
        """Latents of batch B -> (B, 3, R, R), RGB, [0, 1]."""
        return self.forward_tensors(*self.graph_inputs(latents).values())

    def graph(self) -> Graph:
        """See `graph_of`."""
        return graph_of(self, "z", *(("y",) if self.config.num_classes else ()))

    def graph_inputs(self, latents: Latents) -> dict[str, Tensor]:
        """The tensors that `forward_tensors` takes, by name: z (B, z_dim) and, with classes, y (B, num_classes)."""
        like = self.to_rgb.weight
        tensors = {"z": latents.z.to(like.device, like.dtype)}
        if self.config.num_classes:
            tensors["y"] = latents.y[:, : self.config.num_classes].to(like.device, like.dtype)
        return tensors

    def forward_tensors(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z and weights over the own classes -> (B, 3, R, R)."""
        c = self.config
        classes = [] if y is None else [self.embedding(y)]  # (B, class_dim)
        parts = torch.split(z, c.part, 1)  # of which the start takes the first
        if c.z_split == "parts":
            conditions = [torch.cat([*classes, p], 1) for p in parts[1:]]
        else:
            conditions = [torch.cat([*classes, z] if c.z_split == "whole" else [*classes, z[:, :0]], 1)] * c.count
        x = self.start(conditions[0] if c.z_split == "whole" else parts[0])
        x = x.view(-1, c.widths[0], c.start_side, c.start_side).contiguous(memory_format=torch.channels_last)
        for number, (block, condition) in enumerate(zip(self.blocks, conditions, strict=True)):
            x = block(x, condition)
            if str(number) in self.attention:
                x = self.attention[str(number)](x)
        x = norm_relu(x, self.final_gain[:, None, None], self.final_shift[:, None, None])
        return torch.tanh(self.to_rgb(x)) * 0.5 + 0.5  # (B, 3, R, R)


class Norms(nn.Module):
    """The conditional norms of a block: condition (B, cond) -> a gain and a shift (B, C, 1, 1) for each."""

    def __init__(self, condition_dim: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.widths = [w for w in widths for _ in range(2)]  # gain and shift of the first, of the second, ...
        self.linear = nn.Linear(condition_dim, sum(self.widths))

    def forward(self, condition: Tensor) -> tuple[Tensor, ...]:
        return torch.split(self.linear(condition)[:, :, None, None], self.widths, dim=1)


class PlainBlock(nn.Module):
    """(B, in, H, W) -> (B, out, 2H, 2W), or the same size: two 3 x 3 convolutions beside a 1 x 1."""

    def __init__(self, config: BigGANFamilyConfig, number: int) -> None:
        super().__init__()
        c_in, c_out = config.widths[number : number + 2]
        self.up = number in config.enlarging
        self.norms = Norms(config.condition_dim, config.norm_widths(number))
        self.conv_0 = _enlarging(c_in, c_out) if self.up else nn.Conv2d(c_in, c_out, 3, padding=1)
        self.conv_1 = nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        gain_0, shift_0, gain_1, shift_1 = self.norms(condition)
        h = self.conv_0(norm_relu(x, gain_0, shift_0))
        h = self.conv_1(norm_relu(h, gain_1, shift_1))
        out: Tensor = h.add_(_enlarge(self.skip(x)) if self.up else self.skip(x))
        return out


class DeepBlock(nn.Module):
    """The same through a bottleneck of 1 x 1, 3 x 3, 3 x 3, 1 x 1, enlarged before the second."""

    def __init__(self, config: BigGANFamilyConfig, number: int) -> None:
        super().__init__()
        c_in, self.out = config.widths[number : number + 2]
        mid = config.hidden[number]
        self.up = number in config.enlarging
        self.norms = Norms(config.condition_dim, config.norm_widths(number))
        self.conv_0 = nn.Conv2d(c_in, mid, 1)
        self.conv_1 = _enlarging(mid, mid) if self.up else nn.Conv2d(mid, mid, 3, padding=1)
        self.conv_2 = nn.Conv2d(mid, mid, 3, padding=1)
        self.conv_3 = nn.Conv2d(mid, self.out, 1)
        self.skip = nn.Conv2d(c_in, self.out, 1) if config.skip == "mixed" else None

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        gains_and_shifts = self.norms(condition)
        h = x
        for i, conv in enumerate((self.conv_0, self.conv_1, self.conv_2, self.conv_3)):
            h = conv(norm_relu(h, *gains_and_shifts[2 * i : 2 * i + 2]))
        skip = x[:, : self.out] if self.skip is None else self.skip(x)
        return h.add_(_enlarge(skip) if self.up else skip)


def _enlarging(c_in: int, c_out: int) -> nn.ConvTranspose2d:
    """Nearest x 2 and a 3 x 3 convolution: every output pixel sees 2 x 2 different inputs, so 4 taps at stride 2 do."""
    return nn.ConvTranspose2d(c_in, c_out, 4, 2, 1)


def _enlarge(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")

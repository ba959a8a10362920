"""The generators of the paper's learned samplers: BigGAN and BigGAN-deep (spec 5.1; Brock et al. 2018, appendix B).

z (B, z_dim) and class embedding (B, class_dim) -> (B, 3, R, R) in (-1, 1), R 64 for the samplers, 256 for the paper's
baseline. Stages double 4 x 4 to R x R; self-attention follows the stage that ends at 32 x 32, at 64 x 64 from R 128
on. Batch norm's gain is 1 + linear(condition), its bias another linear map. Spectral norm belongs to training:
`training.spectral` puts it on, and what is saved here is normalised.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

START = 16  # channels at 4 x 4, in units of `channels`
# resolution -> channels after each stage, in units of `channels`
OUTPUTS = {64: (16, 8, 4, 2), 128: (16, 8, 4, 2, 1), 256: (16, 8, 8, 4, 2, 1)}
ATTENTION = {64: 32, 128: 64, 256: 64}
BN_EPS = 1e-5


class ConditionalNorm(nn.Module):
    """Batch norm whose gain and bias come from a condition (B, cond_dim)."""

    def __init__(self, channels: int, cond_dim: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, eps=BN_EPS, affine=False)
        self.gain = nn.Linear(cond_dim, channels, bias=False)
        self.bias = nn.Linear(cond_dim, channels, bias=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        gain, bias = 1 + self.gain(condition), self.bias(condition)
        out: Tensor = self.norm(x) * gain[..., None, None] + bias[..., None, None]
        return out


class Attention(nn.Module):
    """Self-attention of SAGAN (Zhang et al. 2018) with a learned share, 0 at the start."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.theta = nn.Conv2d(channels, max(1, channels // 8), 1, bias=False)
        self.phi = nn.Conv2d(channels, max(1, channels // 8), 1, bias=False)
        self.g = nn.Conv2d(channels, channels // 2, 1, bias=False)
        self.out = nn.Conv2d(channels // 2, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape; H and W even."""
        query = self.theta(x).flatten(2).mT  # (B, HW, C/8)
        key = F.max_pool2d(self.phi(x), 2).flatten(2).mT  # (B, HW/4, C/8)
        value = F.max_pool2d(self.g(x), 2).flatten(2).mT  # (B, HW/4, C/2)
        mixed = F.scaled_dot_product_attention(query, key, value, scale=1.0).mT
        out: Tensor = x + self.gamma * self.out(mixed.reshape(*mixed.shape[:2], *x.shape[-2:]))
        return out


class Block(nn.Module):
    """BigGAN: norm, ReLU, up, conv, norm, ReLU, conv; the skip is enlarged and mixed by a 1 x 1 convolution."""

    def __init__(self, c_in: int, c_out: int, cond_dim: int, *, up: bool) -> None:
        super().__init__()
        self.up = up
        self.norm1, self.norm2 = ConditionalNorm(c_in, cond_dim), ConditionalNorm(c_out, cond_dim)
        self.conv1, self.conv2 = nn.Conv2d(c_in, c_out, 3, padding=1), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, c_in, H, W) -> (B, c_out, 2H, 2W), or (B, c_out, H, W) without `up`."""
        h = F.relu(self.norm1(x, condition))
        if self.up:
            h, x = enlarged(h), enlarged(x)
        out: Tensor = self.conv2(F.relu(self.norm2(self.conv1(h), condition))) + self.skip(x)
        return out


class DeepBlock(nn.Module):
    """BigGAN-deep: a bottleneck of 1 x 1, 3 x 3, 3 x 3, 1 x 1; the skip drops channels and is enlarged."""

    def __init__(self, c_in: int, c_out: int, cond_dim: int, *, up: bool) -> None:
        super().__init__()
        self.up, self.c_out, mid = up, c_out, c_in // 4
        self.norms = nn.ModuleList(ConditionalNorm(c, cond_dim) for c in (c_in, mid, mid, mid))
        self.convs = nn.ModuleList(
            (
                nn.Conv2d(c_in, mid, 1),
                nn.Conv2d(mid, mid, 3, padding=1),
                nn.Conv2d(mid, mid, 3, padding=1),
                nn.Conv2d(mid, c_out, 1),
            )
        )

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """(B, c_in, H, W) -> (B, c_out, 2H, 2W), or (B, c_out, H, W) without `up`."""
        h = x
        for i, (norm, conv) in enumerate(zip(self.norms, self.convs, strict=True)):
            h = F.relu(norm(h, condition))
            h = conv(enlarged(h) if self.up and i == 1 else h)
        skip = x[:, : self.c_out]
        return h + (enlarged(skip) if self.up else skip)


class ResNetGenerator(nn.Module):
    """`deep` False: z in equal parts, the first into the 4 x 4 layer, one to each block (hierarchical z).
    `deep` True: `depth` blocks a stage, the whole z and class into every block.
    """

    def __init__(
        self, z_dim: int, class_dim: int, channels: int, *, deep: bool, depth: int = 2, resolution: int = 64
    ) -> None:
        super().__init__()
        outputs, self.attention_at = OUTPUTS[resolution], ATTENTION[resolution]
        self.parts = 1 if deep else len(outputs) + 1
        chunk = z_dim // self.parts
        cond = chunk + class_dim
        self.start = nn.Linear(cond if deep else chunk, START * channels * 16)
        stages: list[nn.ModuleList] = []
        for i, o in pairwise((START, *outputs)):
            c_in, c_out = i * channels, o * channels
            if deep:
                same = [DeepBlock(c_in, c_in, cond, up=False) for _ in range(depth - 1)]
                stages.append(nn.ModuleList([*same, DeepBlock(c_in, c_out, cond, up=True)]))
            else:
                stages.append(nn.ModuleList([Block(c_in, c_out, cond, up=True)]))
        self.stages = nn.ModuleList(stages)
        self.attention = Attention(outputs[self.attention_at.bit_length() - 4] * channels)
        self.norm = nn.BatchNorm2d(outputs[-1] * channels, eps=BN_EPS)
        self.to_rgb = nn.Conv2d(outputs[-1] * channels, 3, 3, padding=1)

    def forward(self, z: Tensor, c: Tensor) -> Tensor:
        """z and class embedding -> (B, 3, R, R) in (-1, 1)."""
        parts = z.chunk(self.parts, 1)
        conditions = [torch.cat((c, p), 1) for p in (parts if self.parts == 1 else parts[1:])] * len(self.stages)
        x = self.start(conditions[0] if self.parts == 1 else parts[0]).view(z.shape[0], -1, 4, 4)
        for stage, condition in zip(self.stages, conditions, strict=False):
            for block in stage:  # type: ignore[attr-defined]
                x = block(x, condition)  # 8, 16, 32, ...
            if x.shape[-1] == self.attention_at:
                x = self.attention(x)
        return torch.tanh(self.to_rgb(F.relu(self.norm(x))))


def enlarged(x: Tensor) -> Tensor:
    """Nearest-neighbour enlargement by 2."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")

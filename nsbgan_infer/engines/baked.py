"""BigGAN-deep at one truncation, written so that OpenVINO keeps one memory order from the first layer to the last.

z (B, 128), y (B, 1000) -> sample (B, 3, R, R), the same numbers as `BigGANDeep.forward_tensors`. The statistics are
constant at one truncation, so each gain and shift is one affine map of the condition. Written as a 1x1 convolution it
leaves them in the order of the feature maps; as a matrix product each norm costs two reorderings of its feature map,
a third of the whole. Query, key and value are three convolutions, because splitting one result copies it.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.samplers.biggan import Attention, BigGANDeep, Block


class BakedBigGAN(nn.Module):
    """`statistics` (2, C): means and 1 / standard deviations, as `BigGANDeep.statistics.at` gives them."""

    def __init__(self, sampler: BigGANDeep, statistics: Tensor) -> None:
        super().__init__()
        self.sampler = sampler
        self.widths = list(sampler.config.norm_widths)
        total = sum(self.widths)
        mean, inverse = statistics[0, :total], statistics[1, :total]
        scale, offset = sampler.norms.weight.detach().chunk(2)  # (C, 256) each
        gain = inverse[:, None] * scale  # (x - m) r (1 + S c) + O c = x (r + r S c) + (O - m r S) c - m r
        self.weight = torch.cat([gain, offset - mean[:, None] * gain])[:, :, None, None]
        self.bias = torch.cat([inverse, -mean * inverse])
        self.last_gain, self.last_shift = sampler.final_norm(statistics[:, total:])
        self.attention = _SplitAttention(sampler.attention)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """z (B, z_dim), y (B, num_classes) -> (B, 3, R, R), nominally [0, 1]."""
        s = self.sampler
        condition = torch.cat([z, s.embedding(y)], 1)
        affine = F.conv2d(condition[:, :, None, None], self.weight, self.bias)  # (B, 2 C, 1, 1)
        parts = torch.split(affine, self.widths * 2, dim=1)
        gains, shifts = parts[: len(self.widths)], parts[len(self.widths) :]
        x = s.gen_z(condition).view(-1, 16 * s.config.channel_width, 4, 4)
        for i, block in enumerate(s.blocks):
            if i == s.config.attention_position:
                x = self.attention(x)
            assert isinstance(block, Block)
            x = _block(block, x, gains[4 * i : 4 * i + 4], shifts[4 * i : 4 * i + 4])
        x = torch.relu(x * self.last_gain + self.last_shift)
        return torch.tanh(s.to_rgb(x)) * 0.5 + 0.5


class _SplitAttention(nn.Module):
    """The same as `Attention`, its three 1x1 convolutions apart."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.out = attention.out
        weight = attention.qkv.weight.detach()
        eighth = attention.out.weight.shape[1] // 4
        self.parts = [w.clone() for w in torch.split(weight, [eighth, eighth, len(weight) - 2 * eighth])]

    def forward(self, x: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        query, key, value = (F.conv2d(x, w) for w in self.parts)
        maps = (query, F.max_pool2d(key, 2), F.max_pool2d(value, 2))
        q, k, v = (t.flatten(2).transpose(1, 2).unsqueeze(1) for t in maps)  # (B, 1, pixels, C/8 or C/2)
        mixed = F.scaled_dot_product_attention(q, k, v, scale=1.0)
        mixed = mixed.transpose(2, 3).reshape(batch, -1, height, width)
        out: Tensor = x + self.out(mixed)
        return out


def _block(block: Block, x: Tensor, gains: tuple[Tensor, ...], shifts: tuple[Tensor, ...]) -> Tensor:
    h = x
    for conv, gain, shift in zip((block.conv_0, block.conv_1, block.conv_2, block.conv_3), gains, shifts, strict=True):
        h = conv(torch.relu(h * gain + shift))
    skip = x[:, : block.out]
    return h + (F.interpolate(skip, scale_factor=2.0, mode="nearest") if block.up else skip)

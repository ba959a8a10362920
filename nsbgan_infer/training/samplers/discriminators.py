"""Discriminators of the samplers: BigGAN and BigGAN-deep (spec 5.1), and the projected one.

(B, 3, R, R) in [-1, 1] (the normalised low band or picture) and class indices (B,) -> a list of logit tensors, one
a head: losses are summed over them. Class by projection (Miyato & Koyama 2018). Spectral norm everywhere.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.samplers.resnets import ATTENTION, Attention
from nsbgan_infer.training.samplers.projected import LiteTrunk, ProjectedHeads
from nsbgan_infer.training.samplers.spectral import orthogonal_init, put_spectral_norm

# resolution -> channels in units of `channels`: after the stem and each halving (deep), or after each block; the last
# block of the plain form halves nothing
WIDTHS = {64: (1, 2, 4, 8, 16), 128: (1, 2, 4, 8, 16, 16), 256: (1, 2, 4, 8, 8, 16, 16)}


class DiscriminatorBlock(nn.Module):
    """BigGAN: [ReLU], conv, ReLU, conv, average pool; the skip by 1 x 1, pooled. No ReLU before the first block."""

    def __init__(self, c_in: int, c_out: int, *, down: bool, first: bool) -> None:
        super().__init__()
        self.down, self.first = down, first
        self.conv1, self.conv2 = nn.Conv2d(c_in, c_out, 3, padding=1), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = nn.Conv2d(c_in, c_out, 1) if down or c_in != c_out else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, H, W) -> (B, c_out, H/2, W/2), or the same size without `down`."""
        h = self.conv2(F.relu(self.conv1(x if self.first else F.relu(x))))
        skip = x if self.skip is None else self.skip(x)
        out: Tensor = h + skip
        return F.avg_pool2d(out, 2) if self.down else out


class DeepDiscriminatorBlock(nn.Module):
    """BigGAN-deep: ReLU, 1 x 1, ReLU, 3 x 3, ReLU, 3 x 3, ReLU, pool, 1 x 1; the skip is pooled and gains channels."""

    def __init__(self, c_in: int, c_out: int, *, down: bool) -> None:
        super().__init__()
        mid = c_out // 4
        self.down = down
        self.convs = nn.ModuleList(
            (
                nn.Conv2d(c_in, mid, 1),
                nn.Conv2d(mid, mid, 3, padding=1),
                nn.Conv2d(mid, mid, 3, padding=1),
                nn.Conv2d(mid, c_out, 1),
            )
        )
        self.extra = nn.Conv2d(c_in, c_out - c_in, 1) if c_out > c_in else None

    def forward(self, x: Tensor) -> Tensor:
        """(B, c_in, H, W) -> (B, c_out, H/2, W/2), or the same size without `down`."""
        h = x
        for conv in self.convs[:3]:
            h = conv(F.relu(h))
        h = F.relu(h)
        if self.down:
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        skip = x if self.extra is None else torch.cat((x, self.extra(x)), 1)
        out: Tensor = self.convs[3](h) + skip
        return out


class ResNetDiscriminator(nn.Module):
    """The counterpart of `ResNetGenerator`: same `channels` unit, attention after the stage that ends at 32 x 32."""

    def __init__(self, classes: int, channels: int, *, deep: bool, depth: int = 2, resolution: int = 64) -> None:
        super().__init__()
        units = WIDTHS[resolution]
        if deep:
            self.stem: nn.Module = nn.Conv2d(3, channels, 3, padding=1)
            widths, halved = [channels * w for w in units], [True] * (len(units) - 1)
        else:
            self.stem = nn.Identity()
            widths, halved = [3, *(channels * w for w in units)], [True] * (len(units) - 1) + [False]
        blocks: list[nn.Module] = []
        side = resolution
        for i, down in enumerate(halved):
            a, b = widths[i], widths[i + 1]
            if deep:
                blocks.append(DeepDiscriminatorBlock(a, b, down=down))
                blocks += [DeepDiscriminatorBlock(b, b, down=False) for _ in range(depth - 1)]
            else:
                blocks.append(DiscriminatorBlock(a, b, down=down, first=i == 0))
            side //= 2 if down else 1
            if side == ATTENTION[resolution] and down:
                blocks.append(Attention(b))
        self.blocks = nn.Sequential(*blocks)
        self.logit = nn.Linear(widths[-1], 1)
        self.embed = nn.Embedding(classes, widths[-1])
        orthogonal_init(self)
        put_spectral_norm(self)

    def forward(self, x: Tensor, labels: Tensor) -> list[Tensor]:
        """Logits (B,), as a list of one."""
        h = F.relu(self.blocks(self.stem(x))).sum((2, 3))  # (B, 16 channels)
        return [(self.logit(h).squeeze(1) + (h * self.embed(labels)).sum(1)).float()]


class ProjectedDiscriminator(nn.Module):
    """Heads on the frozen EfficientNet-Lite0 (see `projected`), fed with the picture enlarged to 128 x 128.

    `offset` and `factor` bring [-1, 1] back to the nominal [0, 1]: picture = factor * x + offset.
    """

    def __init__(self, classes: int, *, factor: float, offset: float) -> None:
        super().__init__()
        self.factor, self.offset = factor, offset
        self.trunk = LiteTrunk()
        self.heads = ProjectedHeads(classes)

    def forward(self, x: Tensor, labels: Tensor) -> list[Tensor]:
        """Logits (B, 4, 4) of four scales."""
        picture = F.interpolate(x * self.factor + self.offset, scale_factor=2.0, mode="bilinear", align_corners=False)
        heads: list[Tensor] = self.heads(self.trunk(picture).taps, labels)
        return heads

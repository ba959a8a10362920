"""The blocks that both UNet decoders are made of (step 4; paper appendix C.3, figure 28; Ronneberger et al. 2015).

All maps keep (B, C, H, W); H and W may be any size that survives the poolings. Convolutions are 3 x 3 with zero
padding and bias, each followed by batch normalisation and ReLU.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEVEL_MISSING = (
    "{0} holds level {1} alone, level {2} is missing, so {3}: run `nsbgan train unet --level 2 --level1 FOLDER` with "
    "the folder of level 1."
)


def double_conv(inputs: int, outputs: int, middle: int | None = None) -> nn.Sequential:
    """Two convolutions, `inputs` -> `middle` (default `outputs`) -> `outputs` channels, same size."""
    middle = middle or outputs
    return nn.Sequential(
        nn.Conv2d(inputs, middle, 3, padding=1),
        nn.BatchNorm2d(middle),
        nn.ReLU(inplace=True),
        nn.Conv2d(middle, outputs, 3, padding=1),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Down(nn.Module):
    """Halves the size (max pooling, an odd last row or column is dropped), then a double convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convs = double_conv(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """(B, inputs, H, W) -> (B, outputs, H // 2, W // 2)."""
        out: Tensor = self.convs(F.max_pool2d(x, 2))
        return out


class Up(nn.Module):
    """Doubles the size, puts the result beside `skip`, then a double convolution. `inputs` counts both together.

    The enlargement is bilinear with aligned corners, as in the paper's code; it stretches by (2n - 1) / (n - 1), so
    what a pixel sees depends on the size of the whole picture, which is why these decoders must not be tiled.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.convs = double_conv(inputs, outputs, inputs // 2)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        """(B, C, h, w) and (B, S, H, W) with H - 2h and W - 2w in {0, 1} -> (B, outputs, H, W)."""
        x = F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
        down, right = skip.shape[-2] - x.shape[-2], skip.shape[-1] - x.shape[-1]
        x = F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2))
        out: Tensor = self.convs(torch.cat((skip, x), dim=1))
        return out

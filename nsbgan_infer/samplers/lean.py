"""Step 2: the lean generator of the embedded samplers, code and class embedding -> (B, 3, 64, 64).

A linear map draws a coarse 16 x 16 picture from the code; five convolutional stages from 4 x 4 to 64 x 64 see it at
every size and add what it lacks. Each convolution is modulated by code and class and divided by the length of its
modulated weights (Karras et al. 2020, arXiv:1912.04958, section 2.2), so that no batch statistics are needed and an
image depends on its own latent alone. Few channels at 64 x 64: on a CPU the cost lies there.

`offsets` move what the code gives: the coarse picture, the start at 4 x 4, and the style of each convolution by itself
(W+ of Abdal et al. 2019, arXiv:1904.03189). An inversion finds them; drawn images have none.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

COARSE = 16


class LeanGenerator(nn.Module):
    """`widths` are the channels at 4 x 4, 8 x 8, ..., one entry a stage; `code` (B, code_dim), `c` (B, class_dim)."""

    def __init__(self, code_dim: int, class_dim: int, widths: tuple[int, ...], style_dim: int = 256) -> None:
        super().__init__()
        self.mapping = nn.Sequential(
            nn.Linear(code_dim + class_dim, style_dim),
            nn.LeakyReLU(0.2),
            nn.Linear(style_dim, style_dim),
            nn.LeakyReLU(0.2),
        )
        self.coarse = nn.Linear(code_dim, 3 * COARSE * COARSE)
        self.start = nn.Linear(code_dim + class_dim, widths[0] * 16)
        self.first = ModulatedConv(widths[0], widths[0], style_dim)
        self.before = nn.ModuleList(ModulatedConv(a, b, style_dim) for a, b in pairwise(widths))
        self.look = nn.ModuleList(nn.Conv2d(3, b, 3, padding=1) for b in widths[1:])
        self.after = nn.ModuleList(ModulatedConv(b, b, style_dim) for b in widths[1:])
        self.to_rgb = nn.Conv2d(widths[-1], 3, 3, padding=1)

    @property
    def offset_sizes(self) -> tuple[int, int, int]:
        """How many numbers move the coarse picture, the start, and all styles."""
        convolutions = 1 + len(self.before) + len(self.after)
        return self.coarse.out_features, self.start.out_features, convolutions * self.first.style.in_features

    def forward(self, code: Tensor, c: Tensor, offsets: Tensor | None = None) -> Tensor:
        """Code, class embedding and offsets (B, sum of `offset_sizes`) -> (B, 3, 4 * 2^(stages - 1), ...)."""
        both = torch.cat((code, c), 1)
        style, coarse, start = self.mapping(both), self.coarse(code), self.start(both)
        styles = [style] * (1 + len(self.before) + len(self.after))
        if offsets is not None:
            more, start_more, style_more = offsets.split(self.offset_sizes, 1)  # type: ignore[no-untyped-call]
            coarse, start = coarse + more, start + start_more
            styles = [a + b for a, b in zip(styles, style_more.chunk(len(styles), 1), strict=True)]
        coarse = coarse.view(-1, 3, COARSE, COARSE)
        x = start.view(code.shape[0], -1, 4, 4).contiguous(memory_format=torch.channels_last)
        x = x * torch.rsqrt(x.float().square().mean((1, 2, 3), keepdim=True) + 1e-8).to(x.dtype)
        x = self.first(x, styles[0])  # (B, widths[0], 4, 4)
        for i, (before, look, after) in enumerate(zip(self.before, self.look, self.after, strict=True)):
            x = F.interpolate(before(x, styles[1 + 2 * i]), scale_factor=2.0, mode="bilinear", align_corners=False)
            x = x + look(resized(coarse, x.shape[-1]))
            x = (x + after(x, styles[2 + 2 * i])) * 0.5**0.5
        out: Tensor = self.to_rgb(x) + resized(coarse, x.shape[-1])
        return out


class ModulatedConv(nn.Module):
    """3 x 3 convolution with its input channels scaled by a style and its output brought back to unit variance."""

    def __init__(self, c_in: int, c_out: int, style_dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(c_out, c_in, 3, 3) / math.sqrt(c_in * 9))
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.style = nn.Linear(style_dim, c_in)
        nn.init.normal_(self.style.weight, std=style_dim**-0.5)
        nn.init.ones_(self.style.bias)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """(B, c_in, H, W) and style (B, style_dim) -> (B, c_out, H, W)."""
        gain = self.style(style)  # (B, c_in)
        length = torch.rsqrt(gain.float().square() @ self.weight.float().square().sum((2, 3)).t() + 1e-8)
        x = F.conv2d(x * gain[..., None, None].to(x.dtype), self.weight, padding=1)
        x = x * length[..., None, None].to(x.dtype) + self.bias.to(x.dtype)[:, None, None]
        return F.leaky_relu(x, 0.2) * math.sqrt(2)


def resized(picture: Tensor, size: int) -> Tensor:
    """A square picture averaged down or bilinearly enlarged to `size`."""
    size = int(size)  # a tensor while it is traced for another engine
    if size < picture.shape[-1]:
        return F.adaptive_avg_pool2d(picture, size)
    return F.interpolate(picture, size=(size, size), mode="bilinear", align_corners=False)

"""Step 4 without weights: low band (B, 3, h, w) -> picture (B, 3, scale * h, scale * w), nominally [0, 1], unclamped.

`iwt` is the inverse wavelet transform with zero details (paper equation 7 without its network): linear interpolation
between samples. `bicubic` (Keys 1981, a = -1/2) and `lanczos` (3 lobes) interpolate in the pixel basis. All three are
corner anchored, sample k lies at pixel scale * k, as the wavelet and the Gaussian encoder place it; the border repeats
the last sample. They are the baselines that every trained decoder has to beat.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.decoders.base import DecoderInfo
from nsbgan_infer.encoders.base import Basis
from nsbgan_infer.encoders.wavelet import WaveletEncoder
from nsbgan_infer.errors import UsageError


@dataclass(frozen=True)
class ZeroDetails:
    """The decoder `iwt`: log2(scale) inverse transforms with zero details, boundary `symmetric`."""

    info: DecoderInfo

    def __call__(self, low_band: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, 3, scale * h, scale * w), same dtype and device."""
        return WaveletEncoder(self.info.scale.bit_length() - 1).enlarge(low_band)


@dataclass(frozen=True)
class Interpolation:
    """A separable interpolation: `kernel(t)` for a distance t in samples, zero from `reach` on."""

    info: DecoderInfo
    kernel: Callable[[float], float]
    reach: int

    def __call__(self, low_band: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, 3, scale * h, scale * w), same dtype and device; half precision computes in fp32."""
        x = low_band if low_band.dtype == torch.float64 else low_band.float()
        taps = self.taps().to(x)  # (scale, 2 * reach)
        b, c, h, w = x.shape
        before, after = self.reach - 1, self.reach
        x = F.pad(x.reshape(b * c, 1, h, w), (before, after, before, after), mode="replicate")
        x = F.conv2d(x, taps[:, None, None, :])  # (bc, scale, h + taps - 1, w): the phases of each row
        x = x.permute(0, 2, 3, 1).flatten(2)[:, None]  # (bc, 1, h + taps - 1, w * scale)
        x = F.conv2d(x, taps[:, None, :, None])  # (bc, scale, h, w * scale)
        x = x.transpose(1, 2).reshape(b, c, h * self.info.scale, w * self.info.scale)
        return x.to(low_band.dtype)

    def taps(self) -> Tensor:
        """(scale, 2 * reach) float64: row p holds the weights of samples k - reach + 1 .. k + reach for the pixel
        scale * k + p. Each row has sum 1, so a flat picture stays flat."""
        offsets = range(1 - self.reach, self.reach + 1)
        phases = (p / self.info.scale for p in range(self.info.scale))
        taps = torch.tensor([[self.kernel(abs(t - j)) for j in offsets] for t in phases], dtype=torch.float64)
        return taps / taps.sum(dim=1, keepdim=True)


def make_iwt(scale: int = 4) -> ZeroDetails:
    """The inverse wavelet transform with zero details. Raises UsageError unless `scale` is 2, 4, 8 or 16."""
    return ZeroDetails(_info("iwt", "wavelet", scale, halo=2))


def make_bicubic(scale: int = 4) -> Interpolation:
    """Bicubic interpolation, corner anchored. Raises UsageError unless `scale` is 2, 4, 8 or 16."""
    return Interpolation(_info("bicubic", "pixel", scale, halo=2), _keys, 2)


def make_lanczos(scale: int = 4) -> Interpolation:
    """Lanczos interpolation with 3 lobes, corner anchored. Raises UsageError unless `scale` is 2, 4, 8 or 16."""
    return Interpolation(_info("lanczos", "pixel", scale, halo=3), _lanczos3, 3)


def _info(name: str, basis: Basis, scale: int, *, halo: int) -> DecoderInfo:
    if scale not in (2, 4, 8, 16):
        raise UsageError(f"The decoder {name} enlarges by 2, 4, 8 or 16, not by {scale}.")
    return DecoderInfo(name, basis, scale, "none", halo=halo)


def _keys(t: float) -> float:
    """Cubic convolution with a = -1/2 (Keys 1981, equation 15), which reproduces quadratics."""
    if t < 1:
        return (1.5 * t - 2.5) * t * t + 1
    return ((-0.5 * t + 2.5) * t - 4) * t + 2 if t < 2 else 0.0


def _lanczos3(t: float) -> float:
    """sinc(t) sinc(t / 3) for t < 3."""
    if t == 0:
        return 1.0
    x = math.pi * t
    return 3 * math.sin(x) * math.sin(x / 3) / (x * x) if t < 3 else 0.0

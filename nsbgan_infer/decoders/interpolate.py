"""Step 4 without weights: low band (B, 3, h, w) -> picture (B, 3, scale * h, scale * w), nominally [0, 1], unclamped.

`iwt` is the inverse wavelet transform with zero details (paper equation 7 without its network): linear interpolation
between samples. `bicubic` (Keys 1981, a = -1/2) and `lanczos` (3 lobes) interpolate in the pixel basis. All three are
corner anchored, sample k lies at pixel scale * k, as the wavelet and the Gaussian encoder place it, and `anchored`
gives the latter two with samples at the centres, for ordinary pictures; the border repeats the last sample. They are
the baselines that every trained decoder has to beat.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.decoders.base import DecoderInfo
from nsbgan_infer.encoders.base import Basis
from nsbgan_infer.encoders.resize import cubic
from nsbgan_infer.encoders.wavelet import WaveletEncoder
from nsbgan_infer.errors import UsageError
from nsbgan_infer.reductions import Anchor


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
        taps = self.taps().to(x)  # (scale, 2 * reach + 1)
        b, c, h, w = x.shape
        x = F.pad(x.reshape(b * c, 1, h, w), (self.reach,) * 4, mode="replicate")
        x = F.conv2d(x, taps[:, None, None, :])  # (bc, scale, h + taps - 1, w): the phases of each row
        x = x.permute(0, 2, 3, 1).flatten(2)[:, None]  # (bc, 1, h + taps - 1, w * scale)
        x = F.conv2d(x, taps[:, None, :, None])  # (bc, scale, h, w * scale)
        x = x.transpose(1, 2).reshape(b, c, h * self.info.scale, w * self.info.scale)
        return x.to(low_band.dtype)

    def anchored(self, anchor: Anchor) -> Interpolation:
        """The same interpolation with samples at the corners or at the centres of their cells."""
        return replace(self, info=replace(self.info, reads="bicubic" if anchor == "centre" else "gaussian"))

    def taps(self) -> Tensor:
        """(scale, 2 * reach + 1) float64: row p holds the weights of samples k - reach .. k + reach for the pixel
        scale * k + p. Each row has sum 1, so a flat picture stays flat."""
        scale = self.info.scale
        first = (scale - 1) / 2 if self.info.reduction.anchor == "centre" else 0  # the pixel where sample 0 lies
        offsets = range(-self.reach, self.reach + 1)
        phases = ((p - first) / scale for p in range(scale))
        taps = torch.tensor([[self.kernel(abs(t - j)) for j in offsets] for t in phases], dtype=torch.float64)
        return taps / taps.sum(dim=1, keepdim=True)


def make_iwt(scale: int = 4) -> ZeroDetails:
    """The inverse wavelet transform with zero details. Raises UsageError unless `scale` is 2, 4, 8 or 16."""
    return ZeroDetails(_info("iwt", "wavelet", scale, halo=2))


def make_bicubic(scale: int = 4) -> Interpolation:
    """Bicubic interpolation, corner anchored. Raises UsageError unless `scale` is 2, 4, 8 or 16."""
    return Interpolation(_info("bicubic", "pixel", scale, halo=2), cubic, 2)


def make_lanczos(scale: int = 4) -> Interpolation:
    """Lanczos interpolation with 3 lobes, corner anchored. Raises UsageError unless `scale` is 2, 4, 8 or 16."""
    return Interpolation(_info("lanczos", "pixel", scale, halo=3), _lanczos3, 3)


def _info(name: str, basis: Basis, scale: int, *, halo: int) -> DecoderInfo:
    if scale not in (2, 4, 8, 16):
        raise UsageError(f"The decoder {name} enlarges by 2, 4, 8 or 16, not by {scale}.")
    return DecoderInfo(name, basis, scale, "none", halo=halo)


def _lanczos3(t: float) -> float:
    """sinc(t) sinc(t / 3) for t < 3."""
    if t == 0:
        return 1.0
    x = math.pi * t
    return 3 * math.sin(x) * math.sin(x / 3) / (x * x) if t < 3 else 0.0

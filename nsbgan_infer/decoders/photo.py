"""Step 4, decoders `photo` and `photo-fast`: an ordinary small picture -> bicubic enlargement + predicted sub-pixels.

(B, 3, h, w) pixel basis, a `bicubic` reduction, nominally [0, 1] -> (B, 3, scale * h, scale * w). Not in the paper. The
whole network stays at the low resolution: per pixel it predicts the scale x scale sub-pixels that the pixel hides, one
pixel shuffle puts them in place, and they are added to the bicubic enlargement, which is centre anchored like the
pictures that cameras, Pillow and MATLAB make. The body is that of `subband`, so that either can start from the other's
weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.decoders.base import DecoderInfo
from nsbgan_infer.decoders.subband import COLOURS, LowResolutionNetwork
from nsbgan_infer.storage.architectures import Trained, architecture

SCALES = (2, 3, 4)


@dataclass(frozen=True)
class PhotoConfig:
    """`blocks` residual blocks of `channels`, enlarging by `scale` (2, 3 or 4); `licence` is that of the weights."""

    name: str = "photo"
    scale: int = 4
    blocks: int = 16
    channels: int = 64
    licence: str = "none"

    def __post_init__(self) -> None:
        if self.blocks < 1 or self.channels < 1:
            raise ValueError(f"blocks and channels must be at least 1, got {self.blocks} and {self.channels}")
        if self.scale not in SCALES:
            raise ValueError(f"scale must be 2, 3 or 4, got {self.scale}")


@architecture
class PhotoDecoder(LowResolutionNetwork):
    """Predicts sub-pixels at the low resolution. Starts as the bicubic enlargement: the head is zero at first."""

    kind: ClassVar[str] = "decoder"
    arch: ClassVar[str] = "photo"
    Config: ClassVar[type[PhotoConfig]] = PhotoConfig
    tiny = PhotoConfig(blocks=1, channels=8)
    trained = (
        Trained("photo", {"blocks": 16, "channels": 64}, second="photo-sharp"),
        Trained("photo-fast", {"blocks": 8, "channels": 48}),
    )
    sentence = (
        "It stays at the small picture's resolution: a residual network predicts the sub-pixels that each pixel "
        "hides, and adds them to the bicubic enlargement."
    )
    config: PhotoConfig

    def __init__(self, config: PhotoConfig) -> None:
        super().__init__(config, config.blocks, config.channels, COLOURS * config.scale**2)

    @property
    def info(self) -> DecoderInfo:
        """Pixel basis, a bicubic reduction; the scale of the configuration."""
        return DecoderInfo(self.config.name, "pixel", self.config.scale, self.config.licence, reads="bicubic")

    def forward(self, low_band: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, 3, scale * h, scale * w), unclamped, same dtype."""
        enlarged = F.interpolate(low_band, scale_factor=self.config.scale, mode="bicubic", align_corners=False)
        return enlarged + self.details(low_band)

    def details(self, low_band: Tensor) -> Tensor:
        """What the bicubic enlargement lacks, (B, 3, scale * h, scale * w)."""
        return F.pixel_shuffle(self.predict(low_band), self.config.scale)

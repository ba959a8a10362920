"""Step 4, decoders `subband-w`, `-sharp`, `-fast`, `-tiny`: low band -> details -> two inverse liftings.

(B, 3, h, w) wavelet basis, nominally [0, 1] -> (B, 3, 4h, 4w) pixel basis, nominally [0, 1]. Not in the paper. A
wavelet decoder need not leave the low resolution: a network predicts, per low-band pixel, the 9 details of level 2
and the 36 values of the details of level 1, and the inverse transform does the enlarging. Exact by construction: fed
with the true details it returns the picture. The body is that of SRResNet (spec 3.1), the multiply-adds are half.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.decoders.base import DecoderInfo
from nsbgan_infer.encoders.lifting import idwt2
from nsbgan_infer.storage.architectures import Component, Trained, architecture

BANDS = 3  # cH, cV, cD
COLOURS = 3
LEVEL2 = BANDS * COLOURS  # 9 values at the low band's resolution
LEVEL1 = LEVEL2 * 4  # 36: the same at twice the resolution, one pixel shuffle
INIT_GAIN = 0.1  # residual blocks start near the identity (spec 3.1)


@dataclass(frozen=True)
class SubbandConfig:
    """`blocks` residual blocks of `channels`; `licence` is that of the weights. Scale 4, that is two levels."""

    name: str = "subband-w"
    blocks: int = 16
    channels: int = 64
    licence: str = "none"

    def __post_init__(self) -> None:
        if self.blocks < 1 or self.channels < 1:
            raise ValueError(f"blocks and channels must be at least 1, got {self.blocks} and {self.channels}")


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), 3 x 3 convolutions, no normalisation. Shared with SRResNet."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        out: Tensor = x + self.conv2(F.relu(self.conv1(x)))
        return out


class LowResolutionNetwork(Component):
    """A network that stays at the low band's resolution; its last layer is zero at first. Shared with `photo`."""

    def __init__(self, config: Any, blocks: int, channels: int, outputs: int) -> None:
        super().__init__(config)
        self.conv_first = nn.Conv2d(COLOURS, channels, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(channels) for _ in range(blocks)))
        self.conv_body = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv_last = nn.Conv2d(channels, outputs, 3, padding=1)
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                init_conv(conv, INIT_GAIN)
        init_conv(self.conv_first, 1.0)
        init_conv(self.conv_body, 1.0)
        nn.init.zeros_(self.conv_last.weight)

    def predict(self, low_band: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, outputs, h, w), in the dtype of `low_band`: under autocast later sums stay in fp32."""
        x = F.leaky_relu(self.conv_first(low_band - 0.5), 0.1)  # (B, C, h, w); 0 is mid-grey, like the zero padding
        x = F.leaky_relu(self.conv_body(self.body(x)), 0.1)
        out: Tensor = self.conv_last(x).to(low_band.dtype)
        return out


@architecture
class SubbandDecoder(LowResolutionNetwork):
    """Predicts the details of two levels at the low band's resolution. Starts as `iwt`: the head is zero at first."""

    kind: ClassVar[str] = "decoder"
    arch: ClassVar[str] = "subband"
    Config: ClassVar[type[SubbandConfig]] = SubbandConfig
    tiny = SubbandConfig(blocks=1, channels=8)
    trained = (
        Trained("subband-w", {"blocks": 16, "channels": 64}, second="subband-w-sharp"),
        Trained("subband-w-fast", {"blocks": 8, "channels": 48}),
        Trained("subband-w-tiny", {"blocks": 5, "channels": 32}),
    )
    sentence = (
        "It stays at the low band's resolution: a residual network predicts the details of two wavelet levels, "
        "and two inverse lifting steps enlarge the picture."
    )
    config: SubbandConfig

    def __init__(self, config: SubbandConfig) -> None:
        super().__init__(config, config.blocks, config.channels, LEVEL2 + LEVEL1)

    @property
    def info(self) -> DecoderInfo:
        """Wavelet basis, scale 4. A halo of 12 leaves 0.5 grey levels, 16 leaves 0.04 (shipped weights)."""
        return DecoderInfo(self.config.name, "wavelet", 4, self.config.licence)

    def forward(self, low_band: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, 3, 4h, 4w), unclamped, same dtype."""
        level2, level1 = self.details(low_band)
        return idwt2(idwt2(low_band, level2), level1)

    def details(self, low_band: Tensor) -> tuple[Tensor, Tensor]:
        """The details of level 2 (B, 3, 3, h, w) and of level 1 (B, 3, 3, 2h, 2w): band cH, cV, cD, then colour."""
        x = self.predict(low_band)  # (B, 45, h, w)
        level2 = x[:, :LEVEL2]
        level1 = F.pixel_shuffle(x[:, LEVEL2:], 2)  # (B, 9, 2h, 2w)
        return torch.unflatten(level2, 1, (BANDS, COLOURS)), torch.unflatten(level1, 1, (BANDS, COLOURS))


def init_conv(conv: nn.Conv2d, gain: float) -> None:
    """Kaiming-normal weights (fan in) times `gain`, zero bias (spec 3.1; Wang et al. 2018, ESRGAN, section 3.1)."""
    nn.init.kaiming_normal_(conv.weight)
    conv.weight.data.mul_(gain)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)

"""Step 4, decoder `unet-p`: enlarge, then a UNet at full size adds what is missing, twice (paper appendix C.3).

(B, 3, h, w) pixel basis, nominally [0, 1] -> (B, 3, 4h, 4w), nominally [0, 1], for h and w that are multiples of 8.
Each of the two networks (the paper's levels 1 and 2: 64 -> 128 and 128 -> 256) sees its input enlarged by 2 and
predicts the residual: x = y + f(y).

Deviation from the authors' code: there y is a centre-anchored bilinear enlargement of a bilinear reduction; here it
is linear with sample k at pixel 2k, where the Gaussian encoder of the pixel basis puts it (spec section 8, row 7).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from nsbgan_infer.decoders.base import DecoderInfo
from nsbgan_infer.decoders.unet import LEVEL_MISSING, Down, Up, double_conv
from nsbgan_infer.encoders.lifting import idwt2
from nsbgan_infer.errors import UsageError
from nsbgan_infer.storage.architectures import Component, architecture

COLOURS = 3
MULTIPLE = 8  # the first network pools 2h four times


@dataclass(frozen=True)
class UNetPConfig:
    """`width` channels at full size, up to 8 times as many below (the paper: 64). `networks` are those inside:
    (1, 2), (1,) (scale 2) or (2,) (scale 2 too: network 2 alone takes the second step)."""

    name: str = "unet-p"
    width: int = 64
    networks: tuple[int, ...] = (1, 2)
    licence: str = "none"

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width must be at least 1, got {self.width}")
        if self.networks not in ((1, 2), (1,), (2,)):
            raise ValueError(f"networks must be (1, 2), (1,) or (2,), got {self.networks}")


class ResidualUNet(nn.Module):
    """The classic bilinear UNet, w-2w-4w-8w-8w and back, with a 3 x 3 convolution at the end (spec 4.6)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        w = width
        self.inc = double_conv(COLOURS, w)
        self.downs = nn.ModuleList((Down(w, 2 * w), Down(2 * w, 4 * w), Down(4 * w, 8 * w), Down(8 * w, 8 * w)))
        self.ups = nn.ModuleList((Up(16 * w, 4 * w), Up(8 * w, 2 * w), Up(4 * w, w), Up(2 * w, w)))
        self.out = nn.Conv2d(w, COLOURS, 3, padding=1)

    def forward(self, y: Tensor) -> Tensor:
        """(B, 3, H, W) -> the residual, (B, 3, H, W); H and W at least 16."""
        maps = [self.inc(y)]
        for down in self.downs:
            maps.append(down(maps[-1]))
        x = maps.pop()
        for up in self.ups:
            x = up(x, maps.pop())
        out: Tensor = self.out(x)
        return out


@architecture
class UNetP(Component):
    """The paper's UNet decoder in the pixel basis: two networks of 17,269,059 parameters each at width 64."""

    kind: ClassVar[str] = "decoder"
    arch: ClassVar[str] = "unet-p"
    Config: ClassVar[type[UNetPConfig]] = UNetPConfig
    tiny = UNetPConfig(width=2)
    sentence = "Two UNets, one for each doubling, refine the enlarged picture."
    config: UNetPConfig

    def __init__(self, config: UNetPConfig) -> None:
        super().__init__(config)
        self.networks = nn.ModuleDict({str(n): ResidualUNet(config.width) for n in config.networks})

    @property
    def info(self) -> DecoderInfo:
        """Pixel basis, scale 2 for each network. No halo: see `unet.Up`."""
        scale = 2 ** len(self.networks)
        return DecoderInfo(self.config.name, "pixel", scale, self.config.licence, halo=None, multiple=MULTIPLE)

    def caveat(self) -> str:
        """Says which level is missing."""
        have = self.config.networks
        return "" if len(have) == 2 else LEVEL_MISSING.format(self.config.name, have[0], 3 - have[0], "it only doubles")

    def forward(self, low_band: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, 3, scale * h, scale * w), unclamped, same dtype."""
        x = low_band
        for network in self.networks.values():
            x = double(network, x)
        return x


def double(network: nn.Module, x: Tensor) -> Tensor:
    """One step: (B, 3, h, w) -> (B, 3, 2h, 2w), y + f(y) with y the enlarged x."""
    y = idwt2(x, None)  # linear, sample k at pixel 2k, the border repeated
    out: Tensor = y + network(y).to(x.dtype)  # under autocast the sum stays in fp32
    return out


def join_networks(first: UNetP, second: UNetP) -> UNetP:
    """One decoder of scale 4 from network 1 of `first` and network 2 of `second`, which may have been trained apart.

    Takes name and licence from `second`. Raises UsageError if one lacks its network or they differ in width.
    """
    if "1" not in first.networks or "2" not in second.networks:
        raise UsageError("Joining needs a unet-p with network 1 and one with network 2, in this order.")
    a, b = first.config, second.config
    if a.width != b.width:
        raise UsageError(f"Network 1 has width {a.width}, network 2 has {b.width}: train them with the same width.")
    joined = UNetP(UNetPConfig(b.name, b.width, (1, 2), b.licence))
    for number, source in (("1", first), ("2", second)):
        joined.networks[number].load_state_dict(source.networks[number].state_dict())
    return joined.train(second.training)

"""Step 4, decoder `unet-w`: low band -> details as wavelet-packet patches -> inverse transforms (paper appendix C.3).

(B, 3, h, w) wavelet basis, nominally [0, 1] -> (B, 3, 4h, 4w) pixel basis, nominally [0, 1], for h and w that are
multiples of 16. All bands are cut by further wavelet transforms into patches of h/2 x w/2 (the paper: 64 -> 32), so
that both networks run at that small size:

* network 1 (the paper's level 1, 64 -> 128) sees the 4 patches of the low band and predicts the details of level 2,
  3 bands x 4 patches = 12 heads;
* network 2 (the paper's level 2, 128 -> 256) sees those 4 + 12 patches and predicts the details of level 1,
  3 bands x 16 patches = 48 heads.

Inside, values are raw wavelet coefficients as in the paper: TL-2 = 4 * low band. Unlike the
authors' code the low band itself is kept for the way back, not transformed and returned (spec section 8, row 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from nsbgan_infer.decoders.base import DecoderInfo
from nsbgan_infer.decoders.unet import LEVEL_MISSING, Down, Up, double_conv
from nsbgan_infer.encoders.lifting import Boundary, check_boundary, dwt2, idwt2
from nsbgan_infer.errors import UsageError
from nsbgan_infer.storage.architectures import Component, architecture

COLOURS = 3
LOW, COARSE, FINE = 4, 12, 48  # patches of the low band, of the details of level 2, of the details of level 1
DEPTH = 3  # poolings: 32 -> 16 -> 8 -> 4
MULTIPLE = 2 * 2**DEPTH


@dataclass(frozen=True)
class UNetWConfig:
    """`width` channels throughout (the paper: 512; each head has half as many). `networks` are those inside: (1, 2),
    (1,) (the details of level 1 are zero) or (2,) (what its trainer saves without network 1; it cannot decode).
    """

    name: str = "unet-w"
    width: int = 512
    networks: tuple[int, ...] = (1, 2)
    boundary: Boundary = "symmetric"
    licence: str = "none"

    def __post_init__(self) -> None:
        check_boundary(self.boundary)
        if self.width < 2 or self.width % 2:
            raise ValueError(f"width must be even and at least 2, got {self.width}")
        if self.networks not in ((1, 2), (1,), (2,)):
            raise ValueError(f"networks must be (1, 2), (1,) or (2,), got {self.networks}")


class Patches(NamedTuple):
    """All bands of a two-level pyramid, raw, cut to one size: band cH, cV, cD, then quadrant (of 16: outer, then
    inner), then colour. `low` (B, 12, h/2, w/2), `coarse` (B, 36, h/2, w/2), `fine` (B, 144, h/2, w/2).
    """

    low: Tensor
    coarse: Tensor
    fine: Tensor


def subdivide(low: Tensor, level2: Tensor, level1: Tensor, boundary: Boundary = "symmetric") -> Patches:
    """Low band (B, 3, h, w), details (B, 3, 3, h, w) and (B, 3, 3, 2h, 2w), all gain-free -> patches (spec 4.3)."""
    return Patches(low_patches(low, boundary), _packet(4 * level2, 1, boundary), _packet(2 * level1, 2, boundary))


def low_patches(low: Tensor, boundary: Boundary = "symmetric") -> Tensor:
    """The low band alone: (B, 3, h, w) gain-free -> (B, 12, h/2, w/2) raw. Needs even h and w."""
    return _packet(4 * low[:, None], 1, boundary)


def details_of(coarse: Tensor, fine: Tensor | None, boundary: Boundary = "symmetric") -> tuple[Tensor, Tensor | None]:
    """The inverse of `subdivide` for the details: level 2 (B, 3, 3, h, w) and level 1 (B, 3, 3, 2h, 2w), gain-free."""
    level1 = None if fine is None else _unpacket(fine, 2, boundary) / 2
    return _unpacket(coarse, 1, boundary) / 4, level1


def compose(low: Tensor, coarse: Tensor, fine: Tensor | None, boundary: Boundary = "symmetric") -> Tensor:
    """Low band and patches -> picture (B, 3, 4h, 4w) (spec 4.4). `fine` None: the details of level 1 are zero."""
    level2, level1 = details_of(coarse, fine, boundary)
    return idwt2(idwt2(low, level2, boundary), level1, boundary)


def _packet(bands: Tensor, times: int, boundary: Boundary) -> Tensor:
    """(B, N, 3, H, W) -> (B, N * 4^times * 3, H / 2^times, W / 2^times): all quadrants are transformed again."""
    for _ in range(times):
        low, details = dwt2(bands, boundary)
        quadrants = torch.cat((low[:, :, None], details), dim=2)  # (B, N, 4, 3, H/2, W/2)
        bands = 2 * quadrants.flatten(1, 2)  # the raw transform has gain 2
    return bands.flatten(1, 2)


def _unpacket(patches: Tensor, times: int, boundary: Boundary) -> Tensor:
    """The inverse of `_packet`: (B, N * 4^times * 3, h, w) -> (B, N, 3, h * 2^times, w * 2^times)."""
    bands = torch.unflatten(patches, 1, (-1, COLOURS))
    for _ in range(times):
        quadrants = torch.unflatten(bands, 1, (-1, 4))
        bands = idwt2(quadrants[:, :, 0], quadrants[:, :, 1:], boundary) / 2
    return bands


class PatchUNet(nn.Module):
    """A UNet at patch size with `heads` independent heads of two convolutions, each for one patch (spec 4.2).

    The heads share their input, so their first convolutions are one with heads * width / 2 outputs, and their second
    ones one grouped convolution: the same sums as separate heads, in two calls.

    Raw values differ in size by a factor of 200 from patch to patch, which makes learning slow. The buffers `shift`,
    `divisor` (inputs) and `gain` (outputs), one value a channel, even that out; at 0, 1, 1 the network is the paper's.
    """

    shift: Tensor
    divisor: Tensor
    gain: Tensor

    def __init__(self, patches: int, heads: int, width: int) -> None:
        super().__init__()
        self.register_buffer("shift", torch.zeros(patches * COLOURS, 1, 1))
        self.register_buffer("divisor", torch.ones(patches * COLOURS, 1, 1))
        self.register_buffer("gain", torch.ones(heads * COLOURS, 1, 1))
        self.inc = double_conv(patches * COLOURS, width)
        self.downs = nn.ModuleList(Down(width, width) for _ in range(DEPTH))
        self.ups = nn.ModuleList(Up(2 * width, width) for _ in range(DEPTH))
        self.heads = nn.Sequential(
            nn.Conv2d(width, heads * width // 2, 3, padding=1),
            nn.BatchNorm2d(heads * width // 2),
            nn.ReLU(inplace=True),
            nn.Conv2d(heads * width // 2, heads * COLOURS, 3, padding=1, groups=heads),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, 3 * patches, h, w) -> (B, 3 * heads, h, w), raw wavelet values; h and w at least 8."""
        maps = [self.inc((x - self.shift) / self.divisor)]  # (B, width, h, w)
        for down in self.downs:
            maps.append(down(maps[-1]))  # ... (B, width, h/8, w/8)
        y = maps.pop()
        for up in self.ups:
            y = up(y, maps.pop())
        out: Tensor = self.heads(y) * self.gain
        return out


@architecture
class UNetW(Component):
    """The paper's UNet decoder in the wavelet basis: 52,073,508 and 94,983,312 parameters at width 512."""

    kind: ClassVar[str] = "decoder"
    arch: ClassVar[str] = "unet-w"
    Config: ClassVar[type[UNetWConfig]] = UNetWConfig
    tiny = UNetWConfig(width=4)
    sentence = "Two UNets, one for each doubling, predict wavelet details from 32 x 32 patches."
    config: UNetWConfig

    def __init__(self, config: UNetWConfig) -> None:
        super().__init__(config)
        has1, has2 = (n in config.networks for n in (1, 2))
        self.network1 = PatchUNet(LOW, COARSE, config.width) if has1 else None
        self.network2 = PatchUNet(LOW + COARSE, FINE, config.width) if has2 else None

    @property
    def info(self) -> DecoderInfo:
        """Wavelet basis, scale 4. No halo: see `unet.Up`."""
        return DecoderInfo(self.config.name, "wavelet", 4, self.config.licence, halo=None, multiple=MULTIPLE)

    def caveat(self) -> str:
        """Says which level is missing."""
        have = self.config.networks
        lacks = "the finest details are zero" if have == (1,) else "it cannot decode"
        return "" if len(have) == 2 else LEVEL_MISSING.format(self.config.name, have[0], 3 - have[0], lacks)

    def forward(self, low_band: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, 3, 4h, 4w), unclamped. Raises UsageError if network 1 is missing."""
        if self.network1 is None:
            raise UsageError(
                f"{self.config.name} holds network 2 alone, which cannot decode: join it with a trained network 1."
            )
        low = low_patches(low_band, self.config.boundary)  # (B, 12, h/2, w/2)
        coarse = self.network1(low)  # (B, 36, h/2, w/2)
        fine = self.network2(torch.cat((low, coarse), dim=1)) if self.network2 is not None else None  # (B, 144, ...)
        coarse, fine = coarse.to(low_band.dtype), None if fine is None else fine.to(low_band.dtype)  # under autocast
        return compose(low_band, coarse, fine, self.config.boundary)


def join_networks(first: UNetW, second: UNetW) -> UNetW:
    """One decoder from network 1 of `first` and network 2 of `second`, which may have been trained apart.

    Takes name and licence from `second`. Raises UsageError if one lacks its network or they differ in width or
    boundary.
    """
    if first.network1 is None or second.network2 is None:
        raise UsageError("Joining needs a unet-w with network 1 and one with network 2, in this order.")
    a, b = first.config, second.config
    if (a.width, a.boundary) != (b.width, b.boundary):
        raise UsageError(
            f"Network 1 has width {a.width} and boundary {a.boundary}, network 2 has {b.width} and {b.boundary}: "
            "train them with the same settings."
        )
    joined = UNetW(UNetWConfig(b.name, b.width, (1, 2), b.boundary, b.licence))
    assert joined.network1 is not None and joined.network2 is not None
    joined.network1.load_state_dict(first.network1.state_dict())
    joined.network2.load_state_dict(second.network2.state_dict())
    return joined.train(second.training)

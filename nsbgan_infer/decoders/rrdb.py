"""Step 4, decoder `rrdb`: ESRGAN's own generator, RRDBNet (Wang et al. 2018, arXiv:1809.00219), and files of it.

(B, 3, h, w) pixel basis, a `bicubic` reduction, nominally [0, 1] -> (B, 3, scale h, scale w), nominally [0, 1]. Most
upscalers that people have trained are this network. Parameter names are those of BasicSR; `from_public_layout` reads
the two older spellings too, and any width, growth and number of blocks.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.decoders.base import DecoderInfo
from nsbgan_infer.decoders.subband import COLOURS, INIT_GAIN, init_conv
from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.storage.architectures import Component, Trained, architecture
from nsbgan_infer.storage.components import check_tensors, empty_weights
from nsbgan_infer.storage.layouts import Layout, offer

SLOPE = 0.2  # of the leaky ReLUs
SHARE = 0.2  # of what a dense block and a block of three add to their input
DENSE = 5  # convolutions of a dense block
HALO = 32  # samples; the blocks could see farther, but hardly do


@dataclass(frozen=True)
class RRDBConfig:
    """The network's size; the values here are those of the published x4 files (16,697,987 parameters)."""

    name: str = "rrdb"
    scale: int = 4
    """By how much it enlarges: 2, 4, 8 or 16."""
    blocks: int = 23
    """Blocks of three dense blocks each."""
    channels: int = 64
    """Width of the body."""
    growth: int = 32
    """What each convolution of a dense block adds to its input's channels."""
    unshuffle: int = 1
    """2 for files that fold 2 x 2 pixels into channels first and enlarge once more (Real-ESRGAN's x2), else 1."""
    licence: str = "none"
    """That of the weights."""

    def __post_init__(self) -> None:
        if self.scale not in (2, 4, 8, 16) or self.unshuffle not in (1, 2):
            raise ValueError(f"scale must be 2, 4, 8 or 16 and unshuffle 1 or 2, got {self.scale} and {self.unshuffle}")
        if min(self.blocks, self.channels, self.growth) < 1:
            raise ValueError("blocks, channels and growth must be at least 1")

    @property
    def doublings(self) -> int:
        """How often the network doubles the side of its maps."""
        return (self.scale * self.unshuffle).bit_length() - 1


class DenseBlock(nn.Module):
    """Five 3 x 3 convolutions, each of all that came before; x + 0.2 times the last one's output."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        for i in range(DENSE):
            out = growth if i < DENSE - 1 else channels
            self.add_module(f"conv{i + 1}", nn.Conv2d(channels + i * growth, out, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        *growing, last = self.children()
        seen = x
        for conv in growing:
            seen = torch.cat([seen, F.leaky_relu(conv(seen), SLOPE)], dim=1)  # (B, C + i * growth, h, w)
        out: Tensor = x + SHARE * last(seen)
        return out


class ResidualDenseBlocks(nn.Module):
    """Three dense blocks; x + 0.2 times the last one's output."""

    def __init__(self, channels: int, growth: int) -> None:
        super().__init__()
        self.rdb1 = DenseBlock(channels, growth)
        self.rdb2 = DenseBlock(channels, growth)
        self.rdb3 = DenseBlock(channels, growth)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> the same shape."""
        out: Tensor = x + SHARE * self.rdb3(self.rdb2(self.rdb1(x)))
        return out


@architecture
class RRDB(Component):
    """conv, residual dense blocks with a skip over all, nearest x2 + conv for each doubling, two convs."""

    kind: ClassVar[str] = "decoder"
    arch: ClassVar[str] = "rrdb"
    Config: ClassVar[type[RRDBConfig]] = RRDBConfig
    tiny = RRDBConfig(blocks=1, channels=8, growth=4)
    trained = (Trained("rrdb", {}, second="rrdb-sharp"),)
    sentence = (
        "ESRGAN's generator: residual dense blocks at the low resolution, then nearest-neighbour doublings, each "
        "with a convolution."
    )
    config: RRDBConfig

    def __init__(self, config: RRDBConfig) -> None:
        super().__init__(config)
        width = config.channels
        self.conv_first = nn.Conv2d(COLOURS * config.unshuffle**2, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualDenseBlocks(width, config.growth) for _ in range(config.blocks)))
        self.conv_body = nn.Conv2d(width, width, 3, padding=1)
        for i in range(config.doublings):
            self.add_module(f"conv_up{i + 1}", nn.Conv2d(width, width, 3, padding=1))
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, COLOURS, 3, padding=1)
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                init_conv(conv, 1.0)
        for conv in self.body.modules():  # section 3.1: small, so that many blocks can be trained
            if isinstance(conv, nn.Conv2d):
                init_conv(conv, INIT_GAIN)

    @property
    def info(self) -> DecoderInfo:
        """Pixel basis; sides are multiples of `unshuffle`. The halo is all that a small network sees, at most 32."""
        config = self.config
        reach = config.unshuffle * (2 + DENSE * 3 * config.blocks + 2)  # what follows the body counts for less than 2
        return DecoderInfo(
            config.name,
            "pixel",
            config.scale,
            config.licence,
            halo=min(HALO, reach),
            multiple=config.unshuffle,
            reads="bicubic",
        )

    def forward(self, low_band: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, 3, scale h, scale w), unclamped, same dtype."""
        x = F.pixel_unshuffle(low_band, self.config.unshuffle) if self.config.unshuffle > 1 else low_band
        x = self.conv_first(x)  # (B, C, h / unshuffle, w / unshuffle)
        x = x + self.conv_body(self.body(x))
        for i in range(self.config.doublings):
            conv = self.get_submodule(f"conv_up{i + 1}")
            x = F.leaky_relu(conv(F.interpolate(x, scale_factor=2.0, mode="nearest")), SLOPE)
        picture: Tensor = self.conv_last(F.leaky_relu(self.conv_hr(x), SLOPE))  # (B, 3, scale h, scale w)
        return picture.to(low_band.dtype)


# spelling -> (pattern, what it becomes in BasicSR's names); the oldest one's last layers are counted, see below
ESRGAN_NAMES = (
    (r"RRDB_trunk\.(\d+)\.RDB(\d)\.conv(\d)\.", r"body.\1.rdb\2.conv\3."),
    (r"trunk_conv\.", "conv_body."),
    (r"upconv(\d)\.", r"conv_up\1."),
    (r"HRconv\.", "conv_hr."),
)
OLD_NAMES = (
    (r"model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.", r"body.\1.rdb\2.conv\3."),
    (r"model\.0\.", "conv_first."),
)


def is_public_layout(names: Mapping[str, Tensor]) -> bool:
    """Whether these are the names of an RRDBNet in one of its three spellings."""
    first = ("body.0.rdb1.conv1.weight", "RRDB_trunk.0.RDB1.conv1.weight", "model.1.sub.0.RDB1.conv1.0.weight")
    return any(name in names for name in first)


def from_public_layout(tensors: Mapping[str, Tensor], *, name: str, licence: str = "unknown") -> RRDB:
    """The decoder of an RRDBNet's state dict, spelled as BasicSR, ESRGAN or ESRGAN's old code do; sizes are read from
    its shapes. In eval mode, without gradients, fp32.

    Raises CheckpointError for names or shapes that are not an RRDBNet's, and for one that does not enlarge RGB to RGB.
    """
    own = _basicsr_names(tensors)
    config = _tell_config(own, name, licence)
    with empty_weights():
        decoder = RRDB(config)
    check_tensors({k: {"shape": list(v.shape)} for k, v in own.items()}, decoder.state_dict(), label=name)
    decoder.load_state_dict({k: v.float().contiguous() for k, v in own.items()}, strict=True, assign=True)
    return decoder.eval().requires_grad_(False)


def _basicsr_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    if "model.0.weight" not in tensors:
        return {_rename(k, ESRGAN_NAMES): v for k, v in tensors.items()}
    blocks = _count(tensors, r"model\.1\.sub\.(\d+)\.RDB1\.conv1\.0\.weight")
    numbers = sorted(int(m[1]) for k in tensors if (m := re.fullmatch(r"model\.(\d+)\.weight", k)))
    ups = max(0, len(numbers) - 3)  # first, HR and last are the others
    rest = [f"conv_up{i + 1}." for i in range(ups)] + ["conv_hr.", "conv_last."]
    later = tuple((rf"model\.{n}\.", new) for n, new in zip(numbers[1:], rest, strict=False))
    return {
        _rename(k, (*OLD_NAMES, (rf"model\.1\.sub\.{blocks}\.", "conv_body."), *later)): v for k, v in tensors.items()
    }


def _rename(key: str, table: tuple[tuple[str, str], ...]) -> str:
    for pattern, new in table:
        if re.match(pattern, key):
            return re.sub(rf"^{pattern}", new, key)
    return key


def _tell_config(tensors: Mapping[str, Tensor], name: str, licence: str) -> RRDBConfig:
    """The configuration that the shapes of BasicSR's names belong to."""
    first, dense = tensors.get("conv_first.weight"), tensors.get("body.0.rdb1.conv1.weight")
    if first is None or dense is None or first.ndim != 4 or dense.ndim != 4:
        raise CheckpointError(f"{name} holds no RRDBNet: conv_first or its first dense block is missing.")
    ups = _count(tensors, r"conv_up(\d+)\.weight", start=1)
    folded = {COLOURS: 1, COLOURS * 4: 2, COLOURS * 16: 4}.get(first.shape[1])
    if folded is None:
        raise CheckpointError(f"{name} takes {first.shape[1]} channels: a decoder needs RGB, that is 3, or 12 at x2.")
    scale = 2**ups // folded
    try:
        return RRDBConfig(
            name=name,
            scale=scale,
            blocks=_count(tensors, r"body\.(\d+)\.rdb1\.conv1\.weight"),
            channels=first.shape[0],
            growth=dense.shape[0],
            unshuffle=folded,
            licence=licence,
        )
    except ValueError:
        raise CheckpointError(f"{name} enlarges by {scale}: a decoder enlarges by 2, 4, 8 or 16.") from None


def _count(tensors: Mapping[str, Tensor], pattern: str, start: int = 0) -> int:
    """How many numbers, from `start` on without a gap, `pattern` finds among the names."""
    found = {int(m[1]) for k in tensors if (m := re.fullmatch(pattern, k))}
    count = 0
    while start + count in found:
        count += 1
    return count


offer(
    Layout(
        "rrdb",
        "RRDBNet as BasicSR and ESRGAN have it: Real-ESRGAN's and most upscalers' files",
        lambda checkpoint: is_public_layout(checkpoint.tensors),
        lambda checkpoint, name, licence: from_public_layout(checkpoint.tensors, name=name, licence=licence),
    )
)

"""What every decoder promises (step 4: low band -> decoded picture)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from nsbgan_infer.encoders.base import Basis
from nsbgan_infer.reductions import OF_BASIS, Reduction, reduction


@dataclass(frozen=True)
class DecoderInfo:
    """What a decoder is.

    `basis`: what the low band's numbers mean; `scale`: 2 or 4 (foreign upscalers: any), by which it enlarges;
    `licence`: that of the weights, `none` without weights; `halo`: how many low-band pixels around a tile make the
    tile's inside equal the whole within one grey level, None for a decoder that must not be tiled;
    `multiple`: the low band's height and width must be multiples of this (the caller pads and crops);
    `reads`: the reduction that its low bands are (`reductions`), by default the paper's of its basis.
    """

    name: str
    basis: Basis
    scale: int
    licence: str
    halo: int | None = 16
    multiple: int = 1
    reads: str = ""

    def __post_init__(self) -> None:
        if not self.reads and self.basis in OF_BASIS:
            object.__setattr__(self, "reads", OF_BASIS[self.basis])

    @property
    def reduction(self) -> Reduction:
        """What it reads. Raises UnknownNameError if there is no such reduction."""
        return reduction(self.reads)


class Decoder(Protocol):
    """Enlarges.

    Called with a low band (B, 3, h, w), float, RGB, nominally [0, 1], gain-free, it returns
    (B, 3, scale * h, scale * w) in the pixel basis, nominally [0, 1], unclamped, same dtype and device. Any h, w >= 8
    that are multiples of `info.multiple`. Deterministic. It may use values outside [0, 1] of its input, and never
    asserts on data. Sample k of the low band sits where the anchor of what it reads says: at pixel scale * k (corner)
    or at scale * k + (scale - 1) / 2 (centre).
    """

    @property
    def info(self) -> DecoderInfo: ...

    def __call__(self, low_band: Tensor) -> Tensor: ...

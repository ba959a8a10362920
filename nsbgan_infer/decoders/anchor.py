"""Step 4 on the grid of what came in: the result of a decoder lies over the picture that it enlarged.

A `corner` decoder puts sample k at pixel s * k of its result, a `centre` one at s * k + (s - 1) / 2. Fed with a picture
of the other anchor, its result lies (s - 1) / 2 pixels beside it, and is moved back here: by whole pixels exactly, by a
half pixel with Lagrange's interpolation through the eight nearest pixels, which is exact for polynomials up to the
seventh degree and flat to within 1 % up to half of the result's Nyquist frequency, that is, for all that a picture
enlarged by 2 or more can hold. A decoder that can do better has `anchored(anchor)`, which returns itself on that grid.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Protocol, runtime_checkable

import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.decoders.tiling import decode
from nsbgan_infer.reductions import Anchor

TAPS = 8
RIM = 4  # samples by which a picture is extended before, so that what is moved in is decoded too: 2 * RIM >= TAPS / 2


@runtime_checkable
class Anchored(Protocol):
    """A decoder that works on either grid."""

    def anchored(self, anchor: Anchor) -> Decoder: ...


def moves(decoder: Decoder, anchor: Anchor) -> float:
    """By how many pixels right and down the result of `decoder` must be moved, to lie on the grid of `anchor`."""
    own = decoder.info.reduction.anchor
    if own == anchor or isinstance(decoder, Anchored):
        return 0.0
    offset = (decoder.info.scale - 1) / 2
    return offset if anchor == "centre" else -offset


def decode_over(
    decoder: Decoder,
    low_band: Tensor,
    anchor: Anchor,
    *,
    micro_batch: int | None = None,
    tile: int | None = None,
    gradients: bool = False,
) -> Tensor:
    """`tiling.decode` for low bands (B, 3, h, w) whose samples lie at `anchor`, with the result on their grid.

    (B, 3, scale * h, scale * w). Raises as `decode`.
    """
    if isinstance(decoder, Anchored) and decoder.info.reduction.anchor != anchor:
        decoder = decoder.anchored(anchor)
    by = moves(decoder, anchor)
    if not by:
        return decode(decoder, low_band, micro_batch=micro_batch, tile=tile, gradients=gradients)
    scale = decoder.info.scale
    extended = F.pad(low_band, (RIM,) * 4, mode="replicate")
    large = move(decode(decoder, extended, micro_batch=micro_batch, tile=tile, gradients=gradients), by)
    rim = RIM * scale
    return large[..., rim : large.shape[-2] - rim, rim : large.shape[-1] - rim]


def move(picture: Tensor, by: float) -> Tensor:
    """The content of `picture` (..., H, W) moved right and down by `by` pixels, the border pixels repeated."""
    first, taps = move_taps(by)
    x = picture if picture.itemsize >= 4 else picture.float()
    for dim in (-2, -1):
        length = x.shape[dim]
        padding = (max(0, -first), max(0, first + len(taps) - 1))
        padded = _repeat_border(x, dim, *padding)
        start = first + padding[0]
        total = padded.narrow(dim, start, length) * taps[0]
        for j, weight in enumerate(taps[1:], 1):
            total = total.add(padded.narrow(dim, start + j, length), alpha=weight)
        x = total
    return x.to(picture.dtype)


@cache
def move_taps(by: float) -> tuple[int, tuple[float, ...]]:
    """`first`, `taps`: pixel i of what is moved is the sum of taps[j] * x[i + first + j]."""
    if by == round(by):
        return -round(by), (1.0,)
    nearest = math.floor(-by) - TAPS // 2 + 1  # the places used are nearest .. nearest + TAPS - 1, around -by
    places = range(nearest, nearest + TAPS)

    def weight(own: int) -> float:
        return math.prod((-by - other) / (own - other) for other in places if other != own)

    return nearest, tuple(map(weight, places))


def _repeat_border(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    padding = (0, 0, before, after) if dim == -2 else (before, after, 0, 0)
    return F.pad(x, padding, mode="replicate")

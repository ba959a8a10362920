"""Step 4, run with the memory that there is: micro-batches, halved on out-of-memory, then tiles.

(B, 3, h, w) low bands of any size -> (B, 3, scale * h, scale * w), unclamped. Sides that are no multiple of
`info.multiple`, or shorter than 8, are extended by repeating the border and cropped back.

A tile is a square of the low band. The decoder sees it with a margin of `overlap` + FEATHER samples on every side and
the results are blended linearly over 2 * FEATHER samples across each seam. With `overlap` = `info.halo` the tiled
picture equals the whole one within one grey level.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.decoders.base import Decoder, DecoderInfo
from nsbgan_infer.errors import NonFiniteError, UsageError, WorkError

SMALLEST = 8  # the shortest side that every decoder accepts
FEATHER = 2  # half the width of a seam's blend, in low-band samples
MESSAGES = ("out of memory", "not enough memory", "can't allocate memory")


def decode(
    decoder: Decoder,
    low_band: Tensor,
    *,
    micro_batch: int | None = None,
    tile: int | None = None,
    overlap: int | None = None,
    gradients: bool = False,
) -> Tensor:
    """Decode a batch of low bands (B, 3, h, w), RGB, nominally [0, 1], without gradients unless they are asked for.

    `micro_batch`: how many at a time (default: all; halved whenever memory runs out). `tile`: the side of a tile in
    low-band samples (default: none, until a single low band does not fit). `overlap` defaults to `info.halo`. Raises
    UsageError for a decoder that must not be tiled, WorkError when even the smallest tiles do not fit and
    NonFiniteError when the result holds NaN or infinity.
    """
    info = decoder.info
    _check_arguments(info, low_band, micro_batch, tile, overlap)
    margin = (info.halo or 0) if overlap is None else overlap
    size, start, parts = micro_batch or len(low_band), 0, []
    with torch.set_grad_enabled(gradients):
        while start < len(low_band):
            part = _attempt(decoder, low_band[start : start + size], tile, margin)
            if part is not None:
                parts.append(part)
                start += size
            elif size > 1:
                size = (size + 1) // 2
            else:
                tile = _smaller_tile(info, low_band, tile)
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch means that memory ran out (CUDA, MPS, or the allocators of the CPU)."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(m in str(error).lower() for m in MESSAGES)


def decode_whole(decoder: Decoder, low_band: Tensor) -> Tensor:
    """One call of the decoder on low bands of any size: extended to what it takes, cropped back, checked."""
    info = decoder.info
    h, w = low_band.shape[-2:]
    out = decoder(extend(low_band, info.multiple))[..., : h * info.scale, : w * info.scale]
    if not torch.isfinite(out).all():
        cause = "its input held some already" if not torch.isfinite(low_band).all() else "its input held none"
        raise NonFiniteError(
            f"NaN or infinity came out of step 4 (decoder {info.name}), {cause}: run with --dtype fp32, or check the "
            "weights."
        )
    return out


def extend(low_band: Tensor, multiple: int) -> Tensor:
    """Repeat the last row and column until both sides are multiples of `multiple` and at least 8."""
    shortest = -(-SMALLEST // multiple) * multiple
    h, w = low_band.shape[-2:]
    down, right = (max(shortest - n, -n % multiple) for n in (h, w))
    return F.pad(low_band, (0, right, 0, down), mode="replicate") if down or right else low_band


def decode_tiled(decoder: Decoder, low_band: Tensor, tile: int, margin: int) -> Tensor:
    """Decode tile by tile: `tile` samples a side, seen with `margin` + FEATHER more, blended across the seams."""
    info = decoder.info
    h, w = low_band.shape[-2:]
    low_band = extend(low_band, info.multiple)
    b, c, full_h, full_w = low_band.shape
    rows, columns = (_spans(n, tile, margin, info) for n in (full_h, full_w))
    out: Tensor | None = None
    for top, bottom, row_weights in rows:
        for left, right, column_weights in columns:
            part = decode_whole(decoder, low_band[..., top:bottom, left:right])
            if out is None:  # the sum is kept in fp32 at least
                dtype = torch.promote_types(part.dtype, torch.float32)
                out = part.new_zeros(b, c, full_h * info.scale, full_w * info.scale, dtype=dtype)
            weights = (row_weights[:, None] * column_weights[None, :]).to(out)
            y, x = top * info.scale, left * info.scale
            out[..., y : y + part.shape[-2], x : x + part.shape[-1]] += part * weights
    assert out is not None
    return out[..., : h * info.scale, : w * info.scale].to(part.dtype)


def _spans(length: int, tile: int, margin: int, info: DecoderInfo) -> list[tuple[int, int, Tensor]]:
    """The tiles along one axis: start and stop of what is seen, and a weight for each pixel that comes of it.

    At every pixel the weights of all tiles sum to 1: each rises over 2 * FEATHER samples across the seam before it,
    and the tile before falls as it rises.
    """
    tile, margin = (-(-n // info.multiple) * info.multiple for n in (max(tile, SMALLEST), margin + FEATHER))
    seams = [n for n in range(tile, length, tile) if length - n >= 2 * FEATHER]
    spans = []
    for begin, end in zip([0, *seams], [*seams, length], strict=True):
        start, stop = max(0, begin - margin), min(length, end + margin)
        pixels = torch.arange(start * info.scale, stop * info.scale, dtype=torch.float64)
        position = (pixels + 0.5) / info.scale
        rising = _rise(position, begin) if begin else torch.ones_like(position)
        falling = 1 - _rise(position, end) if end < length else torch.ones_like(position)
        spans.append((start, stop, rising * falling))
    return spans


def _rise(position: Tensor, seam: int) -> Tensor:
    return ((position - seam) / (2 * FEATHER) + 0.5).clamp(0, 1)


def _attempt(decoder: Decoder, low_band: Tensor, tile: int | None, margin: int) -> Tensor | None:
    """The decoded part, or None if memory ran out (after giving back what the attempt held)."""
    try:
        if tile is None:
            return decode_whole(decoder, low_band)
        return decode_tiled(decoder, low_band, tile, margin)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    if low_band.device.type == "cuda":
        torch.cuda.empty_cache()
    return None


def _smaller_tile(info: DecoderInfo, low_band: Tensor, tile: int | None) -> int:
    """Half the present tile. Raises WorkError if there is no smaller one or the decoder must not be tiled."""
    h, w = low_band.shape[-2:]
    smaller = (tile or max(h, w)) // 2
    if info.halo is None or smaller < SMALLEST:
        why = "it must not be cut into tiles" if info.halo is None else "even its smallest tiles do not fit"
        raise WorkError(
            f"Memory ran out in step 4 (decoder {info.name}) on a {h} x {w} low band, and {why}: take a smaller "
            "picture, another decoder, or a device with more memory."
        )
    return smaller


def _check_arguments(
    info: DecoderInfo, low_band: Tensor, micro_batch: int | None, tile: int | None, overlap: int | None
) -> None:
    if low_band.ndim != 4 or low_band.shape[1] != 3 or low_band.numel() == 0:
        raise UsageError(f"A decoder takes low bands of shape (B, 3, h, w), not {tuple(low_band.shape)}.")
    if micro_batch is not None and micro_batch < 1:
        raise UsageError(f"A micro-batch holds at least one low band, not {micro_batch}.")
    if tile is None:
        return
    if info.halo is None:
        raise UsageError(
            f"The decoder {info.name} must not be cut into tiles (each pixel depends on the whole picture): leave out "
            "the tile size or take another decoder."
        )
    if tile < SMALLEST:
        raise UsageError(f"A tile needs at least {SMALLEST} low-band samples a side, not {tile}.")
    if overlap is not None and overlap < 0:
        raise UsageError(f"The overlap of tiles cannot be negative: {overlap}.")

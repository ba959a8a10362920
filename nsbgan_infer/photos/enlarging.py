"""Step 4 on real photos: a photo (h x w) becomes a picture of (scale * h) x (scale * w) by a decoder.

We treat the photo as the low band of the unknown larger picture. It is cut into windows of one shape, which overlap by
the decoder's halo, so memory beyond the finished picture stays flat and a compiled network meets one shape. Under
transparent pixels lie the colours of the visible ones around them, so that nothing hidden bleeds into an edge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nsbgan_infer.decoders.anchor import RIM, decode_over, moves
from nsbgan_infer.decoders.base import Decoder, DecoderInfo
from nsbgan_infer.decoders.tiling import SMALLEST
from nsbgan_infer.engines.graph import Engined, place_of
from nsbgan_infer.errors import UsageError
from nsbgan_infer.photos.alpha import spread_colours
from nsbgan_infer.photos.reading import Photo, open_photo
from nsbgan_infer.photos.resizing import Wish, resize, spread_hidden
from nsbgan_infer.reductions import Anchor
from nsbgan_infer.registry import load_decoder
from nsbgan_infer.steps.joints import check_part
from nsbgan_infer.storage.shipped import default_upscaler

WINDOW = 224  # the longest side of a window, in pixels of the photo: 384 is a tenth faster and takes 200 MiB more
QUANTUM = 16  # sides of the windows of a compiled network are multiples of this, so that few shapes occur

REACH = 3  # pixels of the photo around one, between whose transparencies the enlarged one stays
LUMA = (0.299, 0.587, 0.114)  # as Pillow makes grey of colours

Tell = Callable[[int, int], None]  # windows done, of how many; may raise to cancel


@dataclass(frozen=True)
class Window:
    """Along one axis: what the decoder sees from `start` on, and which of it is kept, all in pixels of the photo."""

    start: int
    begin: int
    end: int


def enlarge(
    photo: Photo | Image.Image | str | Path,
    decoder: Decoder | str | None = None,
    wish: Wish | None = None,
    *,
    tile: int | None = None,
    tell: Tell | None = None,
) -> Photo:
    """The photo enlarged as `wish` says (default: by the decoder's scale), with the channels and bits that it has.

    `photo` may be a PIL image or a file, `decoder` a name; without one it is what `nsbgan upscale` takes. `.image` of
    the result is a PIL image.

    `tile`: the inside of a window, in pixels (default: chosen so that 224 are seen at most). `tell` is called after
    each window; what it raises ends the work. Computes where the decoder's weights are. Raises UsageError for `tile`
    with a decoder that must not be cut, WorkError when memory runs out, WrongTypeError for other objects.

    >>> enlarge(Image.new("RGB", (20, 10)), "bicubic").image.size
    (80, 40)
    """
    if not isinstance(photo, Photo):
        photo = open_photo(photo)
    if decoder is None or isinstance(decoder, str):
        decoder = load_decoder(decoder or default_upscaler())
    check_part(decoder, "decoder", DecoderInfo)
    steps = enlarge_in_steps(photo, decoder, wish, tile=tile)
    while True:
        try:
            done, total = next(steps)
        except StopIteration as finished:
            result: Photo = finished.value
            return result
        if tell:
            tell(done, total)


def enlarge_in_steps(
    photo: Photo, decoder: Decoder, wish: Wish | None = None, *, tile: int | None = None
) -> Generator[tuple[int, int], None, Photo]:
    """`enlarge` as a generator: yields windows done and all of them, returns the enlarged photo."""
    scale = decoder.info.scale
    wish = wish or Wish(scale=scale)
    size, sizes = wish.size_of(photo.size, scale), wish.stops(photo.size, scale)
    plans = [_plan(s, decoder, tile) for s in sizes]
    done, total, dpi = 0, sum(len(rows) * len(columns) for _, rows, columns in plans), photo.dpi
    original = photo.size
    for number, plan in enumerate(plans):
        large = yield from _decode_windows(photo, decoder, plan, done, total)
        done += len(plan[1]) * len(plan[2])
        following = sizes[number + 1] if number + 1 < len(sizes) else size
        photo = resize(replace(photo, pixels=large), following)
    if not plans:
        photo = resize(spread_hidden(photo), size)
        yield 1, 1
    grown = tuple(b / a for a, b in zip(original, photo.size, strict=True))
    return replace(photo, dpi=dpi and (dpi[0] * grown[0], dpi[1] * grown[1]))


def decode_image(
    decoder: Decoder, low_band: Tensor, *, tile: int | None = None, anchor: Anchor = "centre"
) -> Image.Image:
    """(1, 3, h, w) nominally [0, 1] -> RGB image of scale * w by scale * h, window by window.

    The result lies over what came in, an ordinary picture unless another `anchor` is named.
    """
    shape, rows, columns = _plan((low_band.shape[-1], low_band.shape[-2]), decoder, tile, anchor)
    s = decoder.info.scale
    out = np.empty((low_band.shape[-2] * s, low_band.shape[-1] * s, 3), np.uint8)
    for row in rows:
        for column in columns:
            part = _decode(decoder, _cut(low_band, row, column, shape), anchor)
            _put(out, part, row, column, s)
    return Image.fromarray(out)


def _decode_windows(
    photo: Photo, decoder: Decoder, plan: tuple[tuple[int, int], list[Window], list[Window]], done: int, total: int
) -> Generator[tuple[int, int], None, NDArray[Any]]:
    """The pixels of one pass through the decoder, of the photo's channels and bits."""
    shape, rows, columns = plan
    height, width, channels = photo.pixels.shape
    s, luma = decoder.info.scale, torch.tensor(LUMA).view(1, 3, 1, 1)
    out = np.empty((height * s, width * s, channels), photo.pixels.dtype)
    rgb, alpha = photo.rgb, photo.alpha
    if alpha is not None:
        rgb = spread_colours(rgb, alpha)
    for row in rows:
        for column in columns:
            part = _decode(decoder, _cut(rgb, row, column, shape))  # (1, 3, s * h, s * w)
            if photo.grey:
                part = (part * luma).sum(1, keepdim=True)
            if alpha is not None:
                part = torch.cat([part, _decode_cover(decoder, _cut(alpha, row, column, shape))], 1)
            _put(out, part, row, column, s)
            done += 1
            yield done, total
    return out


def _decode_cover(decoder: Decoder, alpha: Tensor) -> Tensor:
    """(1, 1, h, w) -> (1, 1, s * h, s * w): transparency by the same decoder, so outlines are as sharp as the rest.

    It stays within the values around it: opaque places stay opaque, empty ones empty.
    """
    s = decoder.info.scale
    if bool((alpha == alpha[0, 0, 0, 0]).all()):
        return alpha.new_full((1, 1, alpha.shape[-2] * s, alpha.shape[-1] * s), float(alpha[0, 0, 0, 0]))
    cover = _decode(decoder, alpha.expand(-1, 3, -1, -1)).mean(1, keepdim=True)
    most, least = (F.max_pool2d(a, REACH, stride=1, padding=REACH // 2) for a in (alpha, -alpha))
    return cover.clamp(*(F.interpolate(a, scale_factor=float(s), mode="nearest") for a in (-least, most)))


def _decode(decoder: Decoder, low_band: Tensor, anchor: Anchor = "centre") -> Tensor:
    """A window through the decoder; the result lies over it, a photo unless another `anchor` is named."""
    return decode_over(decoder, low_band.to(*place_of(decoder)), anchor).float().cpu()


def _cut(picture: Tensor, row: Window, column: Window, shape: tuple[int, int]) -> Tensor:
    """The window (1, c, *shape) of (1, c, h, w); beyond the picture its border is repeated."""
    part = picture[..., row.start : row.start + shape[0], column.start : column.start + shape[1]]
    down, right = shape[0] - part.shape[-2], shape[1] - part.shape[-1]
    return F.pad(part, (0, right, 0, down), mode="replicate") if down or right else part


def _put(out: NDArray[Any], part: Tensor, row: Window, column: Window, scale: int) -> None:
    """Round what a window keeps of `part` (1, c, H, W), nominally [0, 1], into `out` (h, w, c)."""
    y, x = (row.begin - row.start) * scale, (column.begin - column.start) * scale
    h, w = (row.end - row.begin) * scale, (column.end - column.begin) * scale
    kept = part[0, :, y : y + h, x : x + w].clamp(0, 1).mul(np.iinfo(out.dtype).max).round()
    top, left = row.begin * scale, column.begin * scale
    out[top : top + h, left : left + w] = kept.permute(1, 2, 0).numpy().astype(out.dtype)


def _plan(
    size: tuple[int, int], decoder: Decoder, tile: int | None, anchor: Anchor = "centre"
) -> tuple[tuple[int, int], list[Window], list[Window]]:
    """The (height, width) of all windows, and where they lie, for a photo of `size` (width, height)."""
    info = decoder.info
    if tile is not None and info.halo is None:
        raise UsageError(
            f"The decoder {info.name} must not be cut into tiles (each pixel depends on the whole picture): leave out "
            "the tile size or take another decoder."
        )
    quantum = math.lcm(QUANTUM, info.multiple) if is_compiled(decoder) else 1
    margin = -(-((info.halo or 0) + (RIM if moves(decoder, anchor) else 0)) // info.multiple) * info.multiple
    height, rows = _windows(size[1], info, tile, quantum, margin)
    width, columns = _windows(size[0], info, tile, quantum, margin)
    return (height, width), rows, columns


def _windows(length: int, info: DecoderInfo, tile: int | None, quantum: int, margin: int) -> tuple[int, list[Window]]:
    """The side of the windows along an axis and their places: as few and as short as the longest side allows.

    n windows of side S that keep all but the margins between them cover n S - 2 (n - 1) margin pixels.
    """
    longest = WINDOW if tile is None else tile + 2 * margin
    longest = max(longest, 2 * margin + SMALLEST)
    if info.halo is None or length <= longest:
        return -(-length // quantum) * quantum, [Window(0, 0, length)]
    inside = length - 2 * margin

    def count_of(side: int) -> int:
        return math.ceil(inside / (side - 2 * margin))

    if quantum == 1:
        count = count_of(longest)
        side = math.ceil((length + 2 * margin * (count - 1)) / count)
    else:
        sides = [n for n in range(quantum, longest + 1, quantum) if n >= 2 * margin + SMALLEST]
        side = min(sides or [-(-longest // quantum) * quantum], key=lambda n: (count_of(n) * n, -n))
        count = count_of(side)
    if count == 1:
        return side, [Window(0, 0, length)]
    step = side - 2 * margin
    starts = [min(i * step, length - side) for i in range(count)]  # the last one is moved back to end at the border
    begins = [0, *(i * step + margin for i in range(1, count))]
    return side, [Window(s, b, e) for s, b, e in zip(starts, begins, [*begins[1:], length], strict=True)]


def is_compiled(decoder: Decoder) -> bool:
    """Whether another engine than eager torch runs the decoder, which compiles for each shape."""
    return isinstance(decoder, Engined)

"""Step 4 on real photos: a photo (h x w) becomes a picture of (scale * h) x (scale * w) by a decoder.

The photo itself is taken for the low band: in the wavelet basis as a gain-free one, that is, as the low band of the
picture that is looked for. A camera's photo is a little smoother than a true low band, so the result is as well.
Large photos are decoded in strips of tiles, so that memory beyond the finished picture stays flat.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from nsbgan_infer.datasets import to_tensor
from nsbgan_infer.decoders.anchor import decode_over
from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.decoders.interpolate import make_bicubic
from nsbgan_infer.errors import ImageFileError
from nsbgan_infer.images import open_image, to_pil
from nsbgan_infer.reductions import Anchor

WHOLE = 512 * 512  # low-band pixels up to which a photo is decoded in one piece
TILE = 256
MARGIN = 4  # rows beyond the decoder's halo, so that a strip's own border is never seen
MAX_PIXELS = 1 << 24
SIXTEEN_BIT = ("I", "I;16", "I;16B", "I;16L", "I;16N")


@dataclass(frozen=True)
class Photo:
    """An opened photo, upright: `rgb` (1, 3, h, w) float32 in [0, 1], `alpha` (1, 1, h, w) or None, whether it is
    `grey`, its colour profile, and what had to be changed to read it (`notes`, for people).
    """

    rgb: Tensor
    alpha: Tensor | None
    grey: bool
    profile: bytes | None
    notes: tuple[str, ...]

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.rgb.shape[-1], self.rgb.shape[-2]


def open_photo(path: Path, *, max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a photo of any mode: turned upright, palettes resolved, 16-bit grey scaled, the first frame of several.

    Raises ImageFileError if it cannot be read, has more than `max_pixels`, or holds numbers of no known range.
    """
    _check_size(path, max_pixels)
    image = open_image(path)
    notes = []
    if getattr(image, "n_frames", 1) > 1:
        notes.append("only the first of its frames is used")
    profile = image.info.get("icc_profile") if image.mode in ("RGB", "RGBA", "L", "LA") else None
    try:
        image = ImageOps.exif_transpose(image)
    except Exception as error:  # damaged EXIF data can raise anything inside Pillow
        notes.append(f"its EXIF data is damaged and not used ({error})")
    if image.mode in SIXTEEN_BIT:
        notes.append("16 bits a pixel become 8")
        values = torch.from_numpy(np.array(image).astype(np.float32)).div(65535).clamp(0, 1)
        return Photo(values.expand(1, 3, -1, -1), None, True, None, tuple(notes))
    if image.mode == "F":
        raise ImageFileError(f"{path} holds floating-point numbers of no known range: save it as 8 or 16 bit first.")
    alpha = None
    if image.has_transparency_data:
        image = image.convert("RGBA")
        alpha = to_tensor(image.getchannel("A").convert("RGB"))[None, :1]
    grey = image.mode in ("1", "L", "LA")
    return Photo(to_tensor(image.convert("RGB"))[None], alpha, grey, profile, tuple(notes))


def enlarge(photo: Photo, decoder: Decoder, *, tile: int | None = None) -> Image.Image:
    """The photo enlarged by `decoder.info.scale`: RGB, L for a grey photo, RGBA where it has transparency.

    `tile`: decode in tiles of this many pixels (default: 256 for photos over 512 x 512). Computes where the decoder's
    weights are. Raises UsageError for a decoder that must not be tiled, WorkError when memory runs out.
    """
    picture = decode_image(decoder, photo.rgb, tile=tile)
    if photo.grey:
        picture = picture.convert("L")
    if photo.alpha is not None:
        alpha = decode_image(make_bicubic(decoder.info.scale), photo.alpha.expand(-1, 3, -1, -1), tile=tile)
        picture = picture.convert("RGBA")
        picture.putalpha(alpha.getchannel("R"))
    return picture


def decode_image(
    decoder: Decoder, low_band: Tensor, *, tile: int | None = None, anchor: Anchor = "centre"
) -> Image.Image:
    """(1, 3, h, w) nominally [0, 1] -> RGB image of scale * w by scale * h, in strips of tiles where it is large.

    The result lies over what came in, an ordinary picture unless another `anchor` is named.
    """
    info = decoder.info
    _, _, height, width = low_band.shape
    if info.halo is None or (tile is None and height * width <= WHOLE):
        return to_pil(_decode(decoder, low_band, tile, anchor))[0]
    side = tile or TILE
    rows = -(-side // info.multiple) * info.multiple
    margin = -(-(info.halo + MARGIN) // info.multiple) * info.multiple
    image = Image.new("RGB", (width * info.scale, height * info.scale))
    for top in range(0, height, rows):
        first, last = max(0, top - margin), min(height, top + rows + margin)
        part = _decode(decoder, low_band[..., first:last, :], side, anchor)
        begin, end = (top - first) * info.scale, (min(height, top + rows) - first) * info.scale
        image.paste(to_pil(part[..., begin:end, :])[0], (0, top * info.scale))
    return image


def _decode(decoder: Decoder, low_band: Tensor, tile: int | None, anchor: Anchor) -> Tensor:
    if isinstance(decoder, torch.nn.Module):
        weights = next(decoder.parameters(), low_band)
        low_band = low_band.to(weights.device, weights.dtype)
    return decode_over(decoder, low_band, anchor, tile=tile)


def _check_size(path: Path, max_pixels: int) -> None:
    """Read only the header: a small file may claim a huge picture."""
    try:
        with Image.open(path) as image:
            width, height = image.size
    except Exception:
        return  # open_image says why, in one sentence
    if width * height > max_pixels:
        raise ImageFileError(
            f"{path} has {width} x {height} pixels, more than {max_pixels}: shrink it, or raise --max-pixels."
        )

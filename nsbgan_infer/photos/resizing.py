"""How large a photo becomes: any scale or size by passes through a decoder and an exact resize."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nsbgan_infer.errors import UsageError
from nsbgan_infer.photos.reading import Photo


@dataclass(frozen=True)
class Wish:
    """What the user wants: a scale, or a size (0 for a side that follows the other one)."""

    scale: int | None = None
    size: tuple[int, int] | None = None

    def size_of(self, photo: tuple[int, int], decoder_scale: int) -> tuple[int, int]:
        """Width and height of the result for a photo of (width, height)."""
        if self.size is None:
            scale = self.scale or decoder_scale
            return photo[0] * scale, photo[1] * scale
        width, height = self.size
        if not height:
            height = max(1, round(photo[1] * width / photo[0]))
        if not width:
            width = max(1, round(photo[0] * height / photo[1]))
        return width, height

    def stops(self, photo: tuple[int, int], decoder_scale: int) -> list[tuple[int, int]]:
        """The size before each pass through a decoder of `decoder_scale`; empty where nothing has to grow.

        The last pass ends at the wished size or above it and starts as large as it must, no larger: x8 by a decoder of
        x4 is x4, shrunk to x2, and x4 again.
        """
        size = self.size_of(photo, decoder_scale)
        factor = max(size[0] / photo[0], size[1] / photo[1])
        if factor <= 1:
            return []
        stops = [photo]
        passes = 1
        while decoder_scale**passes < factor - 1e-9:
            passes += 1
        for left in range(passes - 1, 0, -1):
            part = factor / decoder_scale**left
            stops.append((max(1, round(photo[0] * part)), max(1, round(photo[1] * part))))
        return stops

    def stretches(self, photo: tuple[int, int]) -> float:
        """By how much the result's proportions differ from the photo's: 0.03 for 3 %, 0 up to rounding."""
        width, height = self.size_of(photo, 1)
        if abs(width * photo[1] - height * photo[0]) <= max(photo):
            return 0.0
        ratio = width * photo[1] / (height * photo[0])
        return max(ratio, 1 / ratio) - 1


def parse_size(text: str) -> tuple[int, int]:
    """`1920x1080`, `1920x` or `x1080` -> width and height, 0 for a missing one. Raises UsageError."""
    found = re.fullmatch(r"(\d{0,6})[xX×](\d{0,6})", text.strip())
    size = tuple(int(t or 0) for t in found.groups()) if found else (0, 0)
    if not any(size):
        raise UsageError(f"--size '{text}' is no size: write 1920x1080, or 1920x or x1080 to keep the proportions.")
    return size[0], size[1]


def resize(photo: Photo, size: tuple[int, int]) -> Photo:
    """The photo at exactly `size` (width, height), bicubic with antialiasing, transparency premultiplied."""
    if size == photo.size:
        return photo
    if photo.depth == 8:
        resized = np.asarray(photo.image.resize(size, Image.Resampling.BICUBIC))
        return replace(photo, pixels=resized[..., None] if resized.ndim == 2 else resized)
    return replace(photo, pixels=_resize_16(photo.pixels, size))


def _resize_16(pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[np.uint16]:
    """(h, w, c) uint16, resized in float32, one channel after the other."""

    def one(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BICUBIC))

    channels = pixels.shape[2]
    out = np.empty((size[1], size[0], channels), np.uint16)
    if channels in (1, 3):
        for c in range(channels):
            out[..., c] = one(pixels[..., c].astype(np.float32)).round().clip(0, 65535)
        return out
    alpha = pixels[..., -1].astype(np.float32)
    cover = one(alpha).clip(0, 65535)
    for c in range(channels - 1):
        colour = one(pixels[..., c] * (alpha / 65535)) / np.maximum(cover / 65535, 1e-6)
        out[..., c] = colour.round().clip(0, 65535)
    out[..., -1] = cover.round()
    return out

"""How large a photo becomes: any scale or size by passes through a decoder and an exact resize."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np
from PIL import Image

from nsbgan_infer.errors import UsageError
from nsbgan_infer.photos.alpha import spread_colours
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
        raise UsageError(f"--size '{text}' is not a size: write 1920x1080, or 1920x or x1080 to keep the proportions.")
    return size[0], size[1]


def resize(photo: Photo, size: tuple[int, int]) -> Photo:
    """The photo at exactly `size` (width, height), bicubic with antialiasing.

    Colours and transparency apart: what hides under transparent pixels must continue the visible colours, as in all
    that comes out of `enlarge`; `spread_hidden` prepares other photos.
    """
    if size == photo.size:
        return photo
    out = np.empty((size[1], size[0], photo.pixels.shape[2]), photo.pixels.dtype)
    for c in range(out.shape[2]):
        channel = np.ascontiguousarray(photo.pixels[..., c])
        values = channel if photo.depth == 8 else channel.astype(np.float32)  # Pillow rounds 8 bits itself
        resized = np.asarray(Image.fromarray(values).resize(size, Image.Resampling.BICUBIC))
        out[..., c] = resized if photo.depth == 8 else resized.round().clip(0, 65535)
    return replace(photo, pixels=out)


def spread_hidden(photo: Photo) -> Photo:
    """The photo with the colours of its visible pixels continued under the transparent ones."""
    alpha = photo.alpha
    if alpha is None:
        return photo
    channels = 1 if photo.grey else 3
    colours = spread_colours(photo.rgb, alpha)[0, :channels].permute(1, 2, 0)
    pixels = photo.pixels.copy()
    pixels[..., :channels] = colours.mul(np.iinfo(pixels.dtype).max).round().numpy()
    return replace(photo, pixels=pixels)

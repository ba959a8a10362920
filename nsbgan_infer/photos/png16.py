"""PNG with 16 bits a channel, which Pillow writes for grey alone. W3C PNG specification, third edition."""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

COLOUR_TYPE = {1: 0, 2: 4, 3: 2, 4: 6}  # by channels (11.2.1)
ROWS = 256  # filtered and compressed at once
INCH = 0.0254  # metres


def encode_png16(
    pixels: NDArray[Any],
    *,
    profile: bytes | None = None,
    exif: bytes | None = None,
    dpi: tuple[float, float] | None = None,
    compress: int = 1,
) -> bytes:
    """(h, w, 1 to 4 channels) uint16 -> the bytes of a PNG file."""
    height, width, channels = pixels.shape
    chunks = [_chunk(b"IHDR", struct.pack(">2I5B", width, height, 16, COLOUR_TYPE[channels], 0, 0, 0))]
    if profile:
        chunks.append(_chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(profile)))
    if dpi:
        chunks.append(_chunk(b"pHYs", struct.pack(">2IB", *(round(d / INCH) for d in dpi), 1)))
    if exif:
        chunks.append(_chunk(b"eXIf", exif.removeprefix(b"Exif\0\0")))
    chunks.append(_chunk(b"IDAT", _compress(pixels, compress)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + _chunk(b"IEND", b"")


def _compress(pixels: NDArray[Any], level: int) -> bytes:
    """Rows of bytes, each less the mean of the ones to its left and above (filter 3, section 9.2), deflated."""
    height, _, channels = pixels.shape
    step = 2 * channels
    deflate = zlib.compressobj(level)
    above = np.zeros((1, pixels.shape[1] * step), np.uint8)
    parts = []
    for top in range(0, height, ROWS):
        raw = np.ascontiguousarray(pixels[top : top + ROWS].astype(">u2")).view(np.uint8).reshape(-1, above.shape[1])
        upper = np.concatenate([above, raw[:-1]])
        left = np.zeros_like(raw)
        left[:, step:] = raw[:, :-step]
        mean = ((left.astype(np.uint16) + upper) >> 1).astype(np.uint8)
        filtered = np.empty((len(raw), raw.shape[1] + 1), np.uint8)
        filtered[:, 0] = 3
        filtered[:, 1:] = raw - mean  # modulo 256
        parts.append(deflate.compress(filtered.tobytes()))
        above = raw[-1:].copy()
    return b"".join([*parts, deflate.flush()])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

"""Image files that others made: which formats are opened, and the one way to open them.

The list of formats is closed. Pillow on its own would also open PostScript and PDF, which it hands to another program,
and formats whose readers few people test. Photos, sets of pictures, recipes and the web page all open files here.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from nsbgan_infer.errors import ImageFileError, NsbError, missing_extra

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "AVIF")  # Pillow's names; JPEG brings a phone's MPO along
SUFFIXES = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".webp", ".bmp", ".tif", ".tiff", ".gif", ".avif")
HEIC_SUFFIXES = (".heic", ".heif", ".hif")  # opened where the extra `heic` is installed
HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
AS_INTEGERS = "save it as 8 or 16 bit first, for example with `magick IN -depth 16 OUT.png`"
GREY16 = ("I;16", "I;16B", "I;16L", "I;16N")

Source = Path | bytes  # a file, or the content of one


def suffixes() -> tuple[str, ...]:
    """The endings, in lower case, of the files that can be opened here."""
    return (*SUFFIXES, *HEIC_SUFFIXES) if reads_heic() else SUFFIXES


def reads_heic() -> bool:
    """Whether pillow-heif (extra `heic`) is installed."""
    return find_spec("pillow_heif") is not None


def open_header(source: Source, name: str) -> Image.Image:
    """An image of a known format whose pixels are not read yet: format, mode, size and what stands before the pixels.

    Raises ImageFileError, and MissingExtraError for HEIC without pillow-heif; `name` is what messages call the file.
    """
    if isinstance(source, Path) and not source.is_file():
        raise ImageFileError(f"No such image: {name}.")
    with sentences(name):
        file = io.BytesIO(source) if isinstance(source, bytes) else source
        return Image.open(file, formats=_formats(_head(source)))


def open_whole(source: Source, name: str) -> Image.Image:
    """An image of a known format, decoded. Raises as `open_header` does, and ImageFileError for damaged pixels."""
    image = open_header(source, name)
    with sentences(name):
        image.load()
    return image


def check_numbers(image: Image.Image, name: str) -> None:
    """Raise ImageFileError unless the range of the numbers is known: 8 or 16 bits, not floats, not 32-bit integers."""
    if image.mode == "F":
        raise ImageFileError(f"{name} holds floating-point numbers of no known range: {AS_INTEGERS}.")
    if image.mode == "I":
        raise ImageFileError(f"{name} holds 32-bit or signed integers of no known range: {AS_INTEGERS}.")
    tags = tags_of(image)
    if tags.get(284) == 2 and 16 in tags.get(258, ()) and tags.get(259, 1) == 1:  # read as 8 bits by Pillow 12 and 13
        raise ImageFileError(f"{name} keeps its 16-bit colours in separate planes: {AS_INTEGERS}.")


def tags_of(image: Image.Image) -> Mapping[int, Any]:
    """The tags of a TIFF as it was opened, which turning it upright loses; empty for other formats."""
    return getattr(image, "tag_v2", {})


def grey16(image: Image.Image, tags: Mapping[int, Any]) -> NDArray[np.uint16]:
    """(h, w) of an image of a mode in GREY16, 0 black and 65535 white, whatever its file's `tags` call them."""
    values = np.asarray(image).astype(np.uint16)
    bits = tags.get(258, (16,))[0]
    if bits == 12:
        values = np.round(values * np.float32(65535 / 4095)).astype(np.uint16)
    return 65535 - values if tags.get(262) == 0 else values  # 262, 0: white is zero


def _head(source: Source) -> bytes:
    if isinstance(source, bytes):
        return source[:32]
    with source.open("rb") as file:
        return file.read(32)


def _formats(head: bytes) -> tuple[str, ...]:
    """What the file may be. Only one that looks like HEIC starts pillow-heif."""
    is_heic = head[4:8] == b"ftyp" and head[8:12] in HEIC_BRANDS and b"avif" not in head
    if not is_heic:
        return FORMATS
    if not reads_heic():
        raise missing_extra("pillow-heif", "heic", "A HEIC photo")
    from pillow_heif import register_heif_opener

    register_heif_opener(thumbnails=False)
    return ("HEIF",)


@contextmanager
def sentences(name: str) -> Iterator[None]:
    """Whatever Pillow raises becomes one sentence; its warnings about large pictures are not shown."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except NsbError:
        raise
    except Image.DecompressionBombError as error:
        raise ImageFileError(f"{name} is refused: {error}") from error
    except MemoryError as error:
        raise ImageFileError(f"{name} is too large for this machine's memory.") from error
    except UnidentifiedImageError as error:
        also = (
            f" If it is a TIFF of unusual numbers, {AS_INTEGERS}." if name.lower().endswith((".tif", ".tiff")) else ""
        )
        known = ", ".join(FORMATS)
        raise ImageFileError(f"{name} is not an image that can be read (known formats: {known}).{also}") from error
    except Exception as error:  # a damaged file can raise anything inside Pillow's plug-ins
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ImageFileError(f"{name} is not an image that can be read ({reason}).") from error

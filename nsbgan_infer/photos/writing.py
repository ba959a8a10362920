"""From an enlarged photo to a file: what each format holds, and what is said where it holds less."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from PIL import Image, features

from nsbgan_infer.errors import ImageFileError, UsageError, WorkError
from nsbgan_infer.photos.exif import exif_of_result
from nsbgan_infer.photos.png16 import encode_png16
from nsbgan_infer.photos.reading import Photo, to_srgb
from nsbgan_infer.storage.files import write_bytes
from nsbgan_infer.storage.image_files import HEIC_SUFFIXES, SUFFIXES

PhotoFormat = Literal["png", "jpeg", "webp", "avif"]


@dataclass(frozen=True)
class Holds:
    """What a format can hold: endings of its files (the first is ours), the longest side, its default quality."""

    suffixes: tuple[str, ...]
    longest: int
    quality: int | None = None
    transparency: bool = True
    grey: bool = False


FORMATS: dict[PhotoFormat, Holds] = {
    "png": Holds((".png",), 2**31 - 1, grey=True),
    "jpeg": Holds((".jpg", ".jpeg", ".jpe", ".jfif"), 65_500, 92, transparency=False, grey=True),
    "webp": Holds((".webp",), 16_383, 92),
    "avif": Holds((".avif",), 32_768, 85),  # what libavif reads by default; it writes up to 65,535
}


def photo_format(name: str) -> PhotoFormat | None:
    """The format that a file name asks for by its ending, None for one without a known ending.

    Raises UsageError for the ending of a picture that cannot be written.
    """
    suffix = Path(name).suffix.lower()
    for fmt, holds in FORMATS.items():
        if suffix in holds.suffixes:
            return fmt
    if suffix in (*SUFFIXES, *HEIC_SUFFIXES, ".jxl", ".jp2", ".pdf", ".svg", ".ico"):
        raise UsageError(f"Cannot write '{Path(name).name}': end it in .png, .jpg, .webp or .avif.")
    return None


def check_format(fmt: PhotoFormat, quality: int | None) -> None:
    """Raise UsageError for a quality that the format has none of, and for AVIF where this Pillow cannot write it."""
    if quality is not None and FORMATS[fmt].quality is None:
        raise UsageError("PNG keeps every pixel and knows no --quality: leave it out, or add --format jpeg.")
    if fmt == "avif" and not features.check("avif"):
        raise UsageError("This build of Pillow cannot write AVIF: choose --format webp, or install pillow from PyPI.")


def check_size(fmt: PhotoFormat, size: tuple[int, int], name: str) -> None:
    """Raise ImageFileError if the format cannot hold a picture of `size` (width, height), enlarged from `name`."""
    longest = FORMATS[fmt].longest
    if max(size) > longest:
        raise ImageFileError(
            f"{name} would become {size[0]} x {size[1]} and {fmt.upper()} ends at {longest} pixels a side: "
            "choose --format png, or a smaller --scale."
        )


def lost_in(photo: Photo, fmt: PhotoFormat) -> list[str]:
    """What of the photo the format cannot hold, for people."""
    lost = []
    if photo.depth == 16 and fmt != "png":
        lost.append(f"16 bits a channel become 8 ({fmt.upper()} holds no more here, PNG does)")
    if photo.alpha is not None and not FORMATS[fmt].transparency:
        lost.append(f"transparent parts become white ({fmt.upper()} holds none)")
    if photo.grey and photo.profile and not FORMATS[fmt].grey:
        lost.append(f"its grey profile becomes sRGB ({fmt.upper()} holds colours only)")
    return lost


def encode_photo(photo: Photo, fmt: PhotoFormat = "png", *, quality: int | None = None) -> bytes:
    """The bytes of an image file with profile, EXIF data and resolution. JPEG and AVIF keep all colours (4:4:4).

    Raises WorkError if the encoder refuses.
    """
    exif = exif_of_result(photo.exif, photo.size, photo.dpi)
    if fmt == "png" and photo.depth == 16:
        return encode_png16(photo.pixels, profile=photo.profile, exif=exif, dpi=photo.dpi)
    if photo.grey and photo.profile and not FORMATS[fmt].grey:
        photo = to_srgb(photo)
    image = photo.image
    if image.mode in ("LA", "RGBA") and not FORMATS[fmt].transparency:
        image = on_white(image)
    options: dict[str, Any] = {
        "exif": exif,
        "icc_profile": photo.profile or b"",
        "quality": quality or FORMATS[fmt].quality,
    }
    if fmt == "png":
        options |= {"compress_level": 1, "quality": None}
    if fmt in ("jpeg", "avif"):
        options["subsampling"] = "4:4:4"
    if photo.dpi:
        options["dpi"] = photo.dpi
    buffer = io.BytesIO()
    try:
        image.save(buffer, fmt.upper(), **options)
    except (OSError, ValueError) as error:
        raise WorkError(
            f"The picture of {image.width} x {image.height} cannot be written as {fmt} ({error})."
        ) from error
    return buffer.getvalue()


def save_photo(photo: Photo, path: Path, *, quality: int | None = None) -> None:
    """Write the photo, whole or not at all, in the format of the path's ending. Raises UsageError for other endings."""
    fmt = photo_format(path.name)
    if fmt is None:
        raise UsageError(f"Cannot tell a format from '{path.name}': end it in .png, .jpg, .webp or .avif.")
    write_bytes(path, encode_photo(photo, fmt, quality=quality))


def on_white(image: Image.Image) -> Image.Image:
    """LA or RGBA -> L or RGB on white."""
    grey = image.mode == "LA"
    rgba = image.convert("RGBA")
    flat = Image.alpha_composite(Image.new("RGBA", image.size, "white"), rgba)
    return flat.convert("L" if grey else "RGB")

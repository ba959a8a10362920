"""EXIF data of a photo: what is kept of it, what a changed size makes wrong, and the mark of our own results."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from PIL import Image

ORIENTATION, SOFTWARE, DESCRIPTION = 0x0112, 0x0131, 0x010E
X_DENSITY, Y_DENSITY, DENSITY_UNIT, INCH = 0x011A, 0x011B, 0x0128, 2
DETAILS, PLACE, WIDTH, HEIGHT = 0x8769, 0x8825, 0xA002, 0xA003
# What is said of the picture itself; the other tags of a TIFF say how its file is laid out
KEPT = (DESCRIPTION, 0x010F, 0x0110, SOFTWARE, 0x0132, 0x013B, 0x8298, 0x4746, *range(0x9C9B, 0x9CA0), DETAILS, PLACE)
MARK = "nsbgan-infer"
RECIPE = "nsbgan:"  # a generated image's description is the recipe of other pixels than the enlarged ones
LIMIT = 65_000  # bytes; a JPEG segment holds no more


def keep_exif(image: Image.Image) -> tuple[bytes | None, bool, list[str]]:
    """The EXIF data worth keeping (None without any), whether the image must be turned, and notes."""
    try:
        exif = image.getexif()
        orientation = exif.get(ORIENTATION, 1)
        kept, empty = Image.Exif(), True
        for tag in KEPT:
            if tag in (DETAILS, PLACE):
                if table := exif.get_ifd(tag):
                    kept.get_ifd(tag).update(table)
                    empty = False
            elif tag in exif and not str(exif[tag]).startswith(RECIPE):
                kept[tag], empty = exif[tag], False
        data = None if empty else kept.tobytes()
    except Exception as error:  # damaged EXIF data can raise anything inside Pillow
        return None, False, [f"its EXIF data is damaged and not used ({error})"]
    if data and len(data) > LIMIT:
        return None, orientation in range(2, 9), ["its EXIF data is longer than a JPEG holds and left out"]
    return data, orientation in range(2, 9), []


def exif_of_result(exif: bytes | None, size: tuple[int, int], dpi: tuple[float, float] | None) -> bytes:
    """`exif` for a picture of another size and resolution, with our mark."""
    made = Image.Exif()
    if exif:
        made.load(exif)
        if DETAILS in made:
            details = made.get_ifd(DETAILS)
            details[WIDTH], details[HEIGHT] = size
    made[SOFTWARE] = f"{MARK} {_version()}, enlarged"
    if dpi:
        made[X_DENSITY], made[Y_DENSITY], made[DENSITY_UNIT] = *dpi, INCH
    return made.tobytes()


def is_own_result(image: Image.Image) -> bool:
    """Whether `nsbgan upscale` wrote the image, from its header alone."""
    if image.format == "PNG" and "exif" not in image.info:  # Pillow would read all pixels to look behind them
        return False
    try:
        software: Any = image.getexif().get(SOFTWARE, "")
    except Exception:  # damaged EXIF data can raise anything inside Pillow
        return False
    return str(software).startswith(MARK)


def _version() -> str:
    try:
        return version("nsbgan-infer")
    except PackageNotFoundError:
        return "of a checkout"

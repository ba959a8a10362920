"""One's own photo on the page: looked at, shrunk where it is too large, enlarged, and laid over its plain enlargement.

Large results are shown tile by tile, so that neither this machine nor the browser holds them twice.
"""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageOps

from nsbgan_infer.devices import pick_device
from nsbgan_infer.engines import place_part
from nsbgan_infer.errors import CheckpointError, ImageFileError, MissingExtraError
from nsbgan_infer.photos import MAX_PIXELS, Photo, enlarge_in_steps, open_photo, save_photo
from nsbgan_infer.photos.batch import shorten
from nsbgan_infer.photos.engine import pick_photo_engine
from nsbgan_infer.photos.reading import check_photo, to_srgb
from nsbgan_infer.photos.resizing import resize, spread_hidden
from nsbgan_infer.registry import load_decoder
from nsbgan_infer.serving.actions import Studio
from nsbgan_infer.serving.problems import Choice, PageError, Problem
from nsbgan_infer.storage.image_files import FORMATS, reads_heic
from nsbgan_infer.storage.shipped import default_upscaler

SHRINKABLE = 1 << 27  # pixels of a photo that may be shrunk to fit
WHOLE = 1600  # pixels of the longer side of a picture that is shown in one piece
TILE = 1024
THUMB = 320
MEGA = 1e6
KINDS = {"JPEG": "JPEG", "PNG": "PNG", "WEBP": "WebP", "AVIF": "AVIF", "TIFF": "TIFF", "GIF": "GIF", "BMP": "BMP"}


@dataclass(frozen=True)
class Looked:
    """A photo that can be worked on: its name, size, and a small picture's address."""

    name: str
    size: tuple[int, int]
    thumb: str


@dataclass(frozen=True)
class Enlarged:
    """A result's file and what is said of it, and what is to be compared, for the page's viewer."""

    files: tuple[tuple[str, str], ...]
    """(name of the decoder, path)"""
    report: str
    compared: dict[str, Any]


def sharp_decoder() -> str | None:
    """The decoder for worn photos, None where none ships."""
    try:
        return default_upscaler(sharp=True)
    except CheckpointError:
        return None


def limits_text() -> str:
    """What may be brought, in one sentence."""
    return f"{kinds_text()}, up to {MAX_PIXELS / MEGA:.1f} megapixels."


def kinds_text() -> str:
    """The formats that are read."""
    kinds = [KINDS.get(f, f) for f in FORMATS] + ["HEIC"] * reads_heic()
    return f"{', '.join(kinds[:-1])} or {kinds[-1]}"


def look(
    studio: Studio, file: Path, *, max_pixels: int = MAX_PIXELS, field: str = "photo", square: bool = False
) -> Looked:
    """Read a photo as it will be read for the work; `square` shows its central square alone.

    Raises PageError, with a problem for `field`: not to be read, or too large.
    """
    photo = open_upload(file, max_pixels, field)
    folder = studio.new_folder()
    small = to_srgb(resize(photo, _within(photo.size, THUMB))).image.convert("RGB")
    if square:
        small = ImageOps.fit(small, (min(small.size),) * 2)
    small.save(folder / "thumb.webp", quality=85)
    return Looked(file.name, photo.size, studio.url(folder / "thumb.webp"))


def shrink(studio: Studio, file: Path, *, max_pixels: int = MAX_PIXELS, field: str = "photo") -> Path:
    """The photo just small enough to be taken, as a PNG of the same name. Raises PageError."""
    photo = open_upload(file, SHRINKABLE, field)
    factor = math.sqrt(max_pixels / (photo.size[0] * photo.size[1]))
    size = (max(1, math.floor(photo.size[0] * factor)), max(1, math.floor(photo.size[1] * factor)))
    path = studio.new_folder() / f"{shorten(file.stem, 60)}_smaller.png"
    save_photo(resize(spread_hidden(photo), size), path)
    return path


def enlarge_for_page(
    studio: Studio, file: Path, decoders: tuple[str, ...] = (), *, max_pixels: int = MAX_PIXELS
) -> Generator[tuple[int, int], None, Enlarged]:
    """Enlarge a photo by each of `decoders` (none: the best one), and prepare the comparison with plain bicubic.

    A generator of parts done, of how many; nothing is written before the first result is whole. Results keep profile,
    EXIF data and resolution. Raises PageError and NsbError.
    """
    photo = open_upload(file, max_pixels)
    names = decoders or (default_upscaler(),)
    folder, files, reports, sides = None, [], [], []
    for number, name in enumerate(names):
        tool, device = load_decoder(name), pick_device()
        engine = pick_photo_engine("auto", device, tool, photo.size[0] * photo.size[1])
        start = time.perf_counter()
        work = enlarge_in_steps(photo, place_part(tool, engine, device, torch.float32))
        while True:
            try:
                done, total = next(work)
            except StopIteration as finished:
                large: Photo = finished.value
                break
            yield number * total + done, len(names) * total
        seconds = time.perf_counter() - start
        folder = folder or studio.new_folder()
        path = folder / f"{shorten(file.stem, 60)}_x{tool.info.scale}{'' if len(names) == 1 else '_' + name}.png"
        save_photo(large, path)
        files.append((name, str(path)))
        licence = f"licence of its weights: {tool.info.licence}"
        reports.append(f"{large.size[0]} x {large.size[1]} with {tool.info.name} in {seconds:.1f} s, {licence}")
        sides.append(cut(studio, large, folder / name, name))
    assert folder is not None
    before = to_srgb(spread_hidden(photo))
    plain = cut_plain(studio, before, large.size, folder / "plain")
    notes = "".join(f" {note[0].upper()}{note[1:]}." for note in photo.notes)
    report = f"{photo.size[0]} x {photo.size[1]} became {'; '.join(reports)}.{notes}"
    return Enlarged(tuple(files), report, compared([plain, *sides], large.size))


def compared(sides: list[dict[str, str]], size: tuple[int, int]) -> dict[str, Any]:
    """What the page's viewer is given: the pictures to choose from, all of one size."""
    return {"sides": sides, "width": size[0], "height": size[1], "tile": TILE if max(size) > WHOLE else 0}


def save_side(studio: Studio, image: Image.Image, folder: Path, label: str) -> dict[str, str]:
    """A picture that is shown in one piece."""
    folder.mkdir()
    image.save(folder / "whole.png", compress_level=1)
    return {"label": label, "url": studio.url(folder)}


def cut(studio: Studio, photo: Photo, folder: Path, label: str) -> dict[str, str]:
    """A photo in sRGB as `whole.png`, or shrunk as `whole.jpg` with tiles `ROW_COLUMN.jpg` where it is large."""

    def crop(left: int, top: int, right: int, bottom: int) -> Image.Image:
        return to_srgb(replace(photo, pixels=photo.pixels[top:bottom, left:right])).image.convert("RGB")

    if max(photo.size) <= WHOLE:
        return save_side(studio, crop(0, 0, *photo.size), folder, label)
    folder.mkdir()
    small = to_srgb(resize(photo, _within(photo.size, WHOLE))).image.convert("RGB")
    _save(small, folder / "whole.jpg")
    for place, box in _tiles(photo.size):
        _save(crop(*box), folder / f"{place}.jpg")
    return {"label": label, "url": studio.url(folder)}


def cut_plain(studio: Studio, photo: Photo, size: tuple[int, int], folder: Path) -> dict[str, str]:
    """As `cut`, of the bicubic enlargement to `size`, which is never made whole."""
    image = photo.image.convert("RGB")
    x, y = image.width / size[0], image.height / size[1]
    label = "bicubic"
    if max(size) <= WHOLE:
        return save_side(studio, image.resize(size, Image.Resampling.BICUBIC), folder, label)
    folder.mkdir()
    _save(image.resize(_within(size, WHOLE), Image.Resampling.BICUBIC), folder / "whole.jpg")
    for place, (left, top, right, bottom) in _tiles(size):
        box = (left * x, top * y, right * x, bottom * y)  # Pillow looks at the pixels around the box too
        _save(image.resize((right - left, bottom - top), Image.Resampling.BICUBIC, box), folder / f"{place}.jpg")
    return {"label": label, "url": studio.url(folder)}


def open_upload(file: Path, max_pixels: int = MAX_PIXELS, field: str = "photo") -> Photo:
    """A photo that a visitor brought. Raises PageError, with a problem for `field`."""
    try:
        width, height = check_photo(file, file.name, SHRINKABLE)
        if width * height > max_pixels:
            size = f"{width} x {height} pixels ({width * height / MEGA:.1f} megapixels)"
            text = f"{file.name} has {size}, more than the {max_pixels / MEGA:.1f} that are taken here."
            raise PageError(Problem(field, text, (Choice("Shrink it to fit", "shrink"),)))
        return open_photo(file, name=file.name, max_pixels=max_pixels)
    except MissingExtraError as error:
        raise PageError(Problem(field, f"{file.name} is a HEIC photo, which this server cannot read.")) from error
    except ImageFileError as error:
        if "more than" in str(error) or "too large" in str(error) or "exceeds limit" in str(error):
            text = f"{file.name} is too large, even to be shrunk here: at most {SHRINKABLE / MEGA:.0f} megapixels."
        else:
            text = f"{file.name} cannot be read as a picture. It may be damaged, or not be {kinds_text()}."
        raise PageError(Problem(field, text)) from error


def _tiles(size: tuple[int, int]) -> Iterator[tuple[str, tuple[int, int, int, int]]]:
    for row, top in enumerate(range(0, size[1], TILE)):
        for column, left in enumerate(range(0, size[0], TILE)):
            yield f"{row}_{column}", (left, top, min(left + TILE, size[0]), min(top + TILE, size[1]))


def _save(image: Image.Image, path: Path) -> None:
    image.save(path, quality=93, subsampling=0)


def _within(size: tuple[int, int], side: int) -> tuple[int, int]:
    """`size` shrunk until its longer side is `side`; never larger."""
    factor = min(1.0, side / max(size))
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))

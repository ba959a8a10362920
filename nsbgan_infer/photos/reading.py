"""From a photo's file to its pixels and what belongs to them: profile, EXIF data, resolution.

8 bits stay 8 and 16 stay 16, grey stays grey, transparency stays. Palettes become colours. CMYK and LAB become sRGB,
by their profile where they have one.
"""

from __future__ import annotations

import io
import math
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps
from torch import Tensor

from nsbgan_infer.errors import ImageFileError, WrongTypeError
from nsbgan_infer.photos.exif import keep_exif
from nsbgan_infer.storage.image_files import (
    GREY16,
    Source,
    check_numbers,
    grey16,
    open_header,
    open_whole,
    sentences,
    tags_of,
)

MAX_PIXELS = 1 << 24
SWAPPED = {  # how to read the other byte of each 16 bits than Pillow keeps
    **{f"{m};16B": f"{m};16L" for m in ("RGB", "RGBA", "RGBX")},
    **{f"{m};16L": f"{m};16B" for m in ("RGB", "RGBA", "RGBX")},
    **{f"{m};16N": f"{m};16{'B' if sys.byteorder == 'little' else 'L'}" for m in ("RGB", "RGBA", "RGBX")},
}
PROFILE_SPACE = {1: b"GRAY", 2: b"GRAY", 3: b"RGB ", 4: b"RGB "}  # by channels


@dataclass(frozen=True)
class Photo:
    """An opened photo, upright."""

    pixels: NDArray[Any]
    """(h, w, channels) uint8 or uint16: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha (not premultiplied)."""
    profile: bytes | None = None
    """Its ICC profile, of the colour space of the channels."""
    exif: bytes | None = None
    """EXIF data without orientation, thumbnail and what describes the layout of its file."""
    dpi: tuple[float, float] | None = None
    """Pixels an inch across and along, where the file says so."""
    notes: tuple[str, ...] = ()
    """What had to be changed to read it, for people."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.pixels.shape[1], self.pixels.shape[0]

    @property
    def grey(self) -> bool:
        """Whether it has no colours."""
        return bool(self.pixels.shape[2] < 3)

    @property
    def depth(self) -> int:
        """Bits a channel: 8 or 16."""
        return 8 * self.pixels.itemsize

    @property
    def rgb(self) -> Tensor:
        """(1, 3, h, w) float32 in [0, 1]; a grey photo three times."""
        return to_float(self.pixels[..., : 1 if self.grey else 3]).expand(1, 3, -1, -1)

    @property
    def alpha(self) -> Tensor | None:
        """(1, 1, h, w) float32 in [0, 1], or None for a photo without transparency."""
        return to_float(self.pixels[..., -1:]) if self.pixels.shape[2] in (2, 4) else None

    @property
    def image(self) -> Image.Image:
        """As a PIL image of 8 bits: L, LA, RGB or RGBA, with profile and resolution in `info`."""
        pixels = self.pixels if self.depth == 8 else _to_8_bit(self.pixels)
        image = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
        if self.profile:
            image.info["icc_profile"] = self.profile
        if self.dpi:
            image.info["dpi"] = self.dpi
        return image


def open_photo(source: Source | str | Image.Image, *, name: str = "", max_pixels: int = MAX_PIXELS) -> Photo:
    """Read a photo from a file, its content or a PIL image: turned upright, the first frame of several.

    `name` is what messages call it (default: the path). Raises ImageFileError if it cannot be read, has more than
    `max_pixels`, or holds numbers of no known range; WrongTypeError for other objects.

    >>> open_photo(Image.new("L", (40, 30))).size
    (40, 30)
    """
    if isinstance(source, Image.Image):
        return _from_image(source, name or "the photo", max_pixels)
    if isinstance(source, str):
        source = Path(source)
    if not isinstance(source, Path | bytes):
        raise WrongTypeError(f"A photo is a path, bytes or a PIL image, not a {type(source).__name__}.")
    name = name or (str(source) if not isinstance(source, bytes) else "the photo")
    check_photo(source, name, max_pixels)
    with sentences(name):  # tags of a damaged file fail wherever they are read
        return _read(source, name)


def _read(source: Source, name: str) -> Photo:
    is_lying = _is_lying(open_header(source, name))  # Pillow turns a TIFF itself while it reads the pixels
    image = open_whole(source, name)
    notes = []
    if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # a phone's second view is not a frame
        notes.append(f"only the first of its {image.n_frames} frames is used")  # type: ignore[attr-defined]
    profile, dpi = image.info.get("icc_profile"), _dpi(image)
    is_deep, other_bytes = _open_other_bytes(source, name)
    exif, turned, problem = keep_exif(image)
    notes += problem
    if dpi and is_lying:
        dpi = dpi[::-1]
    if turned:
        upright = _turn(image)
        other_bytes = other_bytes and _turn(other_bytes)
    else:
        upright = image
    pixels, profile, said = _pixels(upright, other_bytes, profile, tags_of(image), name)
    if is_deep and other_bytes is None:
        said.append("16 bits a channel become 8")
    kept = _fitting_profile(profile, pixels.shape[2])
    if profile and not kept:
        said.append("its colour profile does not fit its pixels and is left out")
    return Photo(pixels, kept, exif, dpi, (*notes, *said))


def _from_image(image: Image.Image, name: str, max_pixels: int) -> Photo:
    """A PIL image that is open already. Its 16 bits are kept where they are grey."""
    if image.width * image.height > max_pixels:
        raise ImageFileError(f"{name} has {image.width} x {image.height} pixels, more than {max_pixels}: shrink it.")
    with sentences(name):
        check_numbers(image, name)
        exif, turned, problem = keep_exif(image)
        upright = _turn(image) if turned else image
        pixels, profile, said = _pixels(upright, None, image.info.get("icc_profile"), tags_of(image), name)
        return Photo(pixels, _fitting_profile(profile, pixels.shape[2]), exif, _dpi(image), (*problem, *said))


def check_photo(source: Source, name: str, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """The size of a photo as stored, from its header alone. Raises ImageFileError for what `open_photo` would refuse
    before it reads pixels: a small file may claim a huge picture."""
    with open_header(source, name) as image, sentences(name):
        width, height = image.size
        check_numbers(image, name)
    if width * height > max_pixels:
        raise ImageFileError(
            f"{name} has {width} x {height} pixels, more than {max_pixels}: shrink it, or raise --max-pixels."
        )
    return width, height


def to_float(pixels: NDArray[Any]) -> Tensor:
    """(h, w, c) uint8 or uint16 -> (1, c, h, w) float32 in [0, 1]."""
    values = torch.from_numpy(np.ascontiguousarray(pixels.astype(np.float32))).permute(2, 0, 1)[None]
    return values.contiguous().div_(np.iinfo(pixels.dtype).max)


def to_srgb(photo: Photo) -> Photo:
    """The photo as untagged sRGB of 8 bits, for what shows or holds no profile. Grey becomes RGB if it had one."""
    image = photo.image
    if not photo.profile:
        return replace(photo, pixels=_array(image))
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    plain = image.convert("L" if photo.grey else "RGB")
    try:
        converted = _by_profile(plain, photo.profile)
    except ImageCms.PyCMSError:  # damaged: the numbers are the best guess
        converted = plain
    if alpha is not None:
        converted.putalpha(alpha)
    return replace(photo, pixels=_array(converted), profile=None)


def _pixels(
    image: Image.Image, other: Image.Image | None, profile: bytes | None, tags: Any, name: str
) -> tuple[NDArray[Any], bytes | None, list[str]]:
    """Pixels, the profile that they have now, and notes."""
    if image.mode in GREY16:
        return grey16(image, tags)[..., None], profile, []
    if other is not None:
        return (_array(image).astype(np.uint16) << 8) | _array(other), profile, []
    notes = []
    if image.mode in ("CMYK", "LAB"):
        notes.append(f"{image.mode} colours become sRGB")
        return _array(_uncommon_to_rgb(image, profile, name)), None, notes
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if image.has_transparency_data:
        grey = image.mode in ("1", "L", "LA")
        return _array(image.convert("LA" if grey else "RGBA")), profile, notes
    return _array(image.convert("L" if image.mode in ("1", "L") else "RGB")), profile, notes


def _open_other_bytes(source: Source, name: str) -> tuple[bool, Image.Image | None]:
    """Whether Pillow reads 16-bit colours as 8 bits, and an image of the low bytes that it leaves out where possible.

    Pillow keeps the high byte of each pair; told that the file has the other byte order it keeps the low one.
    """
    low = open_header(source, name)
    if low.mode in GREY16 or low.format not in ("PNG", "TIFF"):
        return False, None
    tiles = getattr(low, "tile", [])
    raw_modes = [t.args if isinstance(t.args, str) else t.args[0] for t in tiles]
    is_deep = any(";16" in mode for mode in raw_modes)
    separate_planes = tags_of(low).get(284) == 2  # there the trick gives the high bytes again
    if not is_deep or separate_planes or "transparency" in low.info or not set(raw_modes) <= SWAPPED.keys():
        return is_deep, None
    low.tile = [_swap_bytes(t) for t in tiles]  # type: ignore[attr-defined]
    low.load()
    return True, low


def _swap_bytes(tile: Any) -> Any:
    """One entry of Pillow's `tile`, whose first argument is how pixels lie in the file."""
    if isinstance(tile.args, str):
        return tile._replace(args=SWAPPED[tile.args])
    return tile._replace(args=(SWAPPED[tile.args[0]], *tile.args[1:]))


def _uncommon_to_rgb(image: Image.Image, profile: bytes | None, name: str) -> Image.Image:
    """CMYK or LAB -> sRGB, CMYK by its profile where it has one that works."""
    try:
        if image.mode == "LAB":
            lab = ImageCms.createProfile("LAB")
            return _transform(image, ImageCms.ImageCmsProfile(lab))
        if profile and profile[16:20] == b"CMYK":
            return _by_profile(image, profile)
    except ImageCms.PyCMSError as error:
        if image.mode == "LAB":
            raise ImageFileError(f"{name} cannot be converted from LAB ({error}): save it as RGB first.") from error
    return image.convert("RGB")


def _by_profile(image: Image.Image, profile: bytes) -> Image.Image:
    try:
        return _transform(image, ImageCms.ImageCmsProfile(io.BytesIO(profile)))
    except OSError as error:
        raise ImageCms.PyCMSError(error) from error


def _transform(image: Image.Image, profile: ImageCms.ImageCmsProfile) -> Image.Image:
    made = ImageCms.profileToProfile(image, profile, ImageCms.createProfile("sRGB"), outputMode="RGB")
    assert made is not None
    return made


def _fitting_profile(profile: bytes | None, channels: int) -> bytes | None:
    whole = profile is not None and len(profile) > 128 and profile[36:40] == b"acsp"
    return profile if whole and profile is not None and profile[16:20] == PROFILE_SPACE[channels] else None


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    """What the file says, if it makes sense: 1 to 100,000 pixels an inch."""
    try:
        x, y = (float(v) for v in image.info["dpi"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if all(math.isfinite(v) and 1 <= v <= 100_000 for v in (x, y)) else None


def _is_lying(image: Image.Image) -> bool:
    """Whether width and height of an image that is only opened change places when it is turned upright."""
    if image.format == "PNG" and "exif" not in image.info:  # Pillow would read all pixels to look behind them
        return False
    try:
        return int(image.getexif().get(0x0112, 1)) in (5, 6, 7, 8)
    except Exception:  # damaged EXIF data can raise anything inside Pillow
        return False


def _turn(image: Image.Image) -> Image.Image:
    turned = ImageOps.exif_transpose(image)
    assert turned is not None
    return turned


def _array(image: Image.Image) -> NDArray[np.uint8]:
    array = np.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def _to_8_bit(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    return ((pixels.astype(np.uint32) * 255 + 32767) // 65535).astype(np.uint8)

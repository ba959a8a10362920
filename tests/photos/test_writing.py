"""What is written of an enlarged photo, in every format: profile, EXIF data, resolution, colours, 16 bits."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from nsbgan_infer.decoders.interpolate import make_iwt
from nsbgan_infer.errors import ImageFileError, UsageError
from nsbgan_infer.photos import Photo, encode_photo, enlarge, open_photo, save_photo
from nsbgan_infer.photos.exif import is_own_result
from nsbgan_infer.photos.writing import FORMATS, PhotoFormat, check_size, lost_in

COVERS = ["photos.exif"]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
ALL: list[PhotoFormat] = list(FORMATS)


def photo(channels: int = 3, depth: int = 8) -> Photo:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (12, 16, channels), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x010F] = "Phone"
    exif.get_ifd(0x8769)[0xA002] = 16
    deep = pixels.astype(np.uint16) * 257 + 3
    return Photo(pixels if depth == 8 else deep, SRGB if channels > 2 else None, exif.tobytes(), (72, 72))


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


@pytest.mark.parametrize("fmt", ALL)
@pytest.mark.parametrize("depth", [8, 16])
def test_profile_exif_and_resolution_are_in_every_format(fmt: PhotoFormat, depth: int) -> None:
    large = enlarge(photo(depth=depth), make_iwt())
    image = opened(encode_photo(large, fmt))
    exif = image.getexif()
    assert image.size == (64, 48) and image.info["icc_profile"] == SRGB
    assert exif[0x010F] == "Phone" and 0x0112 not in exif and exif.get_ifd(0x8769)[0xA002] == 64
    assert (exif[0x011A], exif[0x011B], exif[0x0128]) == (288, 288, 2)
    if fmt in ("png", "jpeg"):
        assert image.info["dpi"] == pytest.approx((288, 288), abs=0.1)
    assert is_own_result(opened(encode_photo(large, fmt)))


def test_results_are_told_from_photos() -> None:
    plain = io.BytesIO()
    Image.new("RGB", (8, 8)).save(plain, "PNG")
    assert not is_own_result(opened(plain.getvalue()))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("depth", [8, 16])
def test_png_keeps_every_number(channels: int, depth: int) -> None:
    given = replace(photo(channels, depth), profile=None)
    if depth == 16 and channels == 2:  # Pillow reads 16-bit grey with transparency as 8 bits
        array = np.asarray(opened(encode_photo(given)))
        assert np.array_equal(array[..., [0, 3]], given.pixels >> 8)
        return
    back = open_photo(encode_photo(given))
    assert np.array_equal(back.pixels, given.pixels) and lost_in(given, "png") == []


def test_jpeg_keeps_all_colours() -> None:
    checks = np.zeros((16, 16, 3), np.uint8)
    checks[::2, ::2] = checks[1::2, 1::2] = (255, 0, 0)
    checks[::2, 1::2] = checks[1::2, ::2] = (0, 0, 255)
    image = opened(encode_photo(Photo(checks), "jpeg", quality=95))
    assert [layer[1:3] for layer in image.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]
    assert np.abs(np.asarray(image).astype(int) - checks).max() < 40


def test_what_a_format_cannot_hold_is_said() -> None:
    assert lost_in(photo(depth=16), "jpeg") == ["16 bits a channel become 8 (JPEG holds no more here, PNG does)"]
    assert lost_in(photo(4), "jpeg") == ["transparent parts become white (JPEG holds none)"]
    assert lost_in(photo(4), "webp") == lost_in(photo(4), "avif") == lost_in(photo(4), "png") == []


def test_transparent_parts_are_white_in_jpeg_and_kept_elsewhere() -> None:
    clear = Photo(np.zeros((8, 8, 4), np.uint8))
    assert opened(encode_photo(clear, "jpeg")).getpixel((0, 0)) == (255, 255, 255)
    grey = opened(encode_photo(Photo(np.zeros((8, 8, 2), np.uint8)), "jpeg"))
    assert (grey.mode, grey.getpixel((0, 0))) == ("L", 255)
    for fmt in ("webp", "avif", "png"):
        assert opened(encode_photo(clear, fmt)).convert("RGBA").getpixel((4, 4))[3] == 0  # type: ignore[index]


def test_limits_are_those_of_the_formats() -> None:
    line = Photo(np.zeros((1, 16_384, 3), np.uint8))
    with pytest.raises(ImageFileError, match="WEBP ends at 16383"):
        check_size("webp", line.size, "x")
    check_size("webp", (16_383, 1), "x")
    encode_photo(Photo(np.zeros((1, 16_383, 3), np.uint8)), "webp")
    encode_photo(Photo(np.zeros((1, 65_500, 3), np.uint8)), "jpeg")


def test_quality_makes_a_difference(tmp_path: Path) -> None:
    for fmt in ("jpeg", "webp", "avif"):
        small, large = (len(encode_photo(photo(), fmt, quality=q)) for q in (20, 95))
        assert small < large
    with pytest.raises(UsageError, match="Cannot write"):
        save_photo(photo(), tmp_path / "x.gif")
    save_photo(photo(), tmp_path / "x.avif")
    assert opened((tmp_path / "x.avif").read_bytes()).format == "AVIF"

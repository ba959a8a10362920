"""What a photo's file says is read and kept: 16 bits, palettes, profiles, EXIF data, resolution, frames."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageCms

from nsbgan_infer.errors import ImageFileError, WrongTypeError
from nsbgan_infer.photos import open_photo
from nsbgan_infer.photos.png16 import encode_png16
from nsbgan_infer.photos.reading import to_srgb

tifffile = pytest.importorskip("tifffile", reason="writes the TIFFs that Pillow cannot; scikit-image brings it")
COVERS = ["storage.image_files", "photos.png16"]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def grey_profile() -> bytes:
    """A grey profile of gamma 2.2 (ICC.1:2022, 8.4.3): white point and one tone curve."""
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(2.2 * 256)) + b"\0\0"
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249)))
    text = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"grey\0" + bytes(78) + b"\0"
    copyright_ = b"text\0\0\0\0none"
    parts, tags, at = b"", b"", 128 + 4 + 4 * 12
    for name, data in ((b"desc", text), (b"cprt", copyright_), (b"wtpt", white), (b"kTRC", curve)):
        data += bytes(-len(data) % 4)
        tags += name + struct.pack(">2I", at, len(data))
        parts, at = parts + data, at + len(data)
    head = struct.pack(">I4sI4s4s4s", at, b"test", 0x02400000, b"mntr", b"GRAY", b"XYZ ") + bytes(12) + b"acsp"
    head += bytes(28) + struct.pack(">3i", *(round(v * 65536) for v in (0.9642, 1.0, 0.8249))) + bytes(48)
    return head + struct.pack(">I", 4) + tags + parts


def saved(image: Image.Image, fmt: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


def tiff(values: np.ndarray, **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, values, **options)
    return buffer.getvalue()


DEEP = arrays.arrays(np.uint16, st.tuples(st.integers(1, 20), st.integers(1, 20), st.sampled_from([1, 3, 4])))


@settings(deadline=None)
@given(DEEP)
def test_sixteen_bits_survive_our_png(values: Any) -> None:
    photo = open_photo(encode_png16(values))
    assert photo.depth == 16 and np.array_equal(photo.pixels, values) and not photo.notes


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("options", [{}, {"compression": "zlib"}, {"tile": (16, 16)}])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_of_a_tiff_are_read(byteorder: str, options: dict[str, Any], channels: int) -> None:
    values = np.random.default_rng(channels).integers(0, 65536, (20, 30, channels), dtype=np.uint16)
    extra = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    given_ = values[..., 0] if channels == 1 else values
    kind = "minisblack" if channels == 1 else "rgb"
    photo = open_photo(tiff(given_, photometric=kind, byteorder=byteorder, **options, **extra))
    assert np.array_equal(photo.pixels, values) and not photo.notes


def test_twelve_bits_and_white_as_zero_are_what_they_mean() -> None:
    values = np.array([[0, 65535, 1000]], np.uint16)
    assert open_photo(tiff(values, photometric="miniswhite")).pixels[0, :, 0].tolist() == [65535, 0, 64535]


def test_separate_planes_are_noted_or_refused() -> None:
    values = np.random.default_rng(0).integers(0, 65536, (3, 20, 30), dtype=np.uint16)
    photo = open_photo(tiff(values, photometric="rgb", planarconfig="separate", compression="zlib"))
    assert photo.depth == 8 and photo.notes == ("16 bits a channel become 8",)
    assert np.array_equal(photo.pixels, values.transpose(1, 2, 0) >> 8)
    with pytest.raises(ImageFileError, match="separate planes: save it as 8 or 16 bit first"):
        open_photo(tiff(values, photometric="rgb", planarconfig="separate"))


@pytest.mark.parametrize("kind", [np.float32, np.uint32, np.int32])
def test_numbers_of_no_known_range_are_refused(kind: Any) -> None:
    values = np.ones((8, 8, 3), kind)
    with pytest.raises(ImageFileError, match=r"magick IN -depth 16 OUT\.png"):
        open_photo(tiff(values[..., 0]), name="x.tif")
    with pytest.raises(ImageFileError, match=r"magick IN -depth 16 OUT\.png"):
        open_photo(tiff(values, photometric="rgb"), name="x.tif")


def test_profiles_stay_with_the_colours_they_are_for() -> None:
    grey = grey_profile()
    ramp = Image.linear_gradient("L").resize((16, 16))
    palette = ramp.convert("RGB").convert("P")
    assert open_photo(saved(palette, icc_profile=SRGB)).profile == SRGB
    assert open_photo(saved(ramp, icc_profile=grey)).profile == grey
    photo = open_photo(saved(ramp.convert("LA"), icc_profile=grey))
    assert (photo.profile, photo.pixels.shape) == (grey, (16, 16, 2))
    wrong = open_photo(saved(ramp.convert("RGB"), icc_profile=grey))
    assert wrong.profile is None and "does not fit its pixels" in wrong.notes[0]
    assert open_photo(saved(ramp, icc_profile=b"short")).profile is None


def test_a_grey_profile_can_become_srgb() -> None:
    photo = open_photo(saved(Image.new("LA", (8, 8), (128, 200)), icc_profile=grey_profile()))
    shown = to_srgb(photo)
    assert shown.profile is None and shown.pixels[0, 0, 3] == 200
    linear = (128 / 255) ** 2.2  # IEC 61966-2-1 back to sRGB
    expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(shown.pixels[..., :3].astype(float) - expected).max() <= 1.5


def test_cmyk_becomes_srgb_with_a_note() -> None:
    photo = open_photo(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "TIFF"))
    assert photo.pixels[0, 0].tolist() == [255, 0, 0] and photo.notes == ("CMYK colours become sRGB",)


def test_lab_becomes_srgb() -> None:
    photo = open_photo(saved(Image.new("LAB", (8, 8), (255, 128, 128)), "TIFF"))
    assert photo.pixels.min() >= 253 and photo.notes == ("LAB colours become sRGB",)


def test_resolution_is_read_and_turned() -> None:
    image = Image.new("RGB", (20, 10))
    assert open_photo(saved(image, "JPEG", dpi=(300, 150))).dpi == (300, 150)
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = open_photo(saved(image, "TIFF", dpi=(300, 150), tiffinfo=exif))
    assert (photo.dpi, photo.size) == ((150, 300), (10, 20))
    assert open_photo(saved(image)).dpi is None


def test_exif_is_kept_without_what_no_longer_holds() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x010E] = 6, "Phone", "nsbgan:{}"
    exif.get_ifd(0x8769)[0x9003] = "2026:01:01 00:00:00"
    exif.get_ifd(0x8825)[1] = "N"
    photo = open_photo(saved(Image.new("RGB", (20, 10)), "JPEG", exif=exif))
    kept = Image.Exif()
    assert photo.exif is not None
    kept.load(photo.exif)
    assert kept[0x010F] == "Phone" and 0x0112 not in kept and 0x010E not in kept
    assert kept.get_ifd(0x8769)[0x9003] == "2026:01:01 00:00:00" and kept.get_ifd(0x8825)[1] == "N"


def test_tags_of_a_tiffs_layout_are_no_exif_data() -> None:
    photo = open_photo(saved(Image.new("RGB", (20, 10)), "TIFF"))
    assert photo.exif is None


def test_damaged_exif_is_noted_and_left_out() -> None:
    data = saved(Image.new("RGB", (20, 10)), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    assert open_photo(data).size == (20, 10)


def test_only_real_frames_are_noted() -> None:
    frames = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    film = open_photo(saved(frames[0], "GIF", save_all=True, append_images=frames[1:]))
    assert film.pixels[0, 0, 0] > 250
    assert film.notes == ("only the first of its 2 frames is used",)
    views = [Image.new("RGB", (8, 8), c) for c in ("red", "blue")]
    phone = open_photo(saved(views[0], "MPO", save_all=True, append_images=views[1:]))
    assert phone.notes == () and phone.pixels[0, 0, 0] > 250


def test_grey_with_a_transparent_value_has_transparency() -> None:
    photo = open_photo(saved(Image.linear_gradient("L").resize((4, 256)), transparency=7))
    assert photo.pixels.shape[2] == 2 and photo.pixels[7, 0, 1] == 0 and photo.pixels[8, 0, 1] == 255


def test_a_headers_size_is_checked_before_its_pixels(tmp_path: Path) -> None:
    row = b"\0" * 5000
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in (
        (b"IHDR", struct.pack(">2I5B", 5000, 5000, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(row)),
        (b"IEND", b""),
    ):
        data += struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    (tmp_path / "x.png").write_bytes(data)
    with pytest.raises(ImageFileError, match="5000 x 5000 pixels, more than 16777216"):
        open_photo(tmp_path / "x.png")


@settings(max_examples=100, deadline=None)
@given(fmt=st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF", "AVIF"]), data=st.data())
def test_damaged_files_are_read_or_refused(fmt: str, data: st.DataObject) -> None:
    content = bytearray(saved(Image.radial_gradient("L").resize((40, 30)).convert("RGB"), fmt, dpi=(72, 72)))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        open_photo(bytes(content), name="name.x")
    except ImageFileError as error:
        assert str(error).startswith("name.x ")


def test_a_photo_may_be_a_pil_image_or_a_text(tmp_path: Path) -> None:
    picture = Image.new("RGBA", (6, 4), (10, 20, 30, 40))
    picture.info["dpi"] = (300, 300)
    photo = open_photo(picture)
    assert photo.size == (6, 4) and photo.pixels[0, 0].tolist() == [10, 20, 30, 40] and photo.dpi == (300, 300)
    turned = Image.new("L", (6, 4))
    turned.getexif()[0x0112] = 6  # a phone held upright
    assert open_photo(turned).size == (4, 6)
    picture.save(tmp_path / "a.png")
    assert open_photo(str(tmp_path / "a.png")).size == (6, 4)
    with pytest.raises(ImageFileError, match="6 x 4 pixels, more than 5"):
        open_photo(picture, max_pixels=5)
    with pytest.raises(ImageFileError, match="floating-point"):
        open_photo(Image.new("F", (4, 4)))
    with pytest.raises(WrongTypeError, match="not a int"):
        open_photo(5)  # type: ignore[arg-type]

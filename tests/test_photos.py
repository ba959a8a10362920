"""Real photos: every mode, orientation, strips that show no seam, and better than interpolation."""

from __future__ import annotations

import math
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import tiny_decoder

from nsbgan_infer.decoders.interpolate import make_bicubic, make_iwt
from nsbgan_infer.errors import ImageFileError, UsageError
from nsbgan_infer.evaluation.round_trip import round_trip
from nsbgan_infer.photos import Photo, decode_image, enlarge, enlarging, open_photo

COVERS = ["evaluation.round_trip"]


def noise(width: int, height: int, channels: int = 3) -> np.ndarray:
    shape = (height, width, channels) if channels > 1 else (height, width)
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK", "I;16", "YCbCr", "PA"])
def test_every_mode_is_enlarged(mode: str, tmp_path: Path) -> None:
    path = tmp_path / {"CMYK": "x.tif", "YCbCr": "x.jpg", "LA": "x.tif", "PA": "x.tif"}.get(mode, "x.png")
    if mode == "I;16":
        image = Image.fromarray(noise(20, 12, 1).astype(np.uint16) * 257)
    else:
        image = Image.fromarray(noise(20, 12)).convert("P" if mode == "PA" else mode)
    if mode == "PA":
        path = tmp_path / "x.png"
        image.info["transparency"] = 3
    image.save(path)
    big = enlarge(open_photo(path), make_iwt())
    assert big.size == (80, 48)
    assert big.image.mode == {"L": "L", "1": "L", "I;16": "L", "RGBA": "RGBA", "LA": "LA", "PA": "RGBA"}.get(
        mode, "RGB"
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photos_are_turned_upright(orientation: int, tmp_path: Path) -> None:
    upright = Image.new("RGB", (24, 16), "blue")
    upright.paste("red", (0, 0, 8, 8))  # a mark in the top left corner
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = upright.transpose(turn[orientation]) if orientation in turn else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "x.png", exif=exif)
    photo = open_photo(tmp_path / "x.png")
    assert photo.size == (24, 16)
    assert photo.rgb[0, :, 2, 2].tolist() == [1, 0, 0] and photo.rgb[0, :, 12, 20].tolist() == [0, 0, 1]
    assert photo.exif is None


def test_what_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((8, 8), dtype=np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(ImageFileError, match="no known range"):
        open_photo(tmp_path / "f.tif")
    Image.new("RGB", (100, 100)).save(tmp_path / "large.png")
    with pytest.raises(ImageFileError, match="100 x 100 pixels, more than 9999"):
        open_photo(tmp_path / "large.png", max_pixels=9999)
    with pytest.raises(ImageFileError, match="No such image"):
        open_photo(tmp_path / "none.png")
    with pytest.raises(ImageFileError, match="at least 32 pixels"):
        round_trip(_photo(31, 40, tmp_path), make_iwt())
    with pytest.raises(UsageError, match="measured at x4"):
        round_trip(_photo(64, 64, tmp_path), make_iwt(2))


def _photo(width: int, height: int, folder: Path) -> Photo:
    Image.fromarray(noise(width, height)).save(folder / "p.png")
    return open_photo(folder / "p.png")


@settings(deadline=None, max_examples=12)
@given(width=st.integers(1, 90), height=st.integers(1, 90), tile=st.sampled_from([8, 16, 40]))
def test_strips_and_tiles_equal_the_whole(width: int, height: int, tile: int) -> None:
    low = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(width * 91 + height))
    decoder = tiny_decoder()
    whole = np.asarray(decode_image(decoder, low), dtype=int)
    parts = np.asarray(decode_image(decoder, low, tile=tile), dtype=int)
    assert whole.shape == (4 * height, 4 * width, 3)
    assert np.abs(whole - parts).max() <= 1


def test_large_photos_are_cut_into_windows_of_one_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enlarging, "WINDOW", 32)
    seen: set[tuple[int, ...]] = set()

    plain = make_bicubic().anchored("centre")

    class Watching:
        info = plain.info

        def __call__(self, low_band: torch.Tensor) -> torch.Tensor:
            seen.add(tuple(low_band.shape[-2:]))
            return plain(low_band)

    low = torch.rand(1, 3, 70, 50)
    image = decode_image(Watching(), low)
    assert np.abs(np.asarray(image, dtype=int) - np.asarray(decode_image(plain, low), dtype=int)).max() <= 1
    assert len(seen) == 1 and max(seen.pop()) <= 32


@given(
    length=st.integers(1, 5000),
    tile=st.none() | st.integers(8, 600),
    halo=st.integers(0, 40),
    multiple=st.sampled_from([1, 2, 8]),
    compiled=st.booleans(),
)
def test_windows_cover_everything_once_with_their_margins(
    length: int, tile: int | None, halo: int, multiple: int, compiled: bool
) -> None:
    info = replace(make_bicubic().info, halo=halo, multiple=multiple)
    quantum = math.lcm(16, multiple) if compiled else 1
    side, windows = enlarging._windows(length, info, tile, quantum, -(-halo // multiple) * multiple)
    assert [w.begin for w in windows[1:]] == [w.end for w in windows[:-1]]
    assert windows[0].begin == 0 and windows[-1].end == length and all(w.begin < w.end for w in windows)
    for w in windows:
        stop = min(w.start + side, length)
        assert w.start >= 0 and w.start <= max(0, w.begin - halo) and stop >= min(length, w.end + halo)
    if compiled:
        assert side % 16 == 0
    if tile is None:
        assert side <= max(enlarging.WINDOW, 2 * halo + 64)


def test_a_round_trip_of_a_smooth_picture_is_nearly_exact(tmp_path: Path) -> None:
    ramp = np.linspace(40, 200, 64)
    image = np.stack([np.add.outer(ramp, ramp) / 2] * 3, -1).astype(np.uint8)
    Image.fromarray(image[:61, :50]).save(tmp_path / "ramp.png")
    result = round_trip(open_photo(tmp_path / "ramp.png"), make_iwt())
    assert result.image.size == (50, 61)
    assert result.psnr_y > 45 and result.psnr_y == pytest.approx(result.baseline_psnr_y, abs=0.01)


def test_the_shipped_decoder_beats_interpolation_on_real_photos(shared_data: Path, tmp_path: Path) -> None:
    from nsbgan_infer.errors import CheckpointError
    from nsbgan_infer.registry import load_decoder
    from nsbgan_infer.storage.shipped import default_decoder

    name = default_decoder("wavelet", "upscale")
    if name == "iwt":
        pytest.skip("no weights ship with this checkout yet")
    try:
        decoder = load_decoder(name)
    except CheckpointError as error:
        pytest.skip(str(error))
    gains = []
    with zipfile.ZipFile(shared_data / "set5.zip") as archive:
        for member in archive.namelist():
            (tmp_path / "p.png").write_bytes(archive.read(member))
            result = round_trip(open_photo(tmp_path / "p.png"), decoder)
            assert result.psnr_y > result.baseline_psnr_y, member
            gains.append(result.psnr_y - result.baseline_psnr_y)
    assert sum(gains) / len(gains) > 1.3

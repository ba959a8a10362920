"""Real photos: every mode, orientation, strips that show no seam, and better than interpolation."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiny import tiny_decoder

from nsbgan_infer import photos
from nsbgan_infer.decoders.interpolate import make_bicubic, make_iwt
from nsbgan_infer.errors import ImageFileError, UsageError
from nsbgan_infer.photos import decode_image, enlarge, open_photo, round_trip


def noise(width: int, height: int, channels: int = 3) -> np.ndarray:  # type: ignore[type-arg]
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
    assert big.mode == {"L": "L", "1": "L", "I;16": "L", "RGBA": "RGBA", "LA": "RGBA", "PA": "RGBA"}.get(mode, "RGB")


def test_sixteen_bits_keep_their_brightness(tmp_path: Path) -> None:
    Image.fromarray(np.full((12, 12), 40_000, dtype=np.uint16)).save(tmp_path / "x.png")
    photo = open_photo(tmp_path / "x.png")
    assert photo.notes and photo.grey
    assert np.asarray(enlarge(photo, make_iwt())).mean() == pytest.approx(40_000 / 257, abs=1)


def test_transparency_is_enlarged_with_the_picture(tmp_path: Path) -> None:
    array = noise(16, 16, 4)
    array[..., 3] = 0
    array[:, 8:, 3] = 255
    Image.fromarray(array).save(tmp_path / "x.png")
    alpha = np.asarray(enlarge(open_photo(tmp_path / "x.png"), make_iwt()).getchannel("A"))
    assert alpha.shape == (64, 64) and alpha[:, :24].max() == 0 and alpha[:, 40:].min() == 255


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
    assert "Orientation" not in str(enlarge(photo, make_iwt()).getexif())


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


def _photo(width: int, height: int, folder: Path) -> photos.Photo:
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


def test_large_photos_are_cut_by_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photos, "WHOLE", 32 * 32)
    monkeypatch.setattr(photos, "TILE", 16)
    seen: list[int] = []

    class Watching:
        info = make_bicubic().info

        def __call__(self, low_band: torch.Tensor) -> torch.Tensor:
            seen.append(low_band.shape[-1] * low_band.shape[-2])
            return make_bicubic()(low_band)

    low = torch.rand(1, 3, 70, 50)
    image = decode_image(Watching(), low)
    assert np.abs(np.asarray(image, dtype=int) - np.asarray(decode_image(make_bicubic(), low), dtype=int)).max() <= 1
    assert max(seen) < 40 * 40


def test_a_round_trip_of_a_smooth_picture_is_nearly_exact(tmp_path: Path) -> None:
    ramp = np.linspace(40, 200, 64)
    image = np.stack([np.add.outer(ramp, ramp) / 2] * 3, -1).astype(np.uint8)
    Image.fromarray(image[:61, :50]).save(tmp_path / "ramp.png")
    result = round_trip(open_photo(tmp_path / "ramp.png"), make_iwt())
    assert result.image.size == (50, 61)
    assert result.psnr_y > 45 and result.psnr_y == pytest.approx(result.baseline_psnr_y, abs=0.01)


def test_the_shipped_decoder_beats_interpolation_on_real_photos(shared_data: Path, tmp_path: Path) -> None:
    from nsbgan_infer.errors import CheckpointError
    from nsbgan_infer.pretrained import default_decoder
    from nsbgan_infer.registry import load_decoder

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


def test_a_colour_profile_stays(tmp_path: Path) -> None:
    from PIL import ImageCms

    from nsbgan_infer.cli.upscale import _write

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    buffer = io.BytesIO()
    Image.fromarray(noise(16, 16)).save(buffer, "PNG", icc_profile=profile)
    (tmp_path / "x.png").write_bytes(buffer.getvalue())
    photo = open_photo(tmp_path / "x.png")
    for name in ("y.png", "y.jpg", "y.webp"):
        _write(enlarge(photo, make_iwt()), tmp_path / name, photo.profile)
        assert Image.open(tmp_path / name).info.get("icc_profile") == profile, name

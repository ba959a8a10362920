"""Low-band sets: what is written is what the encoder says, for every picture, and bad input is named first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nsbgan_infer.datasets import centre_square, open_source, to_tensor
from nsbgan_infer.encoders import Encoder, PixelEncoder, WaveletEncoder
from nsbgan_infer.errors import CheckpointError, ImageFileError, UsageError
from nsbgan_infer.training.samplers.lowbands import CHUNK, encode_lowbands, open_lowbands

WNIDS = ("n02099601", "n01440764")  # golden retriever 207, tench 0


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for i in range(5):
        folder = tmp_path / "photos" / WNIDS[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (70 + i, 90, 3), np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize("encoder", [WaveletEncoder(2), WaveletEncoder(1, "zero"), PixelEncoder(2)])
def test_every_picture_and_its_mirror_image_are_encoded(photos: Path, tmp_path: Path, encoder: Encoder) -> None:
    source = open_source(photos)
    told: list[tuple[int, int]] = []
    data = encode_lowbands(source, tmp_path / "set", encoder, size=64, progress=lambda a, b: told.append((a, b)))
    assert len(data) == 5 and data.flips == 2 and data.encoder == encoder and told[-1] == (5, 5)
    assert data.classes == (0, 207)
    for i in range(5):
        picture = to_tensor(centre_square(source.image(i), 64))[None]
        for flip, given in enumerate((picture, picture.flip(-1))):
            band = data.batch(torch.tensor([i]), torch.tensor([flip]))
            torch.testing.assert_close(band, encoder(given).half().float())
        assert data.classes[int(data.labels[i])] == source.classes[i]


def test_statistics_are_those_of_the_values(photos: Path, tmp_path: Path) -> None:
    data = encode_lowbands(open_source(photos), tmp_path / "set", WaveletEncoder(2), size=64)
    low = np.asarray(data.low, np.float64)
    assert data.minimum == low.min() and data.maximum == low.max()
    assert data.mean == pytest.approx(low.mean()) and data.std == pytest.approx(low.std())
    shift, scale = data.shift_and_scale()
    assert shift == np.ceil(abs(low.min() * 4)) and scale == shift + np.ceil(low.max() * 4)
    assert (low.min() * 4 + shift) / scale >= 0 and (low.max() * 4 + shift) / scale <= 1


def test_the_last_incomplete_chunk_is_written(tmp_path: Path) -> None:
    folder = tmp_path / WNIDS[0]
    folder.mkdir()
    for i in range(CHUNK + 3):
        Image.new("RGB", (64, 64), (i, 255 - i, 100)).save(folder / f"{i:03d}.png")
    data = encode_lowbands(open_source(tmp_path), tmp_path / "set", WaveletEncoder(2), size=64, flips=False)
    levels = data.low[:, 0, 0].mean((1, 2)) * 255
    np.testing.assert_allclose(levels, np.arange(CHUNK + 3), atol=0.2)


def test_a_thinned_set_keeps_pictures_and_labels_together(photos: Path, tmp_path: Path) -> None:
    data = encode_lowbands(open_source(photos), tmp_path / "set", WaveletEncoder(2), size=64)
    few = data.thinned(3)
    rows = torch.tensor([0, 2, 4])
    assert few.labels.tolist() == data.labels[rows].tolist() and len(few) == 3
    torch.testing.assert_close(few.batch(torch.arange(3), torch.ones(3).long()), data.batch(rows, torch.ones(3).long()))
    assert len(data.thinned(99)) == 5


def test_pixel_sets_are_not_shifted(photos: Path, tmp_path: Path) -> None:
    data = encode_lowbands(open_source(photos), tmp_path / "set", PixelEncoder(2), size=64)
    assert data.shift_and_scale() == (0.0, 1.0)


def test_bad_pictures_are_named_and_nothing_is_left(photos: Path, tmp_path: Path) -> None:
    (photos / WNIDS[0] / "broken.png").write_bytes(b"not a picture")
    Image.new("RGB", (20, 30)).save(photos / WNIDS[1] / "small.png")
    with pytest.raises(ImageFileError, match=r"(?s)small\.png.*broken\.png|broken\.png.*small\.png"):
        encode_lowbands(open_source(photos), tmp_path / "set", WaveletEncoder(2), size=64)
    assert not list((tmp_path / "set").iterdir())


def test_pictures_without_a_class_are_refused(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "lonely.png")
    with pytest.raises(UsageError, match=r"lonely\.png"):
        encode_lowbands(open_source(tmp_path), tmp_path / "set", WaveletEncoder(2), size=64)


def test_a_size_that_cannot_be_halved_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="multiple of 4"):
        encode_lowbands(open_source(photos), tmp_path / "set", WaveletEncoder(2), size=66)


@pytest.mark.parametrize("damage", ["gone", "count", "label", "json", "format", "array"])
def test_a_damaged_set_is_refused(photos: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "set"
    encode_lowbands(open_source(photos), folder, WaveletEncoder(2), size=64)
    index = json.loads((folder / "index.json").read_text())
    if damage == "gone":
        (folder / "low.npy").unlink()
    elif damage == "array":
        (folder / "low.npy").write_bytes((folder / "low.npy").read_bytes()[:200])
    elif damage == "json":
        (folder / "index.json").write_text("{")
    else:
        changes: dict[str, dict[str, Any]] = {
            "count": {"count": 4},
            "label": {"labels": [7] * 5},
            "format": {"format": "other"},
        }
        (folder / "index.json").write_text(json.dumps({**index, **changes[damage]}))
    with pytest.raises(CheckpointError):
        open_lowbands(folder)

"""Photos by other engines than eager torch: the same picture, one shape for all tiles, compiled once and kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import tiny_decoder

from nsbgan_infer.decoders.interpolate import make_bicubic
from nsbgan_infer.engines import place_part
from nsbgan_infer.errors import UsageError
from nsbgan_infer.photos import Photo, engine, enlarge, enlarging
from nsbgan_infer.photos.engine import pick_photo_engine

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def photo(width: int, height: int, channels: int = 3) -> Photo:
    return Photo(np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8))


@pytest.mark.parametrize(("width", "height", "channels"), [(150, 130, 3), (70, 75, 4), (9, 5, 1)])
def test_openvino_makes_the_same_picture_with_one_shape(
    width: int,
    height: int,
    channels: int,
    monkeypatch: pytest.MonkeyPatch,
    private_cache: Path,
) -> None:
    pytest.importorskip("openvino", reason="needs the extra openvino")
    monkeypatch.setattr(enlarging, "WINDOW", 64)
    given = photo(width, height, channels)
    made = []
    for _ in range(2):  # the second time from the cache
        made.append(enlarge(given, place_part(tiny_decoder(), "openvino", CPU, torch.float32)).pixels)
        assert len(list((private_cache / "openvino").glob("*.blob"))) == 1
    assert np.array_equal(made[0], made[1])
    plain = enlarge(given, place_part(tiny_decoder(), "eager", CPU, torch.float32)).pixels
    inside = (slice(4 * 4, -4 * 4), slice(4 * 4, -4 * 4)) if height > 64 else (slice(None, 1), slice(None, 1))
    assert made[0].shape == plain.shape
    assert np.abs(made[0][inside].astype(int) - plain[inside].astype(int)).max() <= 1


def test_auto_compiles_where_it_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder: Any = tiny_decoder()
    monkeypatch.setattr(engine, "find_spec", lambda _name: object())
    monkeypatch.setattr(engine, "computes_bf16", lambda _device: True)
    large = engine.WORTH_OPENVINO
    assert pick_photo_engine("auto", CPU, decoder, large) == "openvino"
    assert pick_photo_engine("auto", CPU, decoder, large - 1) == "eager"
    assert pick_photo_engine("auto", CPU, make_bicubic(), large) == "eager"
    assert pick_photo_engine("auto", GPU, decoder, engine.WORTH_COMPILING) == "compile"
    assert pick_photo_engine("auto", GPU, decoder, large) == "eager"
    assert pick_photo_engine("openvino", CPU, decoder, 1) == "openvino"
    with pytest.raises(UsageError, match="runs on the CPU"):
        pick_photo_engine("openvino", GPU, decoder, 1)
    monkeypatch.setattr(engine, "computes_bf16", lambda _device: False)  # AVX2: both are equally fast
    assert pick_photo_engine("auto", CPU, decoder, large) == "eager"
    monkeypatch.setattr(engine, "find_spec", lambda _name: None)
    assert pick_photo_engine("auto", CPU, decoder, large) == "eager"

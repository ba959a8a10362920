"""Which engine an evaluation takes, and what it does where OpenVINO cannot take a decoder of any size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny import tiny_decoder

from nsbgan_infer.datasets import open_source
from nsbgan_infer.decoders.ensemble import SelfEnsemble
from nsbgan_infer.decoders.interpolate import make_bicubic
from nsbgan_infer.decoders.photo import PhotoConfig, PhotoDecoder
from nsbgan_infer.engines import openvino
from nsbgan_infer.engines.graph import Engined, part_graph, place_of
from nsbgan_infer.errors import UsageError
from nsbgan_infer.evaluation import engine
from nsbgan_infer.evaluation.engine import WORTH_OPENVINO, estimate_pixels, place_decoder

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("installed", "pixels", "wanted"),
    [(True, WORTH_OPENVINO, "any"), (True, WORTH_OPENVINO - 1, "eager"), (False, WORTH_OPENVINO, "eager")],
)
def test_auto_compiles_where_many_pixels_wait(
    monkeypatch: pytest.MonkeyPatch, installed: bool, pixels: int, wanted: str
) -> None:
    monkeypatch.setattr(engine, "find_spec", lambda _name: object() if installed else None)
    monkeypatch.setattr(engine, "place_for_any_size", lambda *_given: "any")
    monkeypatch.setattr(engine, "place_part", lambda _decoder, name, *_given: name)
    found: Any = place_decoder(tiny_decoder(), "auto", CPU, torch.float32, pixels)
    assert found == wanted


def test_pixels_are_estimated_from_a_few_headers(tmp_path: Path) -> None:
    for i in range(20):
        Image.new("RGB", (40, 30)).save(tmp_path / f"{i:02d}.png")
    assert estimate_pixels(open_source(tmp_path)) == 20 * 40 * 30
    (tmp_path / "00.png").write_bytes(b"no picture")
    assert estimate_pixels(open_source(tmp_path)) == 17 * 40 * 30 + 40 * 30 // 2  # 7 of 8 could be read


def test_a_decoder_without_a_graph_and_one_that_comes_out_wrong_are_left_to_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("openvino")
    bicubic = make_bicubic()
    assert place_decoder(bicubic, "openvino", CPU, torch.float32, 0) is bicubic
    for answer in (lambda *_given: torch.zeros(()), lambda *_given: _refuse()):
        monkeypatch.setattr(openvino.Network, "__call__", answer)
        decoder = tiny_decoder()
        assert place_decoder(decoder, "openvino", CPU, torch.float32, 0) is decoder
    with pytest.raises(UsageError, match="add --device cpu"):
        place_decoder(tiny_decoder(), "openvino", torch.device("cuda"), torch.float32, 0)


def _refuse() -> torch.Tensor:
    raise RuntimeError("no such layer")


def test_the_place_of_a_part_is_that_of_its_weights_whatever_runs_it() -> None:
    decoder = PhotoDecoder(PhotoConfig(blocks=1, channels=4)).to(torch.bfloat16)
    graph = part_graph(decoder)
    assert graph is not None
    engined: Any = Engined(decoder, graph, decoder)
    for part in (decoder, engined, SelfEnsemble(engined), SelfEnsemble(decoder)):
        assert place_of(part) == (CPU, torch.bfloat16)
    assert place_of(make_bicubic()) == (CPU, torch.float32)

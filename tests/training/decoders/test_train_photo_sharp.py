"""Training of `photo-sharp` (adversarial, on degraded pictures) and of `rrdb` in both stages."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from nsbgan_infer.decoders.rrdb import RRDB
from nsbgan_infer.errors import UnknownNameError, UsageError
from nsbgan_infer.registry import load_decoder
from nsbgan_infer.storage.components import load_component
from nsbgan_infer.training.decoders.adversarial import AdversarialSettings, train_adversarial
from nsbgan_infer.training.decoders.l1 import DecoderTask, train_decoder
from nsbgan_infer.training.decoders.pairs import DegradedBatches, ReducedBatches
from nsbgan_infer.training.decoders.presets import adversarial_settings, decoder_settings
from nsbgan_infer.training.loop import make_accelerator

LOOP = {"quiet": True, "tensorboard": False, "device": "cpu", "log_every": 1}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with edges, so that there are details to learn."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(3):
        coarse = rng.integers(0, 256, (12, 14, 3), np.uint8)
        Image.fromarray(coarse).resize((112, 96), Image.Resampling.NEAREST).save(folder / f"{i}.png")
    return folder


def first(photos: Path, out: Path, arch: str, steps: int, **own: Any) -> Any:
    """A tiny L1 run."""
    overrides = {"batch": 2, "crop": 8, "loop": {**LOOP, "steps": steps, "save_every": steps}, **own}
    return train_decoder(decoder_settings("tiny", arch=arch, data=(str(photos),), out=out, overrides=overrides))


@pytest.fixture(scope="module")
def photo(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("photo")
    first(photos, out, "photo", 2)
    return out


def second(photos: Path, out: Path, arch: str, start: Path, steps: int = 6) -> AdversarialSettings:
    """A tiny adversarial run."""
    pytest.importorskip("efficientnet_lite_pytorch")
    loop = {**LOOP, "steps": steps, "save_every": 3, "sheet_every": steps}
    overrides = {"width": 2, "decoder": {"batch": 2, "crop": 8, "name": f"{arch}-sharp", "loop": loop}}
    return adversarial_settings("tiny", arch=arch, start=start, data=(str(photos),), out=out, overrides=overrides)


def log(out: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


def test_photo_sharp_learns_from_degraded_windows_and_resumes(photos: Path, photo: Path, tmp_path: Path) -> None:
    settings = second(photos, tmp_path / "whole", "photo", photo)
    assert settings.decoder.degrade == ("two-round", "camera") and settings.decoder.clean == 0.3
    whole = train_adversarial(settings)
    decoder = load_decoder(str(tmp_path / "whole"))
    assert decoder.info.name == "photo-sharp" and decoder.info.reads == "bicubic"
    before = load_component(photo).state_dict()
    assert any(not torch.equal(v, before[k]) for k, v in whole.state_dict().items())
    with Image.open(tmp_path / "whole" / "sheets" / "step-0000006.png") as sheet:
        assert sheet.size == (8 * 32, 3 * 32)
    cut = replace(settings, decoder=replace(settings.decoder, loop=replace(settings.loop, out=tmp_path / "cut")))
    short = replace(cut, decoder=replace(cut.decoder, loop=replace(cut.loop, stop_after=4)))
    train_adversarial(short)
    parts = train_adversarial(cut)
    assert log(tmp_path / "cut") == log(tmp_path / "whole")
    assert all(torch.equal(v, parts.state_dict()[k]) for k, v in whole.state_dict().items())


def test_what_is_enlarged_is_degraded_and_what_is_compared_is_not(photos: Path, photo: Path, tmp_path: Path) -> None:
    settings = second(photos, tmp_path, "photo", photo).decoder
    found = {}
    for name, changes in (("degraded", {}), ("plain", {"degrade": ()}), ("clean", {"clean": 1.0})):
        task = DecoderTask(replace(settings, **changes), make_accelerator("cpu"))
        assert isinstance(task.pairs, ReducedBatches if name == "plain" else DegradedBatches)
        found[name] = task.pairs(0)
    assert torch.equal(found["clean"].picture, found["degraded"].picture)
    assert not torch.equal(found["clean"].low, found["degraded"].low)


def test_the_l1_stage_learns_from_degraded_windows_too(photos: Path, photo: Path, tmp_path: Path) -> None:
    trained = first(photos, tmp_path, "photo", 40, start=str(photo), degrade=["camera"], lr=3e-3)
    losses = [line["loss"] for line in log(tmp_path)]
    assert sum(losses[-10:]) < 0.97 * sum(losses[:10]) and trained.info.reads == "bicubic"


def test_degraded_windows_are_for_decoders_of_ordinary_pictures(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="reads a wavelet low band"):
        first(photos, tmp_path / "w", "subband-w", 1, degrade=["camera"])
    with pytest.raises(UnknownNameError, match="camera"):
        first(photos, tmp_path / "w", "photo", 1, degrade=["camara"])
    with pytest.raises(UsageError, match="from 0 to 1"):
        first(photos, tmp_path / "w", "photo", 1, clean=-0.1)


def test_rrdb_trains_by_l1_and_then_against_a_discriminator(photos: Path, tmp_path: Path) -> None:
    trained = first(photos, tmp_path / "rrdb", "rrdb", 80, lr=2e-3)
    assert isinstance(trained, RRDB) and trained.info.reads == "bicubic" and trained.info.name == "rrdb"
    losses = [line["loss"] for line in log(tmp_path / "rrdb")]
    assert sum(losses[-10:]) < 0.7 * sum(losses[:10])
    sharp = train_adversarial(second(photos, tmp_path / "sharp", "rrdb", tmp_path / "rrdb", 3))
    assert isinstance(sharp, RRDB) and sharp.info.name == "rrdb-sharp"
    assert {"l1", "perceptual", "adversarial", "judge"} <= set(log(tmp_path / "sharp")[0])

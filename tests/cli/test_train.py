"""`nsbgan data encode` and `nsbgan train`: from pictures to parts that generate, resume, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import Run
from photo_file import photo

from nsbgan_infer.cli.train import ARCHS, STARTED_FROM
from nsbgan_infer.images import read_recipe
from nsbgan_infer.storage.architectures import all_architectures

COVERS = ["cli.data"]

JsonRun = Callable[..., Any]


def stopped(_settings: object) -> None:
    """What Ctrl-C does to a trainer."""
    raise KeyboardInterrupt


def test_a_decoder_in_seconds_and_on_from_there(run: Run, run_json: JsonRun, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate")
    Path("photos").mkdir()
    for i in range(3):
        photo(Path(f"photos/{i}.png"), 96, 96)
    Path("more.toml").write_text("batch = 2\n[loop]\nsave_every = 2\n")
    common = [
        "train",
        "decoder",
        "--preset",
        "tiny",
        "--data",
        "photos",
        "--config",
        "more.toml",
        "--device",
        "cpu",
    ]
    value = run_json(*common, "--steps", "4", "--out", "run", "--quiet")
    assert value == {"out": "run", "kind": "decoder", "arch": "subband"}
    settings = json.loads(Path("run/settings.json").read_text())
    assert (settings["batch"], settings["loop"]["steps"], settings["loop"]["save_every"]) == (2, 4, 2)
    assert "add --resume" in run(*common, "--steps", "4", "--out", "run", code=2).stderr
    run(*common, "--steps", "4", "--out", "run", "--resume")
    assert "run holds a run with" in run(*common, "--steps", "5", "--out", "run", "--resume", code=2).stderr
    run("upscale", "photos/0.png", "--decoder", "run", "--out", "big.png")
    assert "goes on from a trained" in run(*common, "--arch", "esrgan-w", "--out", "gan", code=2).stderr
    monkeypatch.setattr("nsbgan_infer.training.decoders.l1.train_decoder", stopped)
    said = run(*common, "--steps", "4", "--out", "run", "--resume", code=130).stderr
    assert "Stopped: the same command with --resume goes on with what is in run." in said
    assert "Stopped" not in run(*common, "--out", "other", code=130).stderr  # nothing to go on with


def test_settings_that_do_not_exist_are_named(run: Run) -> None:
    Path("bad.toml").write_text("bach = 2\n")
    photo(Path("a.png"), 96, 96)
    arguments = ["train", "decoder", "--data", "a.png", "--out", "run", "--config", "bad.toml"]
    assert "did you mean batch" in run(*arguments, code=2).stderr


def test_low_bands_are_encoded_with_their_classes(run: Run, run_json: JsonRun) -> None:
    for wnid in ("n02099601", "n01440764"):
        Path("set", wnid).mkdir(parents=True)
        photo(Path("set", wnid, "a.png"), 64, 64)
    value = run_json("data", "encode", "set", "--out", "low", "--size", "64", "--quiet")
    assert (value["count"], value["classes"], value["side"]) == (2, [0, 207], 16)
    photo(Path("set/unlabelled.png"), 64, 64)
    assert "unlabelled.png" in run("data", "encode", "set", "--out", "low2", code=2).stderr


def test_a_sampler_from_pictures_to_pictures(run: Run, run_json: JsonRun) -> None:
    pytest.importorskip("accelerate")
    for wnid in ("n02099601", "n01440764"):
        Path("set", wnid).mkdir(parents=True)
        for i in range(2):
            photo(Path("set", wnid, f"{i}.png"), 64, 64)
    run("data", "encode", "set", "--out", "low", "--size", "64", "--levels", "1", "--quiet")
    Path("small.toml").write_text("batch = 2\naccumulate = 1\n")
    arguments = ["train", "sampler", "--form", "biggan-deep", "--preset", "tiny", "--config", "small.toml"]
    said = run(*arguments, "--data", "low", "--steps", "1", "--out", "run", "--device", "cpu", code=2).stderr
    assert "32 x 32" in said
    run("data", "encode", "set", "--out", "low", "--size", "128", "--levels", "1", "--quiet")
    value = run_json(*arguments, "--data", "low", "--steps", "2", "--out", "run", "--device", "cpu", "--quiet")
    assert value["kind"] == "sampler"
    run("generate", "--preset", "embedded", "--sampler", "run", "--decoder", "iwt", "-c", "207", "--res", "256")
    assert read_recipe(Path("out/207_golden-retriever_seed0.png")).sampler == "run"


@pytest.mark.parametrize("form", ["r3gan", "progan"])
def test_what_other_forms_train_is_an_ordinary_sampler(run: Run, run_json: JsonRun, form: str) -> None:
    pytest.importorskip("accelerate")
    for wnid in ("n02099601", "n01440764"):
        Path("set", wnid).mkdir(parents=True)
        photo(Path("set", wnid, "0.png"), 128, 128)
    run("data", "encode", "set", "--out", "low", "--size", "128", "--levels", "1", "--quiet")
    arguments = ["train", "sampler", "--form", form, "--preset", "tiny", "--data", "low", "--steps", "2"]
    arguments += [
        "--out",
        "runs/x",
        "--device",
        "cpu",
        "--loss",
        "rpgan",
        "--set",
        "batch=2",
        "--set",
        "loop.sheet_every=2",
    ]
    arguments += ["--set", "r1=[1, 0.1]"]
    assert run_json(*arguments, "--quiet")["arch"] == form
    assert Path("runs/x/sheets/step-0000002.png").is_file()
    settings = json.loads(Path("runs/x/settings.json").read_text())
    assert (settings["loss"], settings["batch"], settings["r1"]) == ("rpgan", 2, [1.0, 0.1])
    said = run(*arguments[:-1], "r1=1", "--resume", code=2).stderr
    assert "r1 in the settings must be a list" in said
    drawn = ("-c", "207", "--count", "2", "--preset", "embedded", "--decoder", "iwt", "--res", "256")
    run("generate", "--sampler", "runs/x", *drawn)
    assert len(list(Path("out").rglob("*.png"))) == 2


def test_the_command_offers_what_architectures_say_can_be_trained() -> None:
    """The list stands in the command because `--help` must not import torch."""
    rows = [row for cls in all_architectures().values() for row in cls.trained]
    assert {row.second: row.name for row in rows if row.second} == STARTED_FROM
    assert sorted(ARCHS) == sorted([*(row.name for row in rows), *STARTED_FROM])

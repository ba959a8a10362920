"""`nsbgan data encode` and `nsbgan train`: from pictures to parts that generate, resume, refusals."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import Run
from photo_file import photo

from nsbgan_infer.images import read_recipe
from nsbgan_infer.storage.architectures import second_stages, trained_networks
from nsbgan_infer.training.run_folder import name_of_run

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
    assert value == {"out": "run", "kind": "decoder", "arch": "subband", "name": "run"}
    settings = json.loads(Path("run/settings.json").read_text())
    assert (settings["batch"], settings["loop"]["steps"], settings["loop"]["save_every"]) == (2, 4, 2)
    assert "add --resume" in run(*common, "--steps", "4", "--out", "run", code=2).stderr
    run(*common, "--steps", "4", "--out", "run", "--resume")
    assert "run holds a run with" in run(*common, "--steps", "5", "--out", "run", "--resume", code=2).stderr
    run("upscale", "photos/0.png", "--decoder", "run", "--out", "big.png")
    assert "begins with a trained" in run(*common, "--arch", "esrgan-w", "--out", "gan", code=2).stderr
    monkeypatch.setattr("nsbgan_infer.training.decoders.l1.train_decoder", stopped)
    said = run(*common, "--steps", "4", "--out", "run", "--resume", code=130).stderr
    assert "Stopped: the same command with --resume goes on with what is in run." in said
    said = run(*common, "--out", "other", code=130).stderr
    assert "Stopped before the first step: there is nothing to resume." in said and "goes on" not in said


def test_a_decoder_takes_a_name_that_no_built_in_one_has(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def note(settings: Any) -> None:
        called.append(settings.name)
        raise KeyboardInterrupt

    monkeypatch.setattr("nsbgan_infer.training.decoders.l1.train_decoder", note)
    monkeypatch.setattr("nsbgan_infer.training.decoders.unet.train_unet", note)
    photo(Path("a.png"), 96, 96)
    arguments = ["--data", "a.png", "--out", "x"]
    run("train", "decoder", *arguments, "--name", "crisp", code=130)
    run("train", "unet", "--level", "1", *arguments, "--name", "crisp", code=130)
    assert called == ["crisp", "crisp"]
    taken = run("train", "decoder", *arguments, "--name", "subband-w", code=2).stderr
    assert "subband-w is the name of a built-in decoder" in taken
    assert name_of_run("", Path("runs/subband-w")) == "my-subband-w"
    assert name_of_run("", Path("runs/mine")) == "mine"
    assert name_of_run("subband-w", Path("runs/mine")) == "subband-w"  # by whoever makes what ships


def test_one_level_of_a_unet_says_that_the_other_is_missing(run: Run) -> None:
    from nsbgan_infer.decoders.unet_p import UNetP, UNetPConfig
    from nsbgan_infer.decoders.unet_w import UNetW, UNetWConfig
    from nsbgan_infer.storage.components import save_component

    for network in (UNetW(UNetWConfig("half", 4, (1,))), UNetP(UNetPConfig("half", 4, (1,)))):
        assert "half holds level 1 alone, level 2 is missing" in network.caveat()
    assert UNetW(UNetWConfig("whole", 4)).caveat() == UNetP(UNetPConfig("whole", 4)).caveat() == ""
    save_component(UNetW(UNetWConfig("half", 4, (1,))), Path("half"))
    said = run("generate", "--preset", "embedded", "--decoder", "half", "-c", "207", "--res", "256").stderr
    assert "nsbgan: warning: half holds level 1 alone" in said and said.count("warning") == 1


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


def test_the_help_names_what_architectures_say_can_be_trained(run: Run) -> None:
    said = run("train", "decoder", "--help").stdout
    assert {name for name in trained_networks() if not re.search(rf"\b{name}\b", said)} == set(), (
        "name them in the docstring of `decoder_command` in cli/train.py, then run `make docs`"
    )
    said = run("train", "decoder", "--arch", "subband", "--data", "a", "-o", "r", code=2).stderr
    assert "did you mean subband-w" in said


def test_second_stages_ask_for_their_first(run: Run) -> None:
    for second, first in second_stages().items():
        said = run("train", "decoder", "--arch", second, "--data", "a", "-o", "r", code=2).stderr
        assert f"{second} begins with a trained {first}" in said


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

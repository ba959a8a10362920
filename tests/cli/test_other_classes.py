"""Samplers without classes, and with classes that are not ImageNet's: commands, Python, bulk runs and walks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Run
from peer_biggan import Peer
from peer_stylegan2 import ada_state
from tiny import TinyClassifier, tiny_decoder

from nsbgan_infer.encoders import WaveletEncoder
from nsbgan_infer.errors import UnknownNameError, UsageError
from nsbgan_infer.latents import walk
from nsbgan_infer.pipeline import NsbPipeline, Stage
from nsbgan_infer.rejection import Rule, rejected_outputs
from nsbgan_infer.samplers.biggan_layouts import from_peer_state
from nsbgan_infer.samplers.stylegan2_layouts import from_ada_state
from nsbgan_infer.storage.components import save_component


def unconditional() -> NsbPipeline:
    return NsbPipeline(from_ada_state(ada_state()), [Stage(WaveletEncoder(1), tiny_decoder())], name="without")


def numbered() -> NsbPipeline:
    return NsbPipeline(from_peer_state(Peer(side=32, attention=()).state), name="numbered")


@pytest.fixture
def without(tmp_path: Path) -> Path:
    return unconditional().save_pretrained(tmp_path / "without")


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    return numbered().save_pretrained(tmp_path / "numbers")


def test_an_unconditional_pipeline_needs_no_class(run_json: Callable[..., Any], without: Path, tmp_path: Path) -> None:
    report = run_json("generate", "--pipeline", without, "--seed", 3, "--per-class", 2, "--grid", "--out", "out")
    assert [Path(i["file"]).name for i in report["images"]] == ["seed3.png", "seed4.png"]
    assert all(i["class_id"] is None and i["class"] is None for i in report["images"])
    assert (tmp_path / "out" / "grid.png").is_file()


def test_a_class_for_an_unconditional_pipeline_is_refused(run: Run, without: Path) -> None:
    assert "leave out the class" in run("generate", "--pipeline", without, "--class", 207, code=2).stderr


def test_an_unconditional_bulk_run(run_json: Callable[..., Any], without: Path, tmp_path: Path) -> None:
    for asked in (("--count", 3), ("--per-class", 3, "--sink", "folder")):
        out = tmp_path / asked[0].strip("-")
        run_json("generate", "--pipeline", without, *asked, "--batch-size", 2, "--out", out)
        lines = [json.loads(line) for line in (out / "manifest.jsonl").read_text().splitlines()]
        assert [line["file"] for line in lines] == [f"00000/seed{i}.png" for i in range(3)]
        assert {line["class"] for line in lines} == {None}


def test_unconditional_pictures_are_made_again(run: Run, run_json: Callable[..., Any], without: Path) -> None:
    run("generate", "--pipeline", without, "--seed", 7, "--out", "out")
    report = run_json("regenerate", "out/seed7.png", "--pipeline", without, "--out", "again")
    assert Path(report["out"]).name == "seed7.png"
    assert (Path("out") / "seed7.png").read_bytes() == (Path("again") / "seed7.png").read_bytes()


def test_unconditional_in_python_and_as_a_walk() -> None:
    pipeline = unconditional()
    nothing: Any
    for nothing in (None, [], ()):
        output = pipeline(nothing, 2, seeds=5)
        assert [(r.class_id, r.seed) for r in output.requests] == [(None, 5), (None, 6)]
    with pytest.raises(UsageError, match="draws without classes"):
        pipeline(207)
    ends = [pipeline.latents(pipeline.requests(None, seeds=s)) for s in (1, 2)]
    way = walk(ends[0], ends[1], 3)
    frames = [list(pipeline.steps(way[i : i + 1]))[-1][1] for i in range(3)]
    first = pipeline(None, seeds=1).tensors
    assert torch.allclose(frames[0], first, atol=1e-4) and not torch.allclose(frames[2], first, atol=1e-2)


def test_numbered_classes(run_json: Callable[..., Any], run: Run, numbers: Path) -> None:
    chosen = ("--pipeline", numbers)
    report = run_json("generate", *chosen, "--class", 3, "--class", "5-6", "--out", "out")
    assert [Path(i["file"]).name for i in report["images"]] == [f"class{c}_seed0.png" for c in (3, 5, 6)]
    assert [i["class_id"] for i in report["images"]] == [3, 5, 6] and report["images"][0]["class"] is None
    assert "not ImageNet's" in run("generate", *chosen, "--class", "golden retriever", code=2).stderr
    assert "the classes 0 to 6, not 207" in run("generate", *chosen, "--class", 207, code=2).stderr
    assert "Which class?" in run("generate", *chosen, code=2).stderr
    run("regenerate", "out/class3_seed0.png", *chosen, "--out", "again")
    assert Path("out/class3_seed0.png").read_bytes() == Path("again/class3_seed0.png").read_bytes()


def test_numbered_classes_in_a_bulk_run(run: Run, numbers: Path, tmp_path: Path) -> None:
    run("generate", "--pipeline", numbers, "--count", 6, "--batch-size", 3, "--out", "out")
    lines = [json.loads(line) for line in (tmp_path / "out" / "manifest.jsonl").read_text().splitlines()]
    assert all(line["file"] == f"00000/class{line['class']}_seed{line['seed']}.png" for line in lines)
    assert {line["class"] for line in lines} <= set(range(7))


def test_numbered_classes_in_python() -> None:
    pipeline = numbered()
    assert [r.class_id for r in pipeline.requests("all")] == list(range(7))
    assert [r.class_id for r in pipeline.requests(["2-3", 0])] == [2, 3, 0]
    for wrong in ("dog", "n02099601", "-1", "3-2", ""):
        with pytest.raises(UnknownNameError, match="not ImageNet's"):
            pipeline.requests(wrong)
    with pytest.raises(UsageError, match="not ImageNet's, which a classifier knows"):
        list(rejected_outputs(pipeline, pipeline.requests(1), TinyClassifier(), Rule(0.5)))


def test_classes_of_such_samplers_are_not_listed_as_imagenets(run: Run, numbers: Path, without: Path) -> None:
    assert "only numbers, 0 to 6" in run("classes", "--sampler", numbers / "sampler", code=2).stderr
    assert "draws without classes" in run("classes", "--sampler", without / "sampler", code=2).stderr


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".pkl", ".ckpt"])
def test_a_checkpoint_of_another_program_is_refused_with_what_to_type(run: Run, suffix: str, tmp_path: Path) -> None:
    torch.save(Peer(side=32).state, tmp_path / f"G_ema{suffix}")
    chosen = ("--preset", "embedded-p", "--class", 1)
    message = run("generate", *chosen, "--sampler", f"G_ema{suffix}", code=2).stderr
    assert f"`nsbgan convert G_ema{suffix} G_ema`" in message and "--sampler G_ema" in message
    run("convert", f"G_ema{suffix}", "G_ema")
    assert (tmp_path / "G_ema" / "model.safetensors").is_file()


def test_foreign_safetensors_name_the_command_too(run: Run, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file(Peer(side=32).state, tmp_path / "G.safetensors")
    chosen = ("--preset", "embedded-p", "--class", 1)
    assert "`nsbgan convert G.safetensors OUT`" in run("generate", *chosen, "--sampler", "G.safetensors", code=2).stderr


@pytest.mark.parametrize("preset", ["r3gan-64", "stylegan2-ffhq", "stylegan2-ffhq-256", "bigbigan-128"])
def test_presets_whose_weights_others_published(run: Run, run_json: Callable[..., Any], preset: str) -> None:
    """The plan needs no weights; generate says where they are and what to type."""
    asked = ("--class", 207) if preset == "r3gan-64" else ()
    plan = run_json("plan", "--preset", preset, *asked)
    assert plan["multiply_adds"] > 1e9 and plan["parts"][0]["url"].startswith("https://")
    assert "yours to give: https://" in run("plan", "--preset", preset, *asked).stdout
    message = run("generate", "--preset", preset, *asked, code=2).stderr
    assert "published at https://" in message and "licence: " in message and "nsbgan convert FILE FOLDER" in message


def test_a_sampler_for_a_preset_is_composed_with_its_stages(run_json: Callable[..., Any], tmp_path: Path) -> None:
    save_component(from_peer_state(Peer(classes=1000).state, name="mine"), tmp_path / "mine")
    plan = run_json("plan", "--preset", "r3gan-64", "--sampler", "mine", "--class", "golden retriever")
    assert plan["resolution"] == 512 and plan["parts"][0]["name"] == "mine"

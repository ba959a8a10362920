"""`nsbgan generate` for many images: plan, sinks, resume, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bulk import tree
from command import Run


@pytest.fixture
def bulk(run: Run, pipeline_folder: Path) -> Any:
    """`nsbgan generate` with the tiny pipeline, plain torch."""
    return lambda *arguments, code=0: run(
        "generate", "--pipeline", pipeline_folder, "--engine", "eager", "-q", *arguments, code=code
    )


def rows(folder: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(folder, "manifest.jsonl").read_text().splitlines()]


def test_all_classes_so_many_of_each(bulk: Any) -> None:
    bulk("--class", "all", "--per-class", 3, "--sink", "folder", "--out", "many", "--seed", 5)
    listed = rows("many")
    assert [(r["class"], r["seed"]) for r in listed] == [(c, s) for c in (1, 207, 217, 933) for s in (5, 6, 7)]
    assert all(Path("many", r["file"]).stat().st_size == r["size"] for r in listed)


def test_a_count_of_classes_drawn_uniformly_into_npz(bulk: Any) -> None:
    bulk("--count", 9, "--classes", "uniform", "--sink", "npz", "--out", "many")
    with np.load("many/images.npz") as data:
        assert data["arr_0"].shape == (9, 128, 128, 3)
        assert set(data["arr_1"]) <= {1, 207, 217, 933}
    assert [r["seed"] for r in rows("many")] == list(range(9))


def test_resume_goes_on_and_refuses_other_parameters(bulk: Any) -> None:
    whole = ("--class", "207", "--per-class", 6, "--batch-size", 2, "--shard-size", 4)
    bulk(*whole, "--out", "whole")
    bulk(*whole, "--out", "part")
    # as if it had been killed: no manifest, the second shard half done
    work = Path("part/.nsbgan")
    work.mkdir()
    lines = Path("part/manifest.jsonl").read_text().splitlines(keepends=True)
    work.joinpath("00000.jsonl").write_text("".join(lines[:4]))
    work.joinpath("00001.jsonl.part").write_text(lines[4] + lines[5][:20])
    Path("part/manifest.jsonl").unlink()
    assert "--resume" in bulk(*whole, "--out", "part", code=2).stderr
    assert "truncation" in bulk(*whole, "--truncation", 0.5, "--out", "part", "--resume", code=2).stderr
    bulk(*whole, "--out", "part", "--resume")
    assert tree(Path("part")) == tree(Path("whole"))


def test_a_resumed_run_keeps_the_engine_that_it_began_with(
    run: Run, pipeline_folder: Path, private_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    from nsbgan_infer.engines import rule

    arguments = ("generate", "--pipeline", pipeline_folder, "-c", 207, "-n", 8, "--out", "many", "--sink", "folder")
    monkeypatch.setattr(rule, "costs_here", lambda _dtype: rule.Costs(1, 1))
    assert "Using plain torch (OpenVINO compiles 3 networks" in run(*arguments).stderr
    Path("many/manifest.jsonl").unlink()
    monkeypatch.setattr(rule, "costs_here", lambda _dtype: rule.Costs(10**6, 1))
    run(*arguments, "--resume")
    assert json.loads(Path("many/plan.json").read_text())["settings"]["engine"] == "eager"
    said = run(*arguments[:-4], "--out", "other", "--sink", "folder").stderr
    assert "Using the engine openvino (OpenVINO compiles 3 networks" in said
    assert json.loads(Path("other/plan.json").read_text())["settings"]["engine"] == "openvino"


def test_the_result_names_the_manifest(run_json: Any, pipeline_folder: Path) -> None:
    value = run_json(
        "generate", "--pipeline", pipeline_folder, "-c", 207, "--sink", "tar", "--out", "tars", "--engine", "eager"
    )
    assert value["images"] == 1
    assert Path(value["manifest"]).exists()
    assert Path("tars/shard-00000.tar").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ("--classes", "uniform", "-c", "207"),
        ("--count", "5", "--per-class", "2", "-c", "207"),
        ("--sink", "npz", "--grid", "-c", "207"),
        ("--ray-address", "auto", "-c", "207", "--sink", "tar"),
        ("--count", "5", "--seed", str(2**32 - 2)),
    ],
)
def test_combinations_that_cannot_work_are_refused(bulk: Any, arguments: tuple[str, ...]) -> None:
    bulk(*arguments, code=2)
    assert not list(Path("out").glob("*"))


def test_ctrl_c_says_how_to_go_on(run: Run, pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(_plan: Any, folder: Path, *_args: Any, **_options: Any) -> None:
        folder.mkdir(exist_ok=True)
        (folder / "plan.json").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr("nsbgan_infer.bulk.run.run", stopped)
    arguments = ("generate", "--pipeline", pipeline_folder, "-c", 207, "--sink", "tar", "--engine", "eager")
    said = run(*arguments, "--out", "tars", code=130).stderr
    assert said.strip().endswith("Stopped: the same command with --resume goes on with what is in tars.")

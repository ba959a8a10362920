"""Sweeps: points, thresholds from one pool, the cache by recipe, tables and the plot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tiny import CLASSES, TinyClassifier, ship_tiny_weights, tiny_pipeline
from torch import Tensor

from nsbgan_infer.cli.main import cli, exit_code
from nsbgan_infer.engines import place
from nsbgan_infer.errors import UnknownNameError, UsageError
from nsbgan_infer.evaluation.frechet import Moments, gaussian_distance
from nsbgan_infer.evaluation.judged_cache import Judges, Studio
from nsbgan_infer.evaluation.plots import label, plot_sweeps
from nsbgan_infer.evaluation.sweep import Point, Real, Sweep, sweep
from nsbgan_infer.evaluation.tables import (
    MAX,
    MIN,
    TABLES,
    columns_of,
    find_table,
    markdown,
    sweep_markdown,
)
from nsbgan_infer.pipeline import Drawing, Request
from nsbgan_infer.presets import PRESETS
from nsbgan_infer.registry import entries
from nsbgan_infer.rejection import Rule, reject

COVERS = ["cli.evaluate_sweep", "evaluation.judged_cache", "evaluation.plots", "evaluation.tables"]

REQUESTS = [Request(c, s) for c in CLASSES for s in range(6)]
REAL = Real("reals", 50, torch.full((12,), 0.5, dtype=torch.float64), 0.01 * torch.eye(12, dtype=torch.float64))


def studio(folder: Path, judge: TinyClassifier, batch: int = 4) -> Studio:
    return Studio(tiny_pipeline(), Judges("lite0", "FD-lite0", judge, judge), folder, resolution=64, batch=batch)


def test_points_follow_the_definitions(tmp_path: Path) -> None:
    judge = TinyClassifier()
    found = sweep(studio(tmp_path, judge), REQUESTS, REAL, truncations=(0.3, 1.0), thresholds=(0.3, 0.6), max_tries=3)
    assert [(p.truncation, p.threshold) for p in found.points[:2]] == [(0.3, None), (1.0, None)]
    best = min(found.points[:2], key=lambda p: p.fd).truncation
    assert all(p.truncation == best for p in found.points[2:])
    assert all(p.n == 24 and p.draws == 1 and p.short == 0 for p in found.points[:2])
    assert found.min_fd == min(found.points, key=lambda p: p.fd)
    assert found.max_score == max(found.points, key=lambda p: p.score)

    moments = Moments(12)
    for output in tiny_pipeline().stream(tiny_pipeline().requests("all", 6), Drawing(0.3, resolution=64), batch_size=5):
        moments.update(judge(output.tensors).features)
    expected = gaussian_distance(moments.mean, moments.covariance, REAL.mean, REAL.covariance)
    assert found.points[0].fd == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize("mode", ["label", "max"])
def test_thresholds_of_one_pool_equal_separate_rejection(tmp_path: Path, mode: str) -> None:
    judge, tries = TinyClassifier(), 4
    line = studio(tmp_path, judge)
    found = sweep(line, REQUESTS, REAL, truncations=(1.0,), thresholds=(0.8, 0.5), mode=mode, max_tries=tries)

    def draw(requests: list[Request]) -> tuple[Tensor, list[int]]:
        return torch.cat([p for p, _ in line._draw(requests, 1.0)]), [0] * len(requests)

    for point in found.points[1:]:
        assert point.threshold is not None
        rule = Rule(point.threshold, mode, tries, CLASSES)  # type: ignore[arg-type]
        chosen = list(reject(REQUESTS, draw, judge, rule, batch_size=4))
        accepted = [c for c in chosen if c.accepted]
        assert point.n == len(accepted)
        assert point.short == len(REQUESTS) - len(accepted)
        assert point.draws == pytest.approx(sum(c.tries for c in chosen) / len(accepted))
    assert [p.threshold for p in found.points[1:]] == [0.5, 0.8]
    assert len(REQUESTS) >= found.points[1].n > found.points[2].n > 0


def test_a_second_run_judges_nothing_and_gives_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nsbgan_infer.evaluation.judged_cache.CHUNK", 5)
    judge = TinyClassifier()
    first = sweep(studio(tmp_path, judge), REQUESTS, REAL, truncations=(0.5,), thresholds=(0.5,))
    assert judge.seen >= len(REQUESTS)
    again = TinyClassifier()
    assert sweep(studio(tmp_path, again), REQUESTS, REAL, truncations=(0.5,), thresholds=(0.5,)) == first
    assert again.seen == 0
    victim = sorted(tmp_path.glob("*.safetensors"))[0]
    victim.write_bytes(victim.read_bytes()[:100])  # damaged: judged again, the others not
    assert sweep(studio(tmp_path, again), REQUESTS, REAL, truncations=(0.5,), thresholds=(0.5,)) == first
    assert 0 < again.seen <= 5


def test_what_decides_the_pictures_decides_the_file(tmp_path: Path) -> None:
    judge = TinyClassifier()
    line = studio(tmp_path, judge)
    keys = {line._key(REQUESTS, 0.5), line._key(REQUESTS, 0.6), line._key(REQUESTS[:3], 0.5)}
    other = Studio(line.pipeline, line.judges, tmp_path, resolution=128)
    changed = tiny_pipeline()
    with torch.no_grad():
        next(changed.sampler.parameters()).add_(1e-3)  # type: ignore[attr-defined]
    weights = Studio(changed, line.judges, tmp_path, resolution=64)
    keys |= {other._key(REQUESTS, 0.5), weights._key(REQUESTS, 0.5)}
    assert len(keys) == 5
    assert studio(tmp_path, judge, batch=1)._key(REQUESTS, 0.5) in keys


def test_the_share_is_told_by_the_judge_that_did_not_choose(tmp_path: Path) -> None:
    chooser, other = TinyClassifier(), TinyClassifier()
    other.mix = other.mix.flip(1)
    line = Studio(tiny_pipeline(), Judges("lite2", "FD-lite2", other, chooser), tmp_path, resolution=64)
    found = line.judged(REQUESTS, 1.0)
    pictures = torch.cat([p for p, _ in line._draw(REQUESTS, 1.0)])
    asked, among = torch.tensor([CLASSES.index(w.class_id) for w in REQUESTS]), list(CLASSES)
    assert torch.equal(found.right, other(pictures).logits[:, among].argmax(1) == asked)
    assert not torch.equal(found.right, chooser(pictures).logits[:, among].argmax(1) == asked)


@pytest.mark.usefixtures("kept_networks")
def test_an_engine_gives_the_same_figures_and_files_of_its_own(tmp_path: Path) -> None:
    pytest.importorskip("openvino")
    judge = TinyClassifier()
    plain = studio(tmp_path, judge)
    fast = Studio(place(tiny_pipeline(), "openvino"), plain.judges, tmp_path, resolution=64)
    assert plain._key(REQUESTS, 1.0) != fast._key(REQUESTS, 1.0)
    assert torch.allclose(plain.judged(REQUESTS[:8], 1.0).features, fast.judged(REQUESTS[:8], 1.0).features, atol=2e-3)


def test_sweeps_that_cannot_work_are_refused_before_any_picture(tmp_path: Path) -> None:
    judge = TinyClassifier()
    line = studio(tmp_path, judge)
    refused: tuple[dict[str, Any], ...] = (
        {"truncations": ()},
        {"thresholds": (1.5,)},
        {"mode": "best"},
        {"max_tries": 0},
    )
    for options in refused:
        with pytest.raises(UsageError):
            sweep(line, REQUESTS, REAL, **options)
    assert judge.seen == 0


def a_sweep() -> Sweep:
    points = (
        Point(0.5, None, 30.0, 5.0, 0.1, 100, 0.5, 1.0),
        Point(1.0, None, 21.818, 9.5, 0.1, 100, 0.4, 1.0),
        Point(1.0, 0.9, 27.52, 19.44, 0.2, 60, 0.9, 3.5, 40),
    )
    return Sweep("s", "d", 256, "FD-lite0", "reals", 5000, "label", points)


def test_the_papers_columns() -> None:
    assert columns_of(a_sweep()) == {MIN: "21.82 / 9.5", MAX: "27.52 / 19.44"}
    text = sweep_markdown(a_sweep())
    assert "| 1          | 0.90      | 27.52" in text and "60 max" in text and "100 min" in text
    assert "min FD-lite0 / IS-lite0: 21.82 / 9.5" in text
    assert "n = 5000" in text


def test_markdown_is_aligned_and_escapes_bars() -> None:
    lines = markdown(("a", "bb"), [("1|2", "x"), ("3", "yyyy")]).splitlines()
    assert lines[1] == "|------|------|"
    assert len({len(line) for line in lines}) == 1
    assert "1\\|2" in lines[2]


def test_the_papers_tables_name_presets_and_decoders_that_exist() -> None:
    for table in TABLES.values():
        assert table.rows
        for row in table.rows:
            assert set(row.figures) <= set(table.columns)
            assert row.preset in PRESETS or not row.preset
            assert row.with_decoder in entries("decoder") or row.with_decoder is None
    assert find_table("table4").rows[1].figures[MAX] == "27.52 / 219.4"
    with pytest.raises(UnknownNameError, match="table1"):
        find_table("tabel1")


def test_the_plot_is_a_picture_with_labelled_points(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = plot_sweeps([a_sweep(), a_sweep()], tmp_path / "sweep.png")
    with Image.open(path) as image:
        assert image.size == (960, 720)
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 10
    assert [label(p) for p in a_sweep().points] == ["t 0.5", "t 1", "> 0.90 (n 60)"]


def test_the_command_writes_table_json_and_plot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    ship_tiny_weights(tmp_path / "weights", monkeypatch)
    monkeypatch.setattr("nsbgan_infer.evaluation.images.load_lite0", TinyClassifier)
    real = tmp_path / "real"
    real.mkdir()
    for i in range(3):
        Image.new("RGB", (256, 256), (60 * i, 100, 200 - 50 * i)).save(real / f"{i}.png")
    arguments = ["--preset", "embedded", "--real", str(real), "--per-class", "1", "--truncations", "0.5,1"]
    arguments += ["--thresholds", "0.2", "--max-tries", "2", "--res", "256", "--out", str(tmp_path / "out"), "--json"]

    def call(*more: str) -> int:
        given = ["evaluate", "sweep", *arguments, *more]
        return exit_code(lambda: cli.main(given, prog_name="nsbgan", standalone_mode=False))

    assert call() == 2  # too few
    assert call("--allow-small") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["points"][0]["n"] == len(CLASSES) and value["n_real"] == 3
    assert set(value["columns"]) == {MIN, MAX}
    assert json.loads((tmp_path / "out" / "sweep.json").read_text()) == value
    assert "FD-lite0" in (tmp_path / "out" / "sweep.md").read_text()
    assert (tmp_path / "out" / "sweep.png").stat().st_size > 5000
    assert call("--allow-small", "--truncations", "a") == 2

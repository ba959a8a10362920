"""`nsbgan export`: files, table, and what is refused before work. Their content: tests/engines/test_onnx.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import Run

from nsbgan_infer.engines import onnx

pytest.importorskip("onnxscript")


def test_every_network_gets_a_file_and_a_line(run: Run, pipeline_folder: Path, tmp_path: Path) -> None:
    done = run("export", "--pipeline", pipeline_folder, "-o", tmp_path / "onnx", "--no-check", "--json")
    files = [Path(row["file"]).name for row in json.loads(done.stdout)["networks"]]
    assert files == ["sampler.onnx", "decoder-1.onnx"]
    assert {p.name for p in (tmp_path / "onnx").iterdir()} == {*files, "export.json"}


def test_without_onnx_nothing_is_loaded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    assert "onnx" in run("export", "--pipeline", "nowhere", code=2).stderr

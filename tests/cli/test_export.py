"""`nsbgan export`: files, table, and what is refused before work. Their content: tests/engines/test_onnx.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command import Run
from extras import skip_without

from nsbgan_infer.engines import onnx

skip_without("onnxscript")


def test_every_network_gets_a_file_and_a_line(
    run: Run, pipeline_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Program:
        """In the place of the graph, which takes seconds to trace."""

        def save(self, file: Path, *, external_data: bool) -> None:
            assert not external_data
            file.write_bytes(b"a network")

    monkeypatch.setattr("torch.onnx.export", lambda *_given, **_how: Program())
    done = run("export", "--pipeline", pipeline_folder, "-o", tmp_path / "onnx", "--no-check", "--json")
    files = [Path(row["file"]).name for row in json.loads(done.stdout)["networks"]]
    assert files == ["sampler.onnx", "decoder-1.onnx"]
    assert {p.name for p in (tmp_path / "onnx").iterdir()} == {*files, "export.json"}
    assert all((tmp_path / "onnx" / name).read_bytes() == b"a network" for name in files)


def test_without_onnx_nothing_is_loaded(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "find_spec", lambda name: None)
    assert "onnx" in run("export", "--pipeline", "nowhere", code=2).stderr


@pytest.mark.slow  # half a minute: two networks are traced and checked
def test_typed_and_checked_whole(run: Run, pipeline_folder: Path, tmp_path: Path) -> None:
    skip_without("onnxruntime")
    done = run("export", "--pipeline", pipeline_folder, "-o", tmp_path / "onnx", "--json")
    rows = json.loads(done.stdout)["networks"]
    assert [Path(row["file"]).name for row in rows] == ["sampler.onnx", "decoder-1.onnx"]
    assert all(row["difference"] <= onnx.LIMIT for row in rows)

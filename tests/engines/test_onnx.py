"""ONNX export: files that other programs run, equal to torch, or refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from extras import skip_without
from tiny import tiny_biggan, tiny_decoder, tiny_pipeline, tiny_sampler

from nsbgan_infer.engines import onnx as export
from nsbgan_infer.errors import MissingExtraError, WorkError
from nsbgan_infer.pipeline import NsbPipeline

skip_without("onnxscript")


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[export.Exported]]:
    """The tiny pipeline's folder, and what was said of it."""
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("onnx")
    return folder, export.export_pipeline(tiny_pipeline(), folder)


def test_files_run_elsewhere_and_equal_torch(written: tuple[Path, list[export.Exported]]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    folder, done = written
    assert [d.file for d in done] == ["sampler.onnx", "decoder-1.onnx"]
    assert all(d.difference is not None and d.difference < 1e-4 for d in done)
    listed = json.loads((folder / "export.json").read_text())
    assert listed["networks"][1]["inputs"] == {"low_band": ["batch", 3, "height", "width"]}
    assert listed["networks"][1]["output"] == ["batch", 3, "4 * height", "4 * width"]
    assert listed["stages"][1] == {
        "file": "decoder-1.onnx",
        "encoder": {"basis": "wavelet", "levels": 1, "boundary": "symmetric"},
        "decoder": "tiny-w",
        "reads": "wavelet",
        "anchor": "corner",
        "scale": 4,
        "move": 0.0,
    }
    session = onnxruntime.InferenceSession(str(folder / "decoder-1.onnx"))
    for shape in ((1, 3, 32, 32), (3, 3, 21, 40)):
        low = np.random.default_rng(0).random(shape, dtype=np.float32)
        wanted = tiny_pipeline().stages[1].decoder(torch.from_numpy(low))
        assert np.allclose(session.run(None, {"low_band": low})[0], wanted.numpy(), atol=1e-4)


def test_a_biggan_takes_z_and_y_alone_and_openvino_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "find_runner", lambda: export._run_openvino)
    done = export.export_pipeline(NsbPipeline(tiny_biggan(128)), tmp_path, truncation=0.5)
    assert done[0].inputs == {"z": (1, 128), "y": (1, 1000)}
    assert done[0].difference is not None
    assert done[0].difference < 1e-3


def test_openvino_runs_a_decoder_of_free_sizes(written: tuple[Path, list[export.Exported]]) -> None:
    low = torch.rand(2, 3, 24, 16, generator=torch.Generator().manual_seed(0))
    made = export._run_openvino(written[0] / "decoder-1.onnx", [low.numpy()])
    assert np.allclose(made, tiny_decoder()(low).numpy(), atol=1e-4)


def test_a_network_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(file: Path, inputs: Any) -> Any:
        return np.zeros((1, 3, 16, 16), np.float32)

    monkeypatch.setattr(export, "find_runner", lambda: wrong)
    with pytest.raises(WorkError, match="differs from torch"):
        export.export_pipeline(NsbPipeline(tiny_sampler("pixel")), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named_before_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="onnx"):
        export.export_pipeline(tiny_pipeline(), tmp_path)
    monkeypatch.setattr(export, "find_spec", lambda name: name.startswith("onnxscr") or name == "onnx" or None)
    with pytest.raises(MissingExtraError, match="--no-check"):
        export.export_pipeline(tiny_pipeline(), tmp_path)

"""A bulk run of a pipeline: its plan, and the factory that workers call."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny import CLASSES, tiny_pipeline

from nsbgan_infer.bulk.pipelines import PipelineFactory, absolute, pipeline_maker, pipeline_settings, plan_images
from nsbgan_infer.pipeline import Drawing, Request


def test_the_plan_holds_the_identity_of_the_pipeline() -> None:
    pipeline, drawing = tiny_pipeline(), Drawing(0.7, resolution=64)
    plan = plan_images(pipeline, "all", per_class=3, seed=5, drawing=drawing, batch_size=2)
    assert (plan.classes, plan.count, plan.resolution, plan.uniform) == (CLASSES, 12, 64, False)
    assert plan.request(4) == Request(207, 6)
    assert {**pipeline.identity(drawing), "threads": torch.get_num_threads()} == plan.settings
    assert list(pipeline_settings(pipeline))[-3:] == ["threads", "weights", "versions"]
    drawn = plan_images(pipeline, [207, 1], count=5)
    assert (drawn.classes, drawn.count, drawn.uniform, drawn.resolution) == ((207, 1), 5, True, 128)


def test_a_worker_loads_what_was_chosen_and_makes_the_same(tmp_path: Path) -> None:
    folder = tiny_pipeline().save_pretrained(tmp_path / "pipeline")
    factory = PipelineFactory(str(folder), drawing=Drawing(resolution=64), device="cpu")
    make = pickle.loads(pickle.dumps(factory))()
    requests = [Request(207, 0), Request(1, 3)]
    wanted = pipeline_maker(tiny_pipeline(), Drawing(resolution=64))(requests)
    assert torch.equal(make(requests).tensors, wanted.tensors)


def test_workers_need_no_command(tmp_path: Path) -> None:
    code = (
        "import sys, nsbgan_infer.bulk.pipelines, nsbgan_infer.bulk.ray\n"
        "assert not [m for m in sys.modules if m.startswith(('nsbgan_infer.cli', 'click'))]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)


def test_paths_mean_the_same_in_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert absolute("mine") == str(tmp_path / "mine")
    assert [absolute(r) for r in ("embedded", "hf://a/b", None)] == ["embedded", "hf://a/b", None]

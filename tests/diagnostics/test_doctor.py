"""What the doctor tells, and what he takes for a reason that the main job cannot run."""

from __future__ import annotations

import builtins
import json
import shutil
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest
from local_server import serve
from tiny import cache_tiny_biggan, ship_tiny_weights

from nsbgan_infer.diagnostics import doctor


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A whole set of weights, an empty folder to work in, and no network."""
    folder = ship_tiny_weights(tmp_path / "weights", monkeypatch)
    monkeypatch.setenv("NSBGAN_OFFLINE", "1")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return folder


def test_a_healthy_machine(shipped: Path) -> None:
    import torch

    found = doctor.examine()
    assert found["problems"] == [] and not list(Path().iterdir())
    assert found["devices"]["threads"] == torch.get_num_threads()
    assert found["devices"]["found"][0]["name"] == "cpu"
    assert found["engines"]["eager"] == "torch"
    assert [w["name"] for w in found["weights"]] == ["embedded-w-64", "embedded-p-64", "subband-w"]
    assert all(w["error"] is None and w["size"] > 1000 for w in found["weights"])
    assert found["network"] == {"hub": None, "biggan": None}
    assert all(d["free"] > 0 for d in found["disk"])
    json.dumps(found)


def test_extras_are_those_of_the_package() -> None:
    found = doctor.extras()
    assert {"eval", "train", "upscalers", "openvino", "ray", "demo"} <= found.keys() and "all" not in found
    assert found["upscalers"].keys() == {"spandrel"}
    assert "torch" not in {p for packages in found.values() for p in packages}


def test_what_is_in_the_cache(shipped: Path) -> None:
    cache_tiny_biggan(256)
    rows = {r["name"]: r for r in doctor.examine()["cached"]}
    assert rows["biggan-deep-256"]["here"] and rows["biggan-deep-256"]["size"] > 1000
    assert rows["biggan-deep-128"] == rows["biggan-deep-128"] | {"here": False, "size": None}


def test_the_network_is_asked(shipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NSBGAN_OFFLINE")
    with serve() as server:
        server.put("/", b"hub")
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("NSBGAN_BIGGAN_URL", f"{server.url}/nothing")
        assert doctor.examine()["network"] == {"hub": True, "biggan": False}


def test_damaged_and_missing_weights_are_problems_where_the_main_job_needs_them(shipped: Path) -> None:
    (shipped / "embedded-p-64.safetensors").write_bytes(b"not needed")
    assert doctor.examine()["problems"] == []
    (shipped / "subband-w.safetensors").write_bytes(b"damaged")
    (shipped / "embedded-w-64.safetensors").unlink()
    problems = doctor.examine()["problems"]
    assert len(problems) == 2
    assert "No weights of embedded-w-64 ship" in problems[0] and "is not the file that ships" in problems[1]


def test_no_torch_no_room_no_folder(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_torch(name: str, *arguments: Any, **options: Any) -> Any:
        if name == "torch":
            raise ImportError("libtorch.so is gone")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_torch)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(1 << 30, 1 << 30, 1 << 20))
    (tmp_path / "file").write_text("")
    found = doctor.examine(out=tmp_path / "file")
    assert found["devices"]["torch"] is None
    told = " ".join(found["problems"])
    assert "torch cannot be imported (libtorch.so is gone)" in told
    assert "Only 1 MiB are free" in told and "Cannot write" in told

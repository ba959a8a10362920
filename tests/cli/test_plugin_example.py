"""examples/plugin_upscaler, built and installed by pip beside a broken package, found and used by the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import Run, process

from nsbgan_infer.images import read_recipe

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/plugin_upscaler"
BROKEN = """
[build-system]
requires = ["hatchling>=1.27"]
build-backend = "hatchling.build"

[project]
name = "nsbgan-plugin-broken"
version = "0.1.0"

[project.entry-points."nsbgan_infer.decoders"]
torn = "nsbgan_plugin_broken:make"

[tool.hatch.build.targets.wheel]
packages = ["nsbgan_plugin_broken"]
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with both packages installed, without the network."""
    pytest.importorskip("hatchling", reason="building the plug-in needs the extra test")
    source = tmp_path_factory.mktemp("broken")
    (source / "nsbgan_plugin_broken").mkdir()
    (source / "nsbgan_plugin_broken/__init__.py").write_text("raise RuntimeError('made for another version')\n")
    (source / "pyproject.toml").write_text(BROKEN)
    folder = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--target", str(folder)]
    command = [sys.executable, "-m", "pip", "install", "-q", *options, str(EXAMPLE), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delenv("NSBGAN_NO_PLUGINS", raising=False)


@pytest.mark.usefixtures("installed")
def test_it_is_listed_and_the_broken_one_with_its_error(run_json: Callable[..., Any]) -> None:
    listed = {row["name"]: row for row in run_json("models")["decoders"]}
    assert listed["iwt-crisp"]["source"] == "plug-in"
    plugins = {row["name"]: row for row in run_json("plugins", "list")["plugins"]}
    assert plugins["iwt-crisp"]["package"] == "nsbgan-plugin-upscaler" and plugins["iwt-crisp"]["error"] is None
    assert "made for another version" in plugins["torn"]["error"]


@pytest.mark.usefixtures("installed")
def test_generate_uses_it_beside_the_broken_one(run: Run, pipeline_folder: Path) -> None:
    arguments = ["generate", "--pipeline", pipeline_folder, "--class", "207", "--decoder"]
    run(*arguments, "iwt-crisp")
    picture = Path("out/207_golden-retriever_seed0.png")
    assert read_recipe(picture).decoders == ("iwt-crisp", "iwt-crisp")
    crisp = picture.read_bytes()
    run(*arguments, "iwt")
    assert picture.read_bytes() != crisp
    assert "made for another version" in run(*arguments, "torn", code=2).stderr


def test_it_keeps_the_contract_in_a_true_process(site: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])}
    done = process("plugins", "check", "iwt-crisp", "--json", env=environment)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] and len(report["checks"]) > 8

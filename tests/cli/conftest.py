"""Fixtures that run the command in this process, in an empty folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from command import Run
from tiny import tiny_pipeline


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run `nsbgan ARGUMENTS` in an empty folder, in this process, and check its exit code and its manners."""
    from nsbgan_infer.cli.main import cli
    from nsbgan_infer.storage import hub

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(hub, "_offline", False)  # --offline and --quiet last as long as the process
    monkeypatch.setattr(hub, "_quiet", False)

    def invoke(*arguments: object, code: int = 0) -> Result:
        result = CliRunner().invoke(cli, [str(a) for a in arguments], prog_name="nsbgan")
        assert result.exit_code == code, f"{result.exit_code}: {result.stderr}"
        assert "Traceback" not in result.stderr
        errors = [line for line in result.stderr.splitlines() if line.startswith("nsbgan: error:")]
        assert len(errors) == (0 if code in (0, 130) else 1), result.stderr
        if "--json" in arguments and code == 0:
            json.loads(result.stdout)
        return result

    return invoke


@pytest.fixture
def run_json(run: Run) -> Callable[..., Any]:
    """The JSON object that `nsbgan ARGUMENTS --json` writes."""
    return lambda *arguments: json.loads(run(*arguments, "--json").stdout)


@pytest.fixture
def pipeline_folder(tmp_path: Path) -> Path:
    """A tiny pipeline's folder: 16 -> 64 -> 32 -> 128, classes 1, 207, 217 and 933."""
    return tiny_pipeline().save_pretrained(tmp_path / "pipeline")

"""The Dockerfile's steps against the project: what it copies is there, what it installs and runs exists."""

from __future__ import annotations

import json
import re
import tomllib
import urllib.request
from pathlib import Path

import pytest
from dockerfile import INDEX, script, steps

from nsbgan_infer.cli.serve import command

TOP = Path(__file__).resolve().parents[1]
if not (TOP / "Dockerfile").is_file():
    pytest.skip("an installed package has no Dockerfile", allow_module_level=True)


def test_what_is_copied_is_there_and_let_through() -> None:
    ignored = (TOP / ".dockerignore").read_text("utf-8").splitlines()
    copied = [name for word, rest in steps() if word == "COPY" for name in rest.split()[:-1]]
    assert copied
    for name in copied:
        assert (TOP / name).exists() and f"!{name}" in ignored
    project = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))
    needed = {project["project"]["readme"], *project["project"]["license-files"]}
    needed |= {"nsbgan_infer", *project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]}
    assert needed <= set(copied)


def test_what_is_installed_is_an_extra_and_the_pinned_torch() -> None:
    run = " ".join(rest for word, rest in steps() if word == "RUN")
    project = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))["project"]
    (extras,) = re.findall(r'"\.\[([\w,-]+)\]"', run)
    assert set(extras.split(",")) <= set(project["optional-dependencies"])
    (torch,) = re.findall(r'"(torch==[\d.]+)"', run)
    assert torch in (TOP / "constraints.txt").read_text("utf-8").splitlines()


def test_it_runs_the_service_as_a_user_without_rights() -> None:
    last = dict(steps())
    assert last["USER"] not in ("0", "root") and last["STOPSIGNAL"] == "SIGTERM"
    program, name, *options = json.loads(last["ENTRYPOINT"])
    assert (program, name) == ("nsbgan", "serve")
    known = {flag for parameter in command.params for flag in parameter.opts}
    assert {o for o in options if o.startswith("--")} <= known
    assert last["EXPOSE"] == str(next(p.default for p in command.params if p.name == "port"))
    assert f"127.0.0.1:{last['EXPOSE']}/health" in last["HEALTHCHECK"]


def test_its_steps_as_a_script_are_all_that_come_before_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """`.ci/image` runs the script, in a layer over the machine's files, where nothing builds images."""

    def out_of_reach(url: str, timeout: float) -> object:
        raise OSError(url)

    monkeypatch.setattr(urllib.request, "urlopen", out_of_reach)
    lines = script("/context")
    for word, rest in steps():
        if word == "RUN":
            assert INDEX.sub("", rest) in lines
        elif word in ("ENV", "WORKDIR"):
            assert rest in lines
        elif word == "USER":
            break
    assert "cp -r /context/weights/. ./weights" in lines and "cp -r /context/README.md ./" in lines
    assert "--index-url" not in lines and "USER" not in lines
    assert "bash .ci/image" in (TOP / ".ci/run").read_text("utf-8")

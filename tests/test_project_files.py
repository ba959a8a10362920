"""The files around the code: versions agree, every check has one home, and what they name exists."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # no stubs among the extras

import nsbgan_infer

TOP = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((TOP / "pyproject.toml").read_text("utf-8"))["project"]


def load(name: str) -> Any:
    return yaml.safe_load((TOP / name).read_text("utf-8"))


def test_the_version_is_the_same_everywhere() -> None:
    assert load("CITATION.cff")["version"] == PROJECT["version"] == nsbgan_infer.__version__


def test_the_citation_names_the_paper_and_this_software() -> None:
    citation = load("CITATION.cff")
    assert citation["title"] == "nsbgan_infer" and citation["license"] == PROJECT["license"]
    paper = citation["preferred-citation"]
    assert [a["family-names"] for a in paper["authors"]] == ["Han", "Srivastava", "Hurwitz", "Sattigeri", "Cox"]
    assert paper["url"].endswith("2009.04433")


@pytest.mark.parametrize(
    ("workflow", "command"), [("ci", "bash .ci/run"), ("weekly", "python -m pytest -m slow")], ids=["ci", "weekly"]
)
def test_a_workflow_runs_what_a_person_runs(workflow: str, command: str) -> None:
    jobs = load(f".github/workflows/{workflow}.yml")["jobs"]
    (job,) = jobs.values()
    assert job["steps"][-1] == {"run": command}
    assert command in (TOP / "CONTRIBUTING.md").read_text("utf-8")


def test_static_checks_are_written_once() -> None:
    checks = [line for line in (TOP / ".ci/check").read_text("utf-8").splitlines() if re.match("ruff|mypy|lint", line)]
    assert checks
    makefile, run = ((TOP / name).read_text("utf-8") for name in ("Makefile", ".ci/run"))
    assert "bash .ci/check" in makefile and "bash .ci/check" in run
    (local,) = load(".pre-commit-config.yaml")["repos"]
    assert {h["entry"].split()[0] for h in local["hooks"]} == {line.split()[0] for line in checks}


def test_every_target_that_a_page_names_is_in_the_makefile() -> None:
    targets = set(re.findall(r"^(\w+):", (TOP / "Makefile").read_text("utf-8"), re.MULTILINE))
    files = [*TOP.glob("*.md"), *TOP.glob("docs/*.md"), *TOP.glob(".github/*.md")]
    pages = "".join(p.read_text("utf-8") for p in files)
    named = {t for words in re.findall(r"`make ([a-z ]+)`", pages) for t in words.split()}
    assert named <= targets and {"check", "test", "docs"} <= named


def test_what_the_pages_say_about_rooms_and_tests_is_there() -> None:
    concepts, security = ((TOP / "docs" / name).read_text("utf-8") for name in ("concepts.md", "security.md"))
    rooms = re.findall(r"`(\w+(?:/\w+)*(?:\.py|/))`", concepts.split("## The rooms")[1])
    assert len(rooms) >= 15 and [r for r in rooms if not (TOP / "nsbgan_infer" / r).exists()] == []
    tests = re.findall(r"`(tests/[\w/.]+)`", security)
    assert len(tests) >= 8 and [t for t in tests if not (TOP / t).exists()] == []


def test_constraints_pin_every_package_that_an_extra_names() -> None:
    lines = (TOP / "constraints.txt").read_text("utf-8").splitlines()
    pinned = {plain(line.split("==")[0]) for line in lines if not line.startswith("#")}
    extras = [r for name, rows in PROJECT["optional-dependencies"].items() if name != "all" for r in rows]
    wanted = {plain(re.split(r"[\[<>=!~; ]", r)[0]) for r in PROJECT["dependencies"] + extras}
    assert wanted <= pinned


def plain(name: str) -> str:
    """A package's name as pip compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()

"""The `>>>` examples in docstrings, in every module that has one, show what really comes out."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest

import nsbgan_infer

PACKAGE = Path(nsbgan_infer.__file__).parent
WITH_EXAMPLES = [
    ".".join(("nsbgan_infer", *path.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
    for path in sorted(PACKAGE.rglob("*.py"))
    if ">>> " in path.read_text("utf-8")
]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_the_examples_of_a_module_are_true(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.testmod(import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert found.attempted > 0 and found.failed == 0, f"python -m doctest shows the difference: {name}"


def test_the_main_line_has_examples() -> None:
    """Whoever reads the reference finds one in each of these."""
    assert {f"nsbgan_infer.{m}" for m in ("classes", "latents", "pipeline", "images")} <= set(WITH_EXAMPLES)

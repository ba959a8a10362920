"""The tests mirror the package: nsbgan_infer/a/b.py is tested by tests/a/test_b.py.

A module without a test file of its own is named in the list COVERS of the test file that tests it.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import nsbgan_infer

PACKAGE = Path(nsbgan_infer.__file__).parent
TESTS = Path(__file__).parent


def modules() -> list[str]:
    """Every module that holds more than a docstring, without `nsbgan_infer.` before its name."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name and len(ast.parse(path.read_text("utf-8")).body) > 1:
            found.append(name)
    return found


def covered() -> dict[str, list[str]]:
    """The modules named in the lists COVERS, with the test files that name them."""
    found: dict[str, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.parse(path.read_text("utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COVERS":
                for name in ast.literal_eval(node.value):
                    found.setdefault(name, []).append(str(path.relative_to(TESTS)))
    return found


COVERED = covered()


def own_test(module: str) -> bool:
    """Whether a test file has the module's name and lies where the module lies (a package's may lie within it)."""
    *rooms, name = module.split(".")
    place = TESTS.joinpath(*rooms)
    return (place / f"test_{name}.py").is_file() or (place / name / f"test_{name}.py").is_file()


@pytest.mark.parametrize("module", modules())
def test_a_module_has_a_test_file_or_is_named_by_one(module: str) -> None:
    assert own_test(module) or module in COVERED, f"write a test file for {module}, or name it in COVERS"


def test_only_modules_without_a_test_file_are_named_and_once() -> None:
    known = set(modules())
    assert [m for m, files in COVERED.items() if m not in known or own_test(m) or len(files) > 1] == []

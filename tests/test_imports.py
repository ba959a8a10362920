"""The house has no circles: who imports whom, read from the source, function-level imports included.

What each room may know is written as contracts for import-linter in pyproject.toml, which `.ci/run` checks.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import nsbgan_infer

PACKAGE = Path(nsbgan_infer.__file__).parent
DOORWAY = ("nsbgan_infer.pipeline", "nsbgan_infer.pretrained")  # of NsbPipeline.from_pretrained
OPTIONAL = {
    "nsbgan_infer.serving.generate_tab",
    "nsbgan_infer.serving.invert_tab",
    "nsbgan_infer.serving.photo_tab",
    "nsbgan_infer.serving.tabs",
}  # gradio is behind it
LAZY = {  # import no torch until it is needed, so that `nsbgan --help`, lists and plans stay fast
    "nsbgan_infer.diagnostics.doctor",
    "nsbgan_infer.engines",
    "nsbgan_infer.presets",
    "nsbgan_infer.registry",
}


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(node: ast.AST, within: bool = False) -> Iterator[tuple[str, bool]]:
    """The modules of ours that are imported below `node`, and whether within a function."""
    for child in ast.iter_child_nodes(node):
        inside = within or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        if isinstance(child, ast.ImportFrom) and (child.module or "").partition(".")[0] == "nsbgan_infer":
            for name in child.names:
                full = f"{child.module}.{name.name}"
                yield full if full in MODULES else str(child.module), within
        yield from imports(child, inside)


@cache
def graph() -> dict[str, set[tuple[str, bool]]]:
    """What each module imports."""
    return {name: set(imports(ast.parse(path.read_text("utf-8")))) for name, path in MODULES.items()}


def test_pipeline_and_pretrained_are_the_only_circle() -> None:
    knows = {name: {target for target, _ in found} for name, found in graph().items()}
    door, behind = DOORWAY
    assert behind in knows[door] and door in knows[behind]
    knows[door] = knows[door] - {behind}
    try:
        TopologicalSorter(knows).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_functions_import_ours_only_where_something_heavy_is_behind_it() -> None:
    hidden = {
        (name, target)
        for name, found in graph().items()
        for target, within in found
        if within and not name.startswith("nsbgan_infer.cli.") and (name, target) != DOORWAY
    }
    assert {(n, t) for n, t in hidden if n not in LAZY and t not in OPTIONAL} == set()


def test_the_top_of_the_package_stays_small() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 17


def test_only_storage_opens_checkpoints() -> None:
    for name, path in MODULES.items():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in ("torch.load", "pickle.load", "pickle.loads"):
                assert name == "nsbgan_infer.storage.checkpoints", f"{name}, line {node.lineno}"

"""Leaving out the tests of a file where a package is not installed, without importing it where it is.

`pytest.importorskip` imports at once, in every worker, also in those that will run none of the file's tests: gradio
and onnxscript take seconds each.
"""

from __future__ import annotations

from importlib.util import find_spec

import pytest


def skip_without(*packages: str, reason: str = "") -> None:
    """Skip the test file that is being read unless all `packages` are installed."""
    for package in packages:
        if find_spec(package) is None:
            pytest.skip(reason or f"needs the package {package}", allow_module_level=True)

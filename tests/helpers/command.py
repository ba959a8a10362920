"""Running the command in the tests: the type of the fixture `run`, and true processes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

from click.testing import Result

Run = Callable[..., Result]


def process(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run the command in a process of its own."""
    command = [sys.executable, "-m", "nsbgan_infer", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, **options)

"""Progress bars of the library: in a terminal on standard error, in a notebook as a widget, in a log not at all."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

AFTER = 1.0  # seconds: what is done by then shows no bar


@contextmanager
def bar(total: int, *, unit: str = "img", shown: bool = True) -> Iterator[Any]:
    """A bar of tqdm.auto with `total` steps, or None unless `shown`."""
    if not shown:
        yield None
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without widgets gets the bar of a terminal
        from tqdm.auto import tqdm
    notebook = "ipykernel" in sys.modules  # whose standard error is no terminal, and yet is watched
    with tqdm(total=total, unit=unit, delay=AFTER, disable=None if not notebook else False, leave=False) as made:
        yield made

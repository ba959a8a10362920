"""Bars: on unless told otherwise, and never for quick work or a log."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import tqdm.auto
from tiny import tiny_pipeline

from nsbgan_infer.frame.progress import bar


class Spy:
    """What stands for a bar and notes how it was made and moved."""

    made: ClassVar[list[dict[str, Any]]] = []
    moved = 0

    def __init__(self, **how: Any) -> None:
        Spy.made.append(how)

    def __enter__(self) -> Spy:
        return self

    def __exit__(self, *_: object) -> None: ...

    def update(self, count: int) -> None:
        Spy.moved += count


@pytest.fixture(autouse=True)
def spy(monkeypatch: pytest.MonkeyPatch) -> None:
    Spy.made, Spy.moved = [], 0
    monkeypatch.setattr(tqdm.auto, "tqdm", Spy)


def test_a_call_shows_a_bar_that_one_argument_turns_off() -> None:
    pipeline = tiny_pipeline()
    pipeline(207, 3, resolution=64, batch_size=2)
    assert Spy.made[0]["total"] == 3 and Spy.moved == 3
    assert Spy.made[0]["delay"] >= 1 and Spy.made[0]["disable"] is None  # None: not where no terminal watches
    pipeline(207, resolution=64, progress=False)
    said: list[tuple[str, int, int]] = []
    pipeline(207, resolution=64, progress=lambda *told: said.append(told))
    assert len(Spy.made) == 1 and said == [("sample", 1, 1), ("decoded 1", 1, 1)]


def test_a_notebook_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys
    import types

    monkeypatch.setitem(sys.modules, "ipykernel", types.ModuleType("ipykernel"))
    with bar(2) as made:
        assert isinstance(made, Spy) and Spy.made[0]["disable"] is False
    with bar(2, shown=False) as none:
        assert none is None

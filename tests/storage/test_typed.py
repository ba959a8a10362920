"""Values from JSON and TOML in the types that settings declare."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from nsbgan_infer.storage.typed import MisfitError, fit

FITS: list[tuple[Any, Any, Any]] = [
    (3, float, 3.0),
    (3, int, 3),
    (True, bool, True),
    ("a/b", Path, Path("a/b")),
    ("fast", Literal["fast", "slow"], "fast"),
    ([1, 2], tuple[float, float], (1.0, 2.0)),
    ([[1], []], tuple[tuple[int, ...], ...], ((1,), ())),
    (None, int | None, None),
    (4, int | None, 4),
    ({"a": 1}, dict[str, int], {"a": 1}),
    ([{}], Any, [{}]),
]
MISFITS: list[tuple[Any, Any, str]] = [
    (True, float, "must be a number, not True"),
    (1.5, int, "must be a whole number, not 1.5"),
    (1e31, float, "must be a number, not 1e+31"),
    (1 << 63, int, "must be a whole number"),
    (float("nan"), float, "must be a number, not nan"),
    (1, bool, "must be true or false, not 1"),
    (1, str, "must be a text, not 1"),
    (True, Literal[1, 2], "must be one of 1, 2, not True"),
    ("x", tuple[int, ...], "must be a list, not 'x'"),
    ([1], tuple[int, int], "must have 2 values, not 1"),
    ([1, "b"], tuple[int, ...], "must be a whole number, not 'b'"),
    ("x", int | None, "cannot be 'x'"),
    ([], dict[str, int], "must be dict, not []"),
]


@pytest.mark.parametrize(("value", "kind", "wanted"), FITS)
def test_what_fits(value: Any, kind: Any, wanted: Any) -> None:
    found = fit(value, kind)
    assert found == wanted and type(found) is type(wanted)


@pytest.mark.parametrize(("value", "kind", "message"), MISFITS)
def test_what_does_not_fit_says_what_is_expected(value: Any, kind: Any, message: str) -> None:
    with pytest.raises(MisfitError) as caught:
        fit(value, kind)
    assert str(caught.value).startswith(message)


def test_the_largest_whole_number_holds_within_lists_too() -> None:
    assert fit([-9], tuple[int, ...] | None, largest=9) == (-9,)
    with pytest.raises(MisfitError):
        fit([10], tuple[int, ...] | None, largest=9)


def test_a_long_value_is_cut() -> None:
    with pytest.raises(MisfitError) as caught:
        fit("x" * 10_000, int)
    assert len(str(caught.value)) < 130

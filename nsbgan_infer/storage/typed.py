"""One value from JSON or TOML in the type that a settings field declares: configurations and training settings."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin

FLOAT_LIMIT = 1e30  # no setting is larger; a hostile file may be
SAID = {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}


class MisfitError(ValueError):
    """The value is of another type. Reads on from the name of the setting: `must be a list, not 3`."""


def fit(value: Any, kind: Any, *, largest: int = 1 << 62) -> Any:
    """`value` as the annotated type `kind`: lists become tuples, whole numbers floats and texts paths where asked for.

    Raises MisfitError, also for whole numbers beyond `largest` either way.

    >>> fit([1, 2.5], tuple[float, ...])
    (1.0, 2.5)
    """
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return _choice(value, args)
    if origin in (Union, types.UnionType):
        return _first_fit(value, args, largest)
    if origin is tuple:
        return _items(value, args, largest)
    if kind is Any:
        return value
    if kind is Path and isinstance(value, str):
        return Path(value)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if kind is float and number and abs(value) < FLOAT_LIMIT:
        return float(value)
    if kind is int and number and isinstance(value, int) and abs(value) <= largest:
        return value
    if kind in (int, float) or not isinstance(value, origin or kind):
        raise MisfitError(f"must be {SAID.get(kind, getattr(kind, '__name__', kind))}, not {_short(value)}")
    return value


def _choice(value: Any, choices: tuple[Any, ...]) -> Any:
    if any(value == c and type(value) is type(c) for c in choices):
        return value
    raise MisfitError(f"must be one of {', '.join(map(str, choices))}, not {_short(value)}")


def _first_fit(value: Any, kinds: tuple[Any, ...], largest: int) -> Any:
    for kind in kinds:
        try:
            return fit(value, kind, largest=largest)
        except MisfitError:
            continue
    raise MisfitError(f"cannot be {_short(value)}")


def _items(value: Any, kinds: tuple[Any, ...], largest: int) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise MisfitError(f"must be a list, not {_short(value)}")
    each = kinds[:1] * len(value) if kinds[-1] is Ellipsis else kinds
    if len(each) != len(value):
        raise MisfitError(f"must have {len(each)} values, not {len(value)}")
    return tuple(fit(v, k, largest=largest) for v, k in zip(value, each, strict=True))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."

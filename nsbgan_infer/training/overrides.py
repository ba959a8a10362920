"""Settings from a TOML file laid over a preset: `lr = 2e-4`, or `[loop]` and `steps = 1000` for nested ones."""

from __future__ import annotations

import tomllib
import types
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from nsbgan_infer.errors import UsageError, unknown_name

S = TypeVar("S")


def read_overrides(path: Path) -> dict[str, Any]:
    """The settings in a TOML file. Raises UsageError if it cannot be read or is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"Cannot read the settings {path}: {error.strerror or error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML ({error}): correct it.") from error


def apply_overrides(settings: S, overrides: Mapping[str, Any], *, where: str = "the settings") -> S:
    """`settings`, a frozen dataclass, with `overrides` laid over it, table by table.

    Raises UsageError for an unknown key (with the nearest one) or a value of the wrong type.
    """
    hints = get_type_hints(type(settings))
    names = [f.name for f in fields(settings)]  # type: ignore[arg-type]
    changed: dict[str, Any] = {}
    for key, value in overrides.items():
        if key not in names:
            raise UsageError(str(unknown_name(f"setting in {where}", key, names)))
        present = getattr(settings, key)
        if is_dataclass(present) and not isinstance(present, type):
            if not isinstance(value, Mapping):
                raise UsageError(f"{key} in {where} is a table of settings, not {value!r}: write [{key}] above them.")
            changed[key] = apply_overrides(present, value, where=f"[{key}] of {where}")
        else:
            changed[key] = _converted(value, hints[key], f"{key} in {where}")
    return replace(settings, **changed)  # type: ignore[type-var]


def _converted(value: Any, kind: Any, label: str) -> Any:
    """`value` as TOML or JSON gives it in the annotated type `kind`."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value in args:
            return value
        raise UsageError(f"{label} must be one of {', '.join(map(str, args))}, not {value!r}.")
    if origin in (Union, types.UnionType):
        for option in args:
            try:
                return _converted(value, option, label)
            except UsageError:
                continue
        raise UsageError(f"{label} cannot be {value!r}.")
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise UsageError(f"{label} must be a list, not {value!r}.")
        inner = [args[0]] * len(value) if len(args) == 2 and args[1] is Ellipsis else list(args)
        if len(inner) != len(value):
            raise UsageError(f"{label} must have {len(inner)} values, not {len(value)}.")
        return tuple(_converted(v, t, label) for v, t in zip(value, inner, strict=True))
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if kind is Path and isinstance(value, str):
        return Path(value)
    if kind in (bool, int, float, str, Path) and type(value) is not kind and not isinstance(value, kind):
        raise UsageError(f"{label} must be {_said(kind)}, not {value!r}.")
    if kind in (int, float) and isinstance(value, bool):
        raise UsageError(f"{label} must be {_said(kind)}, not {value!r}.")
    return value


def _said(kind: Any) -> str:
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a text", Path: "a path"}[kind]

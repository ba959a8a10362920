"""Settings laid over a preset, from a TOML file or one by one: `lr = 2e-4`, or `[loop]` and `steps = 1000` for nested
ones."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from nsbgan_infer.errors import UsageError, unknown_name
from nsbgan_infer.storage.typed import MisfitError, fit

S = TypeVar("S")


def read_overrides(path: Path) -> dict[str, Any]:
    """The settings in a TOML file. Raises UsageError if it cannot be read or is no TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"Cannot read the settings {path}: {error.strerror or error}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML ({error}): correct it.") from error


def parse_overrides(pairs: Iterable[str]) -> dict[str, Any]:
    """Settings from texts NAME=VALUE, each as a line of such a file. A bare word is a text, a nested name has dots.

    Raises UsageError for what is none.

    >>> parse_overrides(["loss=rpgan", "r1=[1, 0.1]", "loop.save_every=5"])
    {'loss': 'rpgan', 'r1': [1, 0.1], 'loop': {'save_every': 5}}
    """
    lines = []
    for pair in pairs:
        name, equals, value = (part.strip() for part in pair.partition("="))
        for line in (f"{name} = {value}", f"{name} = {json.dumps(value)}"):
            try:
                tomllib.loads(line)
            except tomllib.TOMLDecodeError:
                continue
            lines.append(line)
            break
        else:
            equals = ""
        if not equals or not value:
            raise UsageError(f"A setting is given as NAME=VALUE, for example batch=8 or r1=[1,0.1], not '{pair}'.")
    try:
        return tomllib.loads("\n".join(lines))
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"A setting is given twice ({error}): give each once.") from error


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
            try:
                changed[key] = fit(value, hints[key])
            except MisfitError as error:
                raise UsageError(f"{key} in {where} {error}.") from None
    return replace(settings, **changed)  # type: ignore[type-var]

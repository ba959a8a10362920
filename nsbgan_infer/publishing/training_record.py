"""What a training run wrote about itself, fit for other eyes: no paths of the machine, the log in few numbers."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.storage.architectures import all_architectures
from nsbgan_infer.storage.files import read_json
from nsbgan_infer.storage.shipped import manifest

# settings that say where and how a run ran, not what was trained
WHERE = ("out", "device", "log_every", "save_every", "sheet_every", "stop_after", "quiet", "tensorboard")
GIVEN = ("data", "start", "level1", "perceptual_file", "sampler")  # paths that the command itself names


@dataclass(frozen=True)
class RunRecord:
    """`data` are the names of what it was trained on; `command` with `settings` (TOML) as settings.toml starts such a
    run beside these; `log` is empty or has `steps`, `hours`, and `first` and `last` with the values of those lines.
    """

    data: tuple[str, ...]
    command: str
    settings: str
    log: dict[str, Any]


def read_run(folder: Path) -> RunRecord | None:
    """The record of the run that wrote `folder`, None if no run did. Raises CheckpointError for damaged files."""
    file = folder / "settings.json"
    if not file.is_file():
        return None
    settings = read_json(file)
    second = isinstance(settings.get("decoder"), Mapping)  # the adversarial stage has the decoder's run in a table
    first = settings["decoder"] if second else settings
    data = first.get("data") or ()
    names = tuple(map(_name, [data] if isinstance(data, str) else data))
    if "inverter_times" in first:
        what = "inverter --joint"
    elif "level" in first:
        what = f"unet --arch {first.get('arch')} --level {first['level']}"
    elif "picture_every" in first:
        what = f"inverter --sampler {shlex.quote(_shipped(first['sampler']) or _name(first['sampler']))}"
    elif "arch" in first:
        what = f"decoder --arch {_second(first['arch']) if second else first['arch']}"
    else:
        what = f"sampler --form {first.get('form', 'lean')}"
    options = [("data", n) for n in names]
    options += [(k, _shipped(first[k]) or _name(first[k])) for k in ("start", "level1") if first.get(k)]
    words = " ".join(f"--{k} {shlex.quote(v)}" for k, v in options)
    command = f"nsbgan train {what} {words} --config settings.toml --out RUN"
    return RunRecord(names, command, "\n".join(_toml(settings)), read_log(folder / "log.jsonl"))


def _second(name: str) -> str:
    """What the adversarial stage makes of the decoder `name`."""
    rows = [row for cls in all_architectures().values() for row in cls.trained]
    return next((row.second for row in rows if row.name == name and row.second), name)


def read_log(file: Path) -> dict[str, Any]:
    """A log of JSON lines in few numbers, see `RunRecord`. Raises CheckpointError if it is none."""
    if not file.is_file():
        return {}
    lines: list[dict[str, float]] = []
    for text in file.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            line = {str(k): float(v) for k, v in json.loads(text).items()}
            lines.append({"step": line["step"], **line})
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise CheckpointError(f"{file} is not the log of a run: remove it, or train again.") from error
    if not lines:
        return {}
    steps = [0.0, *(line["step"] for line in lines)]
    seconds = sum(line.get("seconds", 0.0) * (b - a) for line, a, b in zip(lines, steps, steps[1:], strict=False))
    return {"steps": int(steps[-1]), "hours": round(seconds / 3600, 2), "first": lines[0], "last": lines[-1]}


def _toml(settings: Mapping[str, Any], table: str = "") -> Iterator[str]:
    """Nested settings as TOML; JSON's texts, numbers and lists are TOML's too."""
    kept = {k: v for k, v in settings.items() if k not in (*WHERE, *GIVEN) and v is not None}
    for key, value in kept.items():
        if not isinstance(value, Mapping):
            yield f"{key} = {json.dumps(value)}"
    for key, value in kept.items():
        if isinstance(value, Mapping):
            yield f"\n[{table}{key}]"
            yield from _toml(value, f"{table}{key}.")


def _name(path: object) -> str:
    """The last part of a path."""
    return re.split(r"[/\\]", str(path).rstrip("/\\"))[-1]


def _shipped(path: object) -> str | None:
    """The name of the weights that ship, if `path` is their file on this or another machine."""
    found = re.search(r"[/\\]weights[/\\]([^/\\]+)\.safetensors$", str(path))
    return found[1] if found and found[1] in manifest().get("components", {}) else None

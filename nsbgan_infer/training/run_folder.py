"""The folder of a run: what it was begun with, and the point that it can be resumed from.

A run folder holds `settings.json`, `log.jsonl` (one line every `log_every` steps), `tensorboard/`, `sheets/`,
`checkpoint.pt` (for resuming, private to the trainer) and the component itself (`config.json`, `model.safetensors`),
which `nsbgan generate --decoder FOLDER` loads.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

import torch

from nsbgan_infer.errors import CheckpointError, UsageError
from nsbgan_infer.registry import BUILT_IN
from nsbgan_infer.storage.checkpoints import read_pickle
from nsbgan_infer.storage.files import atomic_path, read_json, writable_folder
from nsbgan_infer.training.tracked import restore_state

CHECKPOINT = "checkpoint.pt"
# What a resumed run may change: where things lie, what is written when, and on what it runs.
WRITES = ("out", "log_every", "save_every", "save_minutes", "sheet_every", "stop_after", "quiet", "tensorboard")
MAY_DIFFER = (*WRITES, "data", "device", "workers")


def json_ready(value: Any) -> Any:
    """A dataclass of settings as JSON values: paths become strings, tuples lists."""
    if is_dataclass(value) and not isinstance(value, type):
        value = asdict(value)
    if isinstance(value, Mapping):
        return {k: json_ready(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [json_ready(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def name_of_run(name: str, out: Path) -> str:
    """What a trained decoder is called: `name`, else its run folder, and then never like one that is built in."""
    own = name or out.resolve().name
    return f"my-{own}" if not name and own in BUILT_IN["decoder"] else own


def check_record(out: Path, record: dict[str, Any]) -> None:
    """Raise UsageError if `out` cannot be written or belongs to a run with other settings."""
    writable_folder(out, what="run folder")
    if not (out / CHECKPOINT).exists():
        return
    before, now = _fixed(read_json(out / "settings.json")), _fixed(record)
    # a setting that one side lacks came with another version: left at nothing (0, "", False) it changes nothing
    keys = [k for k in before.keys() | now.keys() if before.get(k) or now.get(k)]
    differing = sorted(k for k in keys if before.get(k) != now.get(k))
    if differing:
        key = differing[0]
        raise UsageError(
            f"{out} holds a run with {key} = {before.get(key)}, now it is {now.get(key)}: choose a new folder, or give "
            "the same settings to resume that run."
        )


def _fixed(record: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The settings that make a run what it is, as one flat table."""
    flat: dict[str, Any] = {}
    for key, value in record.items():
        if key in MAY_DIFFER:
            continue
        flat.update(_fixed(value, f"{prefix}{key}.") if isinstance(value, Mapping) else {prefix + key: value})
    return flat


def resume(tracked: Mapping[str, Any], out: Path, device: torch.device) -> int:
    """Load the checkpoint of `out` into `tracked`; the step to resume at, 0 for a new run. Raises CheckpointError."""
    file = out / CHECKPOINT
    if not file.exists():
        return 0
    try:
        state = read_pickle(file)
        restore_state(tracked, state["task"])
        return int(state["step"])
    except CheckpointError as error:
        raise CheckpointError(f"{error} To train anew, start in a new folder.") from error
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{file} cannot be resumed from ({reason}): start in a new folder.") from error


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """`state` to `path`, whole or not at all."""
    with atomic_path(path) as part:
        torch.save(state, part)


def cut_log(path: Path, step: int) -> None:
    """Drop the lines after `step`: those steps are about to be done again."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except (ValueError, KeyError, TypeError):
            continue  # a line cut short when the run was killed
    with atomic_path(path) as part:
        part.write_text("".join(kept), encoding="utf-8")

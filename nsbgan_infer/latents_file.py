"""Latents as they are kept: a table in a recipe, and a file of their own.

In a recipe (`latents_table`, `read_table`) z goes as the fp32 bytes in base64, so that nothing is lost; of y only the
classes with a weight; offsets as fp16, which an inversion rounds to, packed. A file (`save_latents`, `load_latents`) is
safetensors with the tensors `z`, `y` and `offsets`, and says in its header which sampler they belong to.
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from nsbgan_infer.classes import NUM_CLASSES
from nsbgan_infer.errors import CheckpointError, ImageFileError, WorkError
from nsbgan_infer.latents import LAST_SEED, Latents, TruncationMode
from nsbgan_infer.storage.components import read_header, read_tensors
from nsbgan_infer.storage.files import atomic_path, writable_folder

LONGEST = 1 << 15  # numbers of one vector: no sampler's z or offsets come near
MOST = 4096  # images of one file
FORMAT = "nsbgan latents 1"
KEY = "nsbgan_latents"


@dataclass(frozen=True)
class Origin:
    """What latents belong to: the `preset` or pipeline, its `sampler`, and the SHA-256 of that one's weights (empty:
    they came from no file)."""

    preset: str
    sampler: str
    weights: str


def latents_table(latents: Latents, index: int) -> dict[str, Any]:
    """Image `index` of `latents` as a table for its recipe; seed and truncation are the recipe's own."""
    y = latents.y[index].float()
    table: dict[str, Any] = {"z": _encode(latents.z[index])}
    table["y"] = {str(int(c)): float(y[c]) for c in y.nonzero().flatten()}
    if latents.offsets is not None:
        half = latents.offsets[index].detach().to("cpu", torch.float16).numpy().astype("<f2")
        table["offsets"] = base64.b64encode(zlib.compress(half.tobytes(), 9)).decode()
    return table


def read_table(table: Mapping[str, Any], *, seed: int, truncation: float, mode: TruncationMode) -> Latents:
    """The latents of one image from a recipe's table. Raises ImageFileError for anything else (it may be hostile)."""
    try:
        if unknown := set(table) - {"z", "y", "offsets"}:
            raise ValueError(f"unknown field {sorted(unknown)[0]!r}")
        y = torch.zeros(1, NUM_CLASSES)
        for name, weight in dict(table["y"]).items():
            if not (name.isdecimal() and len(name) <= 3) or type(weight) not in (int, float):
                raise ValueError("a class or its weight is no number")
            if not math.isfinite(weight) or abs(weight) > 100:
                raise ValueError("the weight of a class is out of range")
            y[0, int(name)] = weight
        z = _decode(table["z"], "<f4")
        offsets = _decode(table["offsets"], "<f2", packed=True)[None] if "offsets" in table else None
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError, zlib.error) as error:
        raise ImageFileError(f"The recipe carries damaged latents ({error}).") from error
    return Latents(z[None], y, (seed,), truncation, mode, offsets)


def save_latents(latents: Latents, path: Path, origin: Origin) -> Path:
    """Write `path`, whole or not at all; it should end in .safetensors. Raises UsageError or WorkError."""
    about = {"format": FORMAT, "preset": origin.preset, "sampler": origin.sampler, "weights": origin.weights}
    drawing = {"seeds": list(latents.seeds), "truncation": latents.truncation, "truncation_mode": latents.mode}
    tensors = {"z": latents.z.detach().to("cpu", torch.float32), "y": latents.y.detach().to("cpu", torch.float32)}
    if latents.offsets is not None:
        tensors["offsets"] = latents.offsets.detach().to("cpu", torch.float16)
    writable_folder(path.parent)
    with atomic_path(path) as part:
        try:
            contents = {k: v.contiguous().clone() for k, v in tensors.items()}
            save_file(contents, part, metadata={"format": "pt", KEY: json.dumps(about | drawing)})
        except SafetensorError as error:  # how the library reports a full disk
            raise WorkError(f"Cannot write {path}: {error}.") from error
    return path


def load_latents(path: Path) -> tuple[Latents, Origin]:
    """The latents in a file, and what they belong to. Raises CheckpointError for anything else (it may be hostile)."""
    header = read_header(path)
    try:
        about = json.loads((header.get("__metadata__") or {})[KEY])
        if about.pop("format") != FORMAT:
            raise CheckpointError(f"{path} was written by a newer version: update nsbgan-infer.")
        origin = Origin(*(_name(about.pop(k)) for k in ("preset", "sampler", "weights")))
        seeds, truncation, mode = (about.pop(k) for k in ("seeds", "truncation", "truncation_mode"))
        if about:
            raise ValueError(f"unknown field {sorted(about)[0]!r}")
    except (KeyError, AttributeError):
        raise CheckpointError(
            f"{path} holds no latents: give a file that `nsbgan invert` wrote (`nsbgan inspect {path.name}` says what "
            "this one is)."
        ) from None
    except (ValueError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): write it again with `nsbgan invert`.") from error
    problem = _shapes_problem(header) or _drawing_problem(seeds, truncation, mode)
    if problem:
        raise CheckpointError(f"{path} is damaged ({problem}): write it again with `nsbgan invert`.")
    tensors = read_tensors(path)
    if len(seeds) != len(tensors["z"]) or not all(torch.isfinite(t).all() for t in tensors.values()):
        raise CheckpointError(f"{path} is damaged (numbers are missing or not finite): write it again.")
    return Latents(tensors["z"], tensors["y"], tuple(seeds), truncation, mode, tensors.get("offsets")), origin


def check_origin(origin: Origin, sampler: str, weights: str, *, name: str) -> None:
    """Raise CheckpointError unless latents of `origin` are for this sampler. `name` is what the message calls them."""
    if origin.sampler != sampler:
        raise CheckpointError(
            f"{name} holds latents of the sampler {origin.sampler}, not of {sampler}: add --preset {origin.preset}."
        )
    if origin.weights and weights and origin.weights != weights:
        raise CheckpointError(
            f"{name} holds latents of other weights of {sampler} (SHA-256 {origin.weights[:12]} instead of "
            f"{weights[:12]}): take those, or invert the photo again."
        )


def _shapes_problem(header: Mapping[str, Any]) -> str:
    shapes = {k: v.get("shape", []) for k, v in header.items() if k != "__metadata__"}
    if not {"z", "y"} <= set(shapes) <= {"z", "y", "offsets"}:
        return f"it holds {', '.join(sorted(shapes)) or 'nothing'}"
    count = shapes["z"][0] if len(shapes["z"]) == 2 else 0
    if not 1 <= count <= MOST or shapes["y"] != [count, NUM_CLASSES]:
        return "z and y do not fit together"
    if any(len(s) != 2 or s[0] != count or not 1 <= s[1] <= LONGEST for s in shapes.values()):
        return "a tensor has another size than z"
    if any(v.get("dtype") not in ("F32", "F16") for k, v in header.items() if k != "__metadata__"):
        return "a tensor holds no numbers of fp32 or fp16"
    return ""


def _drawing_problem(seeds: object, truncation: object, mode: object) -> str:
    if not isinstance(seeds, list) or not all(type(s) is int and 0 <= s <= LAST_SEED for s in seeds):
        return "a seed is no whole number in range"
    if type(truncation) not in (int, float) or not 0 < truncation <= 1:  # type: ignore[operator]
        return "the truncation is no number above 0 and up to 1"
    return "" if mode in get_args(TruncationMode) else "the truncation mode is unknown"


def _name(text: object) -> str:
    if not (isinstance(text, str) and len(text) < 200 and text.isprintable()):
        raise ValueError("a name is no short text")
    return text


def _encode(values: Tensor) -> str:
    return base64.b64encode(values.detach().to("cpu", torch.float32).numpy().astype("<f4").tobytes()).decode()


def _decode(text: str, kind: str, *, packed: bool = False) -> Tensor:
    if not isinstance(text, str) or len(text) > LONGEST * 6:
        raise ValueError("a vector is no text, or too long")
    data = base64.b64decode(text, validate=True)
    if packed:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(data, 2 * LONGEST)
        if not unpacker.eof:
            raise ValueError("a vector is too long, or cut short")
    values = torch.from_numpy(np.frombuffer(data, kind).astype(np.float32))
    if not torch.isfinite(values).all():
        raise ValueError("a vector holds NaN or infinity")
    return values

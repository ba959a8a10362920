"""Reference statistics of real pictures: computed once, kept in one safetensors file with all that they depend on.

The header names the set, the number of pictures, what was done to them, each judge with its resize rule, and a digest
of the pictures; the tensors are `JUDGE.mean` (D,) and `JUDGE.covariance` (D, D), float64.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nsbgan_infer.components import read_header
from nsbgan_infer.errors import CheckpointError, UsageError
from nsbgan_infer.evaluation.features import ClassifierInfo
from nsbgan_infer.evaluation.images import Gathered, Reference
from nsbgan_infer.files import atomic_path, writable_folder

KEY = "nsbgan_reference"


def make_reference(real: Gathered) -> Reference:
    """The statistics of a gathered set. Raises UsageError if no Frechet distance was among its measures."""
    moments = {n: (j.moments.mean, j.moments.covariance) for n, j in real.judged.items() if j.moments}
    if not moments:
        raise UsageError("A reference holds statistics for fid, fd-lite0 or fd-lite2: add one of these measures.")
    infos = {n: real.judged[n].info for n in moments}
    return Reference(real.name, real.prepare, real.n, real.side, real.digest, infos, moments)


def save_reference(reference: Reference, path: Path) -> None:
    """Write `path` (.safetensors), whole or not at all. Raises UsageError for another suffix."""
    if path.suffix != ".safetensors":
        raise UsageError(f"A reference is a .safetensors file, not {path.name}: choose such a name.")
    writable_folder(path.parent)
    about = {
        "name": reference.name,
        "prepare": reference.prepare,
        "n": reference.n,
        "side": list(reference.side),
        "digest": f"{reference.digest:016x}",
        "judges": {n: asdict(info) for n, info in reference.judges.items()},
    }
    tensors = {
        f"{n}.{part}": t.contiguous() for n, m in reference.moments.items() for part, t in zip(PARTS, m, strict=True)
    }
    with atomic_path(path) as part:
        save_file(tensors, part, metadata={KEY: json.dumps(about)})


PARTS = ("mean", "covariance")


def load_reference(path: Path) -> Reference:
    """The statistics in `path`. Raises CheckpointError for a file that is damaged or no reference."""
    try:
        about = json.loads(read_header(path)["__metadata__"][KEY])
        judges = {str(n): ClassifierInfo(**info) for n, info in about["judges"].items()}
        with safe_open(path, framework="pt") as file:
            moments = {n: (file.get_tensor(f"{n}.mean"), file.get_tensor(f"{n}.covariance")) for n in judges}
        for name, (mean, covariance) in moments.items():
            if covariance.shape != (len(mean), len(mean)) or len(mean) != judges[name].features:
                raise ValueError(f"the statistics of {name} have odd shapes")
        width, height = about["side"]
        return Reference(
            str(about["name"]), str(about["prepare"]), int(about["n"]), (int(width), int(height)),
            int(about["digest"], 16), judges, moments,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError, SafetensorError) as error:
        raise CheckpointError(
            f"{path} is no reference of real pictures ({error}): make one with `nsbgan evaluate images "
            "--save-reference`."
        ) from error

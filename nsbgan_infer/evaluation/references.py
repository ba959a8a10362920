"""Reference statistics of real pictures: computed once, kept in one safetensors file with all that they depend on.

The header names the set, the number of pictures, what was done to them, each judge with its resize rule, and a digest
of the pictures; the tensors are `JUDGE.mean` (D,) and `JUDGE.covariance` (D, D), float64.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nsbgan_infer.classifiers.base import Classifier, ClassifierInfo
from nsbgan_infer.errors import CheckpointError, UsageError
from nsbgan_infer.evaluation.images import LEAST, MEASURES, Gathered, Reference, check_reference, gather
from nsbgan_infer.evaluation.pictures import PictureSet, join_pictures, open_pictures
from nsbgan_infer.storage.components import read_header
from nsbgan_infer.storage.files import atomic_path, writable_folder

KEY = "nsbgan_reference"
PARTS = ("mean", "covariance")


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
            f"{path} is not a reference of real pictures ({error}): make one with `nsbgan evaluate images "
            "--save-reference`."
        ) from error


def real_pictures(paths: Sequence[str | Path], *, size: int | None = None) -> PictureSet | Reference:
    """A reference file, or all pictures of the paths as one set. Raises UsageError or CheckpointError."""
    if len(paths) == 1 and Path(paths[0]).suffix == ".safetensors":
        return load_reference(Path(paths[0]))
    return join_pictures([open_pictures(p, size=size) for p in paths])


def statistics_of(
    real: PictureSet | Reference,
    name: str,
    judge: Classifier,
    *,
    keep: Path,
    allow_small: bool = False,
    batch: int = 16,
    progress: Callable[[int], None] | None = None,
) -> Reference:
    """The statistics of real pictures under the judge called `name` (inception | lite0 | lite2).

    Gathered once and kept in the folder `keep`; read from there while files and preparation stay the same.
    Raises UsageError for fewer than 2,048 pictures without `allow_small`, and for a reference made with another rule.
    """
    measure = next(m for m, row in MEASURES.items() if (row.judge, row.needs) == (name, "moments"))
    count = real.n if isinstance(real, Reference) else real.count
    if count < LEAST and not allow_small:
        raise UsageError(f"{real.name} has {count} pictures: give {LEAST} or more, or add --allow-small.")
    if isinstance(real, Reference):
        check_reference(real, real.prepare, [measure], {name: judge})
        return real
    decides = [real.name, real.count, real.prepare, real.fingerprint(), asdict(judge.info)]
    about = hashlib.sha256(json.dumps(decides).encode()).hexdigest()
    file = keep / f"real-{name}-{about[:12]}.safetensors"
    if file.is_file():
        return load_reference(file)
    found = make_reference(gather(real, [measure], {name: judge}, batch=batch, progress=progress))
    save_reference(found, file)
    return found

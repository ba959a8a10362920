"""Sets of finished pictures to measure: a folder, ZIP or tar, an npz, a run's manifest, or a pipeline at work.

All come out as batches (B, 3, H, W) uint8 of one size, read as they are asked for, so memory stays flat.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nsbgan_infer.classifiers.base import to_8_bit
from nsbgan_infer.datasets import centre_square, describe, open_source
from nsbgan_infer.errors import ImageFileError, UsageError
from nsbgan_infer.pipeline import AS_TRAINED, Drawing

if TYPE_CHECKING:
    from nsbgan_infer.pipeline import NsbPipeline, Request

AS_THEY_ARE = "as they are"


@dataclass(frozen=True)
class PictureSet:
    """`count` pictures of one size called `name`; `classes[i]` is the ImageNet id of picture i or None.

    `prepare` says in words what was done to them; `batches(b)` yields (<= b, 3, H, W) uint8, in order, each time anew.
    `drawn_from` are the ids that their sampler can draw, where one is known. `left_out` counts the files that lie
    beside the pictures and were not taken, by reason; `fingerprint()` tells the content of files apart (it reads them).
    """

    name: str
    count: int
    classes: tuple[int | None, ...]
    prepare: str
    batches: Callable[[int], Iterator[Tensor]]
    drawn_from: tuple[int, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    fingerprint: Callable[[], str] = str

    @property
    def choices(self) -> tuple[int, ...]:
        """The ids among which a classifier chooses: the sampler's, else those that occur."""
        return self.drawn_from or tuple(sorted({c for c in self.classes if c is not None}))


def open_pictures(path: str | Path, *, size: int | None = None) -> PictureSet:
    """The pictures at `path`: a folder, ZIP, tar, npz (`arr_0`), `manifest.jsonl` or the folder of a run.

    `size`: the short side is resized to it (antialiased bicubic) and the central square taken. Raises UsageError for
    anything that is not such a set, and ImageFileError while reading for a damaged picture or one of another size.
    """
    path = Path(path).expanduser()
    prepare = AS_THEY_ARE if size is None else f"centre square of {size}, bicubic, antialiased"
    if path.suffix == ".npz" and path.is_file():
        classes, images = _open_npz(path)
        about = PictureSet(path.name, len(classes), classes, prepare, lambda batch: _batches(images(), size, batch))
        return replace(about, fingerprint=lambda: f"files:{_file_hash(path)}")
    source = open_source(path)

    def read() -> Named:
        return ((source.names[i], source.image(i)) for i in range(len(source)))

    return PictureSet(
        path.name,
        len(source),
        source.classes,
        prepare,
        lambda batch: _batches(read(), size, batch),
        left_out=source.left_out,
        fingerprint=lambda: describe(source).hash,
    )


def join_pictures(sets: Sequence[PictureSet]) -> PictureSet:
    """Several sets, prepared alike, as one."""

    def batches(batch: int) -> Iterator[Tensor]:
        return (part for one in sets for part in one.batches(batch))

    left_out: Counter[str] = Counter()
    for one in sets:
        left_out.update(one.left_out)
    classes = tuple(c for one in sets for c in one.classes)
    name = " + ".join(s.name for s in sets)
    joined = PictureSet(name, len(classes), classes, sets[0].prepare, batches, left_out=dict(left_out))
    return replace(joined, fingerprint=lambda: " ".join(one.fingerprint() for one in sets))


def made_pictures(name: str, classes: tuple[int | None, ...], make: Callable[[int], Iterable[Tensor]]) -> PictureSet:
    """Pictures that are made as they are asked for: `make(b)` yields batches (<= b, 3, H, W) nominally [0, 1], one
    picture for each of `classes`, in order."""
    return PictureSet(name, len(classes), classes, AS_THEY_ARE, lambda batch: map(to_8_bit, make(batch)))


def pipeline_pictures(pipeline: NsbPipeline, requests: Sequence[Request], drawing: Drawing = AS_TRAINED) -> PictureSet:
    """The pictures that a pipeline makes of `requests`; arguments as in `NsbPipeline.stream`."""

    def make(batch: int) -> Iterator[Tensor]:
        return (output.tensors for output in pipeline.stream(requests, drawing, batch_size=batch))

    made = made_pictures(pipeline.name, tuple(r.class_id for r in requests), make)
    return replace(made, drawn_from=pipeline.sampler.info.classes or ())


Named = Iterator[tuple[str, Image.Image]]


def _batches(images: Named, size: int | None, batch: int) -> Iterator[Tensor]:
    """8-bit batches; raises ImageFileError for the first picture of another size."""
    waiting: list[Tensor] = []
    first: tuple[int, int] | None = None
    for name, image in images:
        square = image if size is None else centre_square(image, size)
        first = first or square.size
        if square.size != first:
            raise ImageFileError(
                f"{name} is {square.width} x {square.height}, but those before it are {first[0]} x {first[1]}: "
                "bring all to one size with --size."
            )
        waiting.append(torch.from_numpy(np.array(square, dtype=np.uint8)).permute(2, 0, 1))
        if len(waiting) == batch:
            yield torch.stack(waiting)
            waiting = []
    if waiting:
        yield torch.stack(waiting)


def _open_npz(path: Path) -> tuple[tuple[int | None, ...], Callable[[], Named]]:
    """`arr_0` (N, H, W, 3) uint8, read row by row, and class ids in `arr_1` if it is there; no pickles."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            if "arr_0.npy" not in names:
                raise UsageError(
                    f"{path} has no arr_0: expected (N, H, W, 3) uint8, as `np.savez(file, images)` writes."
                )
            with archive.open("arr_0.npy") as member:
                shape, fortran, dtype = _npy_header(member)
            labels = None
            if "arr_1.npy" in names:
                with archive.open("arr_1.npy") as member:
                    labels = np.lib.format.read_array(member, allow_pickle=False)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as an npz ({error}): save it again.") from error
    if len(shape) != 4 or shape[3] != 3 or fortran or dtype != np.uint8 or not shape[0]:
        raise UsageError(f"{path}: arr_0 is {shape} {dtype}, expected (N, H, W, 3) uint8.")
    known = labels is not None and labels.shape == (shape[0],) and np.issubdtype(labels.dtype, np.integer)
    classes = tuple(int(c) if 0 <= c < 1000 else None for c in labels) if known and labels is not None else None

    def images() -> Named:
        row = shape[1] * shape[2] * shape[3]
        with zipfile.ZipFile(path) as archive, archive.open("arr_0.npy") as member:
            _npy_header(member)
            for i in range(shape[0]):
                data = member.read(row)
                if len(data) != row:
                    raise ImageFileError(f"{path} ends within picture {i}: save it again.")
                yield f"{path.name}[{i}]", Image.frombytes("RGB", (shape[2], shape[1]), data)

    return classes or (None,) * shape[0], images


def _npy_header(member: zipfile.ZipExtFile | object) -> tuple[tuple[int, ...], bool, np.dtype[np.generic]]:
    version = np.lib.format.read_magic(member)  # type: ignore[arg-type]
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    return read(member)  # type: ignore[arg-type]


def _file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]

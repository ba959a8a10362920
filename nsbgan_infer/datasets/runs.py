"""What a bulk run made, as a set of pictures: its manifest says which bytes of which file are one, and of which class.

A line is `{"index", "class", "seed", "file", "offset", "size", "sha256"}` (`bulk.sinks.Line` writes it): `size` bytes
at `offset` of `file` are an image file, or the pixels (side, side, 3) of a row of an npz.
"""

from __future__ import annotations

import io
import json
import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from nsbgan_infer.classes import NUM_CLASSES
from nsbgan_infer.datasets.source import ImageSource
from nsbgan_infer.errors import ImageFileError, UsageError

MANIFEST, PLAN = "manifest.jsonl", "plan.json"


@dataclass(frozen=True)
class _Row:
    class_id: int | None
    file: str
    offset: int
    size: int

    @property
    def side(self) -> int:
        """Of a row of an npz."""
        return math.isqrt(self.size // 3)


def run_manifest(path: Path) -> Path | None:
    """The manifest that is meant by `path`: itself, or that of the run in the folder; None for anything else.

    Raises UsageError for the folder of a run that is not finished.
    """
    if path.name == MANIFEST and path.is_file():
        return path
    if not (path / PLAN).is_file():
        return None
    if (path / MANIFEST).is_file():
        return path / MANIFEST
    if (path / ".nsbgan").is_dir():
        raise UsageError(
            f"{path} holds a run that is not finished: finish it with `nsbgan generate --resume` and its own options, "
            "or give the folders in it."
        )
    return None


def open_run(manifest: Path) -> ImageSource:
    """The pictures of a run, in its own order. Raises UsageError for what is no manifest."""
    rows = []
    try:
        with manifest.open(encoding="utf-8") as lines:
            for number, text in enumerate(lines, 1):
                try:
                    rows.append(_read_row(text))
                except (ValueError, TypeError, KeyError, RecursionError) as error:
                    raise UsageError(f"{manifest}, line {number}, is no line of a run's manifest ({error}).") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"Cannot read {manifest}: {error}.") from error
    if not rows:
        raise UsageError(f"{manifest} names no pictures.")

    def read(i: int) -> bytes:
        row = rows[i]
        with (manifest.parent / row.file).open("rb") as file:
            file.seek(row.offset)
            data = file.read(row.size)
        if len(data) != row.size:
            raise ImageFileError(f"{manifest.parent / row.file} ends within picture {i}: make it again.")
        return _as_file(data, row.side) if row.file.endswith(".npz") else data

    several = len({row.file for row in rows}) < len(rows)
    names = tuple(f"{row.file}[{i}]" if several else row.file for i, row in enumerate(rows))
    return ImageSource(names, tuple(row.class_id for row in rows), read)


def _read_row(text: str) -> _Row:
    line = json.loads(text)
    class_id, file, offset, size = (line[key] for key in ("class", "file", "offset", "size"))
    whole = all(isinstance(v, int) and not isinstance(v, bool) and v >= 0 for v in (offset, size))
    known = class_id is None or (isinstance(class_id, int) and 0 <= class_id < NUM_CLASSES)
    if not (whole and known and isinstance(file, str)):
        raise ValueError("its fields have other types")
    if not file or PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts or "\\" in file:
        raise ValueError(f"'{file}' does not lie in the run's folder")
    row = _Row(class_id, file, offset, size)
    if file.endswith(".npz") and row.side**2 * 3 != size:
        raise ValueError(f"{size} bytes are no square picture")
    return row


def _as_file(pixels: bytes, side: int) -> bytes:
    """Pixels as the bytes of an image file, so that every set reads alike."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (side, side), pixels).save(buffer, "BMP")
    return buffer.getvalue()

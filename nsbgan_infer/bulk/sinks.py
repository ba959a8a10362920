"""Where the images of a bulk run go (step 5): a folder, WebDataset tar shards, or one npz.

Pixels (H, W, 3) uint8 and a request come in; bytes go to the disk, and a line of the manifest says where: reading
`size` bytes at `offset` of `file` gives bytes with the hash `sha256`, whatever the sink. Tar shards and npz rows are
appended to, and a resumed run cuts them back to the last image that its journal names. Nothing depends on time, user
or machine.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nsbgan_infer.errors import UsageError
from nsbgan_infer.images import Format, Recipe, encode_image, file_name

SinkName = Literal["folder", "tar", "npz"]
FOLDER_SIZE = 1000  # files in one sub-folder
NPZ = "images.npz"
BLOCK = 512  # tar counts in blocks
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Line:
    """One line of the manifest: image `index` of the plan, its class id (None: unconditional) and seed, and where its
    bytes are. For npz the bytes are the pixels, row by row; else the image file."""

    index: int
    class_id: int | None
    seed: int
    file: str
    offset: int
    size: int
    sha256: str

    def to_json(self) -> str:
        """One line of JSON."""
        row = {"index": self.index, "class": self.class_id, "seed": self.seed, "file": self.file}
        return json.dumps(row | {"offset": self.offset, "size": self.size, "sha256": self.sha256}) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Line:
        """The inverse of `to_json`. Raises ValueError for a line that is torn or not ours."""
        row = json.loads(text)
        try:
            line = cls(row.pop("index"), row.pop("class"), row.pop("seed"), **row)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"not a line of a manifest: {error}") from error
        if not re.fullmatch(r"[0-9a-z][\w.-]*(/[\w.-]+)?", line.file) or ".." in line.file:
            raise ValueError(f"{line.file!r} is not a file of a run")
        return line


@dataclass(frozen=True)
class Encoded:
    """One image ready to be written: its bytes for the sink, their hash, and what belongs beside them."""

    index: int
    class_id: int | None
    seed: int
    data: bytes
    sha256: str
    recipe: str | None


@dataclass(frozen=True)
class Encoding:
    """How images become bytes: the sink, and for folder and tar the file format, its quality or PNG level, and
    whether the recipe goes in. `labels`: what class ids count, as in SamplerInfo; file names follow it."""

    sink: SinkName = "folder"
    fmt: Format = "png"
    quality: int = 92
    compress: int = 1
    recipe: bool = True
    labels: str = "imagenet"

    def __post_init__(self) -> None:
        if self.sink not in get_args(SinkName):
            raise UsageError(f"Unknown sink '{self.sink}': use {', '.join(get_args(SinkName))}.")

    def encode(self, index: int, class_id: int | None, seed: int, pixels: Pixels, recipe: Recipe | None) -> Encoded:
        """The bytes of one image. Needs no lock: several threads may encode at once."""
        kept = recipe if self.recipe else None
        if self.sink == "npz":
            data = pixels.tobytes()
        else:
            image = Image.fromarray(pixels)
            data = encode_image(image, self.fmt, recipe=kept, quality=self.quality, compress=self.compress)
        return Encoded(index, class_id, seed, data, hashlib.sha256(data).hexdigest(), kept.to_json() if kept else None)


class Shard(Protocol):
    """The open end of one shard. `add` writes one image and returns its line; `close` puts the shard in its place.
    `locate` says where a line's bytes are now (an open tar is not in its place yet)."""

    def locate(self, line: Line) -> Path: ...

    def keep(self, lines: Sequence[Line]) -> None:
        """Begin, or begin again after the images of `lines`; whatever came after them is cut off."""

    def add(self, image: Encoded) -> Line: ...

    def close(self) -> None: ...


def open_shard(encoding: Encoding, folder: Path, work: Path, number: int) -> Shard:
    """The shard `number` of a run into `folder`; `work` is a folder beside for what is not finished."""
    if encoding.sink == "folder":
        return FolderShard(folder, work / f"image-{number:05d}.part", encoding.fmt, encoding.labels)
    if encoding.sink == "tar":
        return TarShard(folder / f"shard-{number:05d}.tar", work / f"shard-{number:05d}.tar.part", encoding.fmt)
    return RowsShard(rows_file(work, number))


class FolderShard:
    """Files in sub-folders of 1,000: `00000/207_golden-retriever_seed0.png`."""

    def __init__(self, folder: Path, part: Path, fmt: Format, labels: str = "imagenet") -> None:
        self.folder, self.part, self.fmt, self.labels = folder, part, fmt, labels

    def locate(self, line: Line) -> Path:
        return self.folder / line.file

    def keep(self, lines: Sequence[Line]) -> None:
        return None

    def add(self, image: Encoded) -> Line:
        file = file_name(image.class_id, image.seed, self.fmt, labels=self.labels)
        name = f"{image.index // FOLDER_SIZE:05d}/{file}"
        target = self.folder / name
        target.parent.mkdir(exist_ok=True)
        self.part.write_bytes(image.data)
        self.part.replace(target)
        return Line(image.index, image.class_id, image.seed, name, 0, len(image.data), image.sha256)

    def close(self) -> None:
        return None


class AppendedFile:
    """A file that grows by whole records: one that could not be written whole is cut off again."""

    def __init__(self, path: Path, end: int) -> None:
        self.file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b", buffering=0)
        self.file.truncate(end)
        self.end = end

    def append(self, data: bytes) -> int:
        """Write `data` at the end; returns where it begins."""
        start = self.end
        try:
            self.file.seek(start)
            left = memoryview(data)
            while left:
                left = left[self.file.write(left) :]
        except BaseException:
            self.file.truncate(start)
            raise
        self.end = start + len(data)
        return start


class TarShard:
    """`shard-00000.tar` as WebDataset reads it: for each image `000000017.cls`, `.json` (the recipe) and `.png`."""

    def __init__(self, target: Path, part: Path, fmt: Format) -> None:
        self.target, self.part, self.suffix = target, part, {"jpeg": "jpg"}.get(fmt, fmt)
        self.out: AppendedFile | None = None
        if target.exists():  # the run was stopped between closing the tar and noting that
            target.replace(part)

    def locate(self, line: Line) -> Path:
        return self.part

    def keep(self, lines: Sequence[Line]) -> None:
        end = max((line.offset + line.size for line in lines), default=0)
        self.out = AppendedFile(self.part, end + -end % BLOCK)

    def add(self, image: Encoded) -> Line:
        assert self.out is not None
        key = f"{image.index:09d}"
        before = b"" if image.class_id is None else _member(f"{key}.cls", str(image.class_id).encode())
        before += b"" if image.recipe is None else _member(f"{key}.json", image.recipe.encode())
        start = self.out.append(before + _member(f"{key}.{self.suffix}", image.data))
        offset = start + len(before) + BLOCK
        return Line(image.index, image.class_id, image.seed, self.target.name, offset, len(image.data), image.sha256)

    def close(self) -> None:
        assert self.out is not None
        self.out.append(bytes(2 * BLOCK))  # two empty blocks end a tar
        self.out.file.close()
        self.part.replace(self.target)


class RowsShard:
    """The pixels of a shard one after the other, in the work folder, until `write_npz` joins the shards."""

    def __init__(self, part: Path) -> None:
        self.part = part
        self.out: AppendedFile | None = None

    def locate(self, line: Line) -> Path:
        return self.part

    def keep(self, lines: Sequence[Line]) -> None:
        self.out = AppendedFile(self.part, max((line.offset + line.size for line in lines), default=0))

    def add(self, image: Encoded) -> Line:
        assert self.out is not None
        offset = self.out.append(image.data)
        return Line(image.index, image.class_id, image.seed, NPZ, offset, len(image.data), image.sha256)

    def close(self) -> None:
        assert self.out is not None
        self.out.file.close()


def rows_file(work: Path, number: int) -> Path:
    """Where the pixels of shard `number` wait for `write_npz`."""
    return work / f"rows-{number:05d}.part"


def write_npz(
    folder: Path, work: Path, shards: Iterable[tuple[int, list[Line]]], *, count: int, side: int, labelled: bool
) -> int:
    """Join the rows of all shards, in the order of their lines, to `images.npz`; returns where pixels begin in it.

    `arr_0` is (count, side, side, 3) uint8, `arr_1` (count,) int64 class ids (left out where there are none), both
    stored uncompressed, as the tools that compute FID read it. Memory stays flat.
    """
    part = work / f"{NPZ}.part"
    labels: list[int] = []
    with zipfile.ZipFile(part, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        with archive.open(zipfile.ZipInfo("arr_0.npy"), "w", force_zip64=True) as out:
            shape = (count, side, side, 3)
            np.lib.format.write_array_header_1_0(out, _npy_header(np.dtype(np.uint8), shape))
            for number, lines in shards:
                with rows_file(work, number).open("rb") as rows:
                    for line in lines:
                        rows.seek(line.offset)
                        out.write(rows.read(line.size))
                        labels.append(-1 if line.class_id is None else line.class_id)
        if labelled:
            buffer = io.BytesIO()
            np.save(buffer, np.array(labels, dtype=np.int64))
            archive.writestr(zipfile.ZipInfo("arr_1.npy"), buffer.getvalue())
        start = _member_start(archive.getinfo("arr_0.npy"), part)
    part.replace(folder / NPZ)
    return start


def _npy_header(dtype: np.dtype[np.uint8], shape: tuple[int, ...]) -> dict[str, object]:
    return {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}


def _member_start(info: zipfile.ZipInfo, archive: Path) -> int:
    """Where an npy member's array data begin in the file: after the zip's and the npy's header."""
    with archive.open("rb") as file:
        file.seek(info.header_offset + 26)
        name, extra = file.read(2), file.read(2)
        file.seek(int.from_bytes(name, "little") + int.from_bytes(extra, "little"), os.SEEK_CUR)
        np.lib.format.read_magic(file)
        np.lib.format.read_array_header_1_0(file)
        return file.tell()


def _member(name: str, data: bytes) -> bytes:
    """A tar member without time or owner: header, data, padding to whole blocks."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    return info.tobuf(tarfile.USTAR_FORMAT) + data + bytes(-len(data) % BLOCK)

"""Hostile files: pickles that would run code, names that would leave their folder, images that would fill memory."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch

TRAVERSAL = [
    "..",
    ".",
    "",
    "../x",
    "x/../y",
    "/etc/passwd",
    "a/b",
    "a\\b",
    "..\\x",
    "C:\\x",
    "C:x",
    "C:",
    "\\\\server\\share",
    "//server/share",
    "x\0y",
    "\0",
    "x\n",
    "x\r\ny",
    "~",
    "~root",
    "$HOME",
    "%2e%2e%2f",
    "a..b",
    ".hidden",
    "-rf",
    "NUL",
    "con.txt",
    "LPT1",
    "end.",
    "end ",
    "ﬁle",
    "．．",
    "x" * 129,
]


class Runs:
    """An object whose unpickling creates the file `mark`."""

    def __init__(self, mark: Path, by: str = "open") -> None:
        self.mark, self.by = mark, by

    def __reduce__(self) -> Any:
        if self.by == "shell":
            return os.system, (f"touch '{self.mark}'",)
        if self.by == "eval":
            return eval, (f"open({str(self.mark)!r}, 'w')",)
        return open, (str(self.mark), "w")


def _torch(value: Any, *, new: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(value, buffer, _use_new_zipfile_serialization=new)
    return buffer.getvalue()


def _tar(value: bytes) -> bytes:
    """The oldest format of torch: a tar archive of pickles."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            member = tarfile.TarInfo(name)
            member.size = len(value)
            tar.addfile(member, io.BytesIO(value))
    return buffer.getvalue()


def _zip(value: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", value)
        archive.writestr("archive/version", "3\n")
    return buffer.getvalue()


# name -> the bytes of a file whose careless reading would create the file `mark`
def _dump(mark: Path, protocol: int) -> bytes:
    return pickle.dumps({"x": Runs(mark, "shell")}, protocol=protocol)


PICKLES: dict[str, Callable[[Path], bytes]] = {
    "state dict": lambda mark: _torch({"params": {"conv_first.weight": torch.zeros(1)}, "note": Runs(mark)}),
    "bare": lambda mark: _torch(Runs(mark, "shell")),
    "key": lambda mark: _torch({"conv_first.weight": torch.zeros(1), "x": Runs(mark, "eval")}),
    "old torch": lambda mark: _torch({"state_dict": {"w": torch.zeros(2)}, "x": Runs(mark)}, new=False),
    "older torch": lambda mark: _tar(pickle.dumps(Runs(mark))),
    "zip": lambda mark: _zip(pickle.dumps({"x": Runs(mark)})),
    **{f"protocol {p}": partial(_dump, protocol=p) for p in range(6)},
}


def bomb_png(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG of under 100 bytes that says it holds `width` x `height` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 10)) + chunk(b"IEND", b"")
    )


def text_bomb_png() -> bytes:
    """A PNG of one pixel whose compressed text unpacks to 80 MB."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    text = b"nsbgan\0\x01\0\0\0" + zlib.compress(b"x" * 80_000_000, 9)
    body = chunk(b"iTXt", text) + chunk(b"IDAT", zlib.compress(b"\0" * 4)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body

"""Sets of pictures in archives: ZIP files, and tar shards as WebDataset writes them."""

from __future__ import annotations

import os
import posixpath
import tarfile
import zipfile
from collections import Counter
from pathlib import Path

from nsbgan_infer.datasets.names import pick_pictures, read_classes
from nsbgan_infer.datasets.source import ImageSource
from nsbgan_infer.errors import ImageFileError

BYTES_LIMIT = 512 << 20  # of one picture's file inside an archive
MOST_LINKS = 16  # that follow one another in a tar


def open_zip(path: Path) -> ImageSource:
    """The pictures of a ZIP archive, in the order of their names. Raises what `zipfile` raises for a damaged one."""
    archive, left_out = _Zip(path), Counter[str]()
    everything = [n for n in dict.fromkeys(archive.open().namelist()) if not n.endswith("/")]
    names = pick_pictures(everything, left_out)
    classes = read_classes(names, everything, archive.read, where=path.name)
    return ImageSource(tuple(names), classes, lambda i: archive.read(names[i]), dict(left_out))


def open_tar(path: Path) -> ImageSource:
    """The pictures of an uncompressed tar at known offsets. Raises what `tarfile` raises for another one."""
    left_out: Counter[str] = Counter()
    with tarfile.open(path, "r:") as tar:
        members = {m.name.removeprefix("./"): m for m in tar.getmembers()}
    files = {}
    for name, member in members.items():
        if member.isdir():
            continue
        target = _follow(name, members)
        if target is None:
            left_out["links that lead nowhere" if member.issym() or member.islnk() else "of other kinds"] += 1
        else:
            files[name] = target
    names = pick_pictures(files, left_out)

    def read(name: str) -> bytes:
        if files[name].size > BYTES_LIMIT:
            raise ImageFileError(f"{name} has more than {BYTES_LIMIT:,} bytes and is refused.")
        with path.open("rb") as file:
            file.seek(files[name].offset_data)
            return file.read(files[name].size)

    classes = read_classes(names, files, read, where=path.name)
    return ImageSource(tuple(names), classes, lambda i: read(names[i]), dict(left_out))


def _follow(name: str, members: dict[str, tarfile.TarInfo]) -> tarfile.TarInfo | None:
    """The member with the bytes of `name`, behind links within the archive; None if there is none."""
    for _ in range(MOST_LINKS):
        member = members.get(name)
        if member is None or member.isreg():
            return member
        if member.islnk():
            name = member.linkname.removeprefix("./")
        elif member.issym():
            name = posixpath.normpath(posixpath.join(posixpath.dirname(name), member.linkname))
        else:
            return None
    return None


class _Zip:
    """A ZIP archive that every process opens for itself: a forked one shares the position in the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: tuple[int, zipfile.ZipFile] | None = None

    def open(self) -> zipfile.ZipFile:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), zipfile.ZipFile(self.path)
        return self._opened[1]

    def read(self, name: str) -> bytes:
        archive = self.open()
        if archive.getinfo(name).file_size > BYTES_LIMIT:
            raise ImageFileError(f"{name} unpacks to more than {BYTES_LIMIT:,} bytes and is refused.")
        try:
            return archive.read(name)
        except Exception as error:  # wrong sums, unknown or encrypted members, damaged streams: a type for each
            raise ImageFileError(f"{name} cannot be read from {self.path.name} ({error}).") from error

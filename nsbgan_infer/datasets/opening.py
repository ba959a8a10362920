"""From a path to a set of pictures: `open_source` takes folders, pictures, ZIP archives, tar shards and runs."""

from __future__ import annotations

import os
import tarfile
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from nsbgan_infer.datasets.archives import open_tar, open_zip
from nsbgan_infer.datasets.names import class_of, left_out_text, pick_pictures, read_classes
from nsbgan_infer.datasets.runs import MANIFEST, open_run, run_manifest
from nsbgan_infer.datasets.source import ImageSource
from nsbgan_infer.errors import UsageError
from nsbgan_infer.storage.image_files import suffixes


def open_source(paths: str | Path | Sequence[str | Path]) -> ImageSource:
    """The pictures in a folder (searched recursively, links followed), a ZIP, tar shards, a run, or several of these.

    Raises UsageError if a path does not exist, cannot be read or holds no pictures.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    parts = [_open_one(Path(p).expanduser()) for p in given]
    names = tuple(n for part in parts for n in part.names)
    classes = tuple(c for part in parts for c in part.classes)
    owner = [(part, i) for part in parts for i in range(len(part))]
    left_out: Counter[str] = Counter()
    for part in parts:
        left_out.update(part.left_out)
    if not names:
        left = left_out_text(left_out)
        raise UsageError(
            f"No pictures in {', '.join(map(str, given))}: expected {', '.join(suffixes())} files"
            f"{f' ({left})' if left else ''}."
        )
    return ImageSource(names, classes, lambda i: owner[i][0].read(owner[i][1]), dict(left_out))


def _open_one(path: Path) -> ImageSource:
    if not path.exists():
        raise UsageError(f"No such file or folder: {path}.")
    if manifest := run_manifest(path):
        return open_run(manifest)
    if path.is_dir():
        return _open_folder(path)
    if path.name.lower().endswith(suffixes()):
        return ImageSource((path.name,), (class_of(path.name),), lambda _i: path.read_bytes())
    try:
        if zipfile.is_zipfile(path):
            return open_zip(path)
        if tarfile.is_tarfile(path):
            return open_tar(path)
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (zipfile.BadZipFile, tarfile.TarError, ValueError) as error:
        raise UsageError(
            f"{path} cannot be used as an archive of pictures ({error}): tar shards must not be compressed, and a "
            "damaged file must be fetched again."
        ) from error
    raise UsageError(
        f"{path} is neither a folder, a picture, a ZIP archive nor a tar shard of pictures, nor a run's {MANIFEST}."
    )


def _open_folder(path: Path) -> ImageSource:
    left_out: Counter[str] = Counter()
    everything = _walk(path, left_out)
    names = pick_pictures(everything, left_out)

    def read(name: str) -> bytes:
        try:
            return (path / name).read_bytes()
        except OSError as error:
            raise UsageError(f"Cannot read {path / name}: {error.strerror or error}.") from error

    classes = read_classes(names, everything, read, where=str(path), within=path.resolve().name)
    return ImageSource(tuple(names), classes, lambda i: (path / names[i]).read_bytes(), dict(left_out))


def _walk(root: Path, left_out: Counter[str]) -> list[str]:
    """The name of every file below `root`, also behind links. Each folder is entered once, by its own name if it has
    one below `root`, so links that lead back end. Raises UsageError for a folder that cannot be read."""
    found: list[str] = []
    seen: set[str] = set()
    real, linked = [""], list[str]()
    while real or linked:
        folder = real.pop() if real else linked.pop(0)
        here = root / folder
        if (place := os.path.realpath(here)) in seen:
            left_out["links to folders that are read already"] += 1
            continue
        seen.add(place)
        try:
            entries = sorted(os.scandir(here), key=lambda entry: entry.name)
            for entry in entries:
                name = f"{folder}/{entry.name}" if folder else entry.name
                if entry.is_dir():
                    (linked if entry.is_symlink() else real).append(name)
                elif entry.is_file():
                    found.append(name)
                elif entry.is_symlink():
                    left_out["links that lead nowhere"] += 1
                else:
                    left_out["of other kinds"] += 1
        except OSError as error:
            raise UsageError(f"Cannot read the folder {here}: {error.strerror or error}.") from error
    return found

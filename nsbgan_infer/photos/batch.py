"""Many photos at once: which files are meant, which are left out and why, and where each result goes.

Everything that can be known before the work is found out here. No result ever takes the place of a photo that is read,
and results of earlier runs, which carry a mark, are not enlarged once more.
"""

from __future__ import annotations

import math
import os
import sys
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from nsbgan_infer.datasets.names import THUMBNAILS
from nsbgan_infer.errors import NsbError, UsageError
from nsbgan_infer.photos.exif import is_own_result
from nsbgan_infer.photos.reading import check_photo
from nsbgan_infer.photos.resizing import Wish
from nsbgan_infer.photos.writing import FORMATS, PhotoFormat, check_size, photo_format
from nsbgan_infer.storage.files import NAME_LIMIT
from nsbgan_infer.storage.image_files import HEIC_SUFFIXES, open_header, reads_heic, suffixes

STREAM = Path("-")  # standard input or output
Existing = Literal["refuse", "skip", "overwrite"]


@dataclass(frozen=True)
class Job:
    """One photo and where its result goes; `STREAM` for standard input and output."""

    source: Path
    target: Path
    fmt: PhotoFormat


@dataclass(frozen=True)
class Failure:
    """A photo that cannot be enlarged, and the sentence that says why."""

    source: Path
    error: NsbError


@dataclass(frozen=True)
class Batch:
    """What becomes of the files that were given."""

    jobs: tuple[Job, ...]
    """What is to be done, in order."""
    skipped: tuple[Job, ...] = ()
    """What was done before (`existing="skip"`)."""
    failures: tuple[Failure, ...] = ()
    """Photos that are known not to work, before any work."""
    left_out: dict[str, int] = field(default_factory=dict)
    """How many files of the folders were not taken, by reason."""

    def left_out_text(self) -> str:
        """One line for people; empty where nothing was left out."""
        return "Left out: " + ", ".join(f"{n} {why}" for why, n in self.left_out.items()) + "." if self.left_out else ""


def plan_batch(
    inputs: Sequence[Path],
    out: str,
    *,
    ending: str = "enlarged",
    fmt: PhotoFormat | None = None,
    recursive: bool = False,
    existing: Existing = "refuse",
) -> Batch:
    """Find the photos of files and folders, and a target for each.

    `out` is a file where it has a picture's ending and one photo is given, else a folder; `-` is standard output.
    `ending` is added to names in a folder. Photos of one name get distinct ones. Raises UsageError where that cannot
    be: no photos, several into one file, results that exist already.
    """
    left_out: Counter[str] = Counter()
    folder_of_results = None if out == "-" or is_file_name(out) else Path(out)
    sources = _distinct(_find(inputs, folder_of_results, recursive, left_out), left_out)
    if not sources:
        raise UsageError(_nothing(inputs, left_out))
    to_one_file = out == "-" or folder_of_results is None
    if to_one_file and (len(sources) > 1 or any(p.is_dir() for p in inputs)):
        where, what = "standard output" if out == "-" else out, f"{len(sources)} photos do"
        raise UsageError(
            f"{'A folder does' if len(sources) == 1 else what} not go into {where}: give a folder with --out."
        )
    if out == "-":
        jobs = [Job(sources[0][0], STREAM, fmt or "png")]
    elif to_one_file:
        jobs = [Job(sources[0][0], Path(out), _agreed(out, fmt))]
    else:
        jobs = _name_targets(sources, Path(out), ending, fmt or "png")
    _check_targets(jobs)
    done = [j for j in jobs if j.target != STREAM and j.target.exists()]
    if done and existing == "refuse":
        count = "It exists" if len(jobs) == 1 else f"{len(done)} of {len(jobs)} results exist"
        raise UsageError(f"{count} already ({done[0].target}): --skip-existing leaves it, --overwrite replaces it.")
    skipped = done if existing == "skip" else []
    return Batch(tuple(j for j in jobs if j not in skipped), tuple(skipped), (), dict(left_out))


def check_batch(batch: Batch, wish: Wish, decoder_scale: int, max_pixels: int) -> Batch:
    """Move photos that cannot work to `failures`, by their headers and the limits of their targets' formats."""
    jobs, failures = [], list(batch.failures)
    for job in batch.jobs:
        try:
            if job.source != STREAM:  # its header comes with the rest
                size = check_photo(job.source, str(job.source), max_pixels)
                check_size(job.fmt, wish.size_of(size, decoder_scale), str(job.source))
            jobs.append(job)
        except NsbError as error:
            failures.append(Failure(job.source, error))
    return replace(batch, jobs=tuple(jobs), failures=tuple(failures))


def pixels_of(batch: Batch) -> int:
    """Pixels of all photos that are to be enlarged, by their headers (0 for standard input)."""
    return sum(math.prod(check_photo(j.source, str(j.source), sys.maxsize)) for j in batch.jobs if j.source != STREAM)


def is_file_name(out: str) -> bool:
    """Whether `--out` means a file: it ends like a picture, is not a folder and has no separator at its end.

    Raises UsageError for the ending of a picture that cannot be written.
    """
    if out.endswith(("/", os.sep)) or os.path.isdir(out):  # noqa: PTH112 - Path's raises for a name that is too long
        return False
    return photo_format(out) is not None


def _find(
    inputs: Sequence[Path], results: Path | None, recursive: bool, left_out: Counter[str]
) -> Iterator[tuple[Path, Path]]:
    """(photo, its folder within the input it was found in) of everything that was given, folders in order of names."""
    for given in inputs:
        if not given.is_dir():
            yield given, Path()
            continue
        for path in _walk(given, results, recursive, left_out):
            yield path, path.parent.relative_to(given)


def _walk(folder: Path, results: Path | None, recursive: bool, left_out: Counter[str]) -> Iterator[Path]:
    known, seen = suffixes(), set()
    waiting = [folder]
    while waiting:
        current = waiting.pop(0)
        real = os.path.realpath(current)
        if real in seen:  # a link back to a folder above
            continue
        seen.add(real)
        try:
            entries = sorted(current.iterdir())
        except OSError as error:
            raise UsageError(f"Cannot read the folder {current}: {error.strerror or error}.") from error
        for path in entries:
            if path.name.startswith("."):
                left_out["hidden"] += 1
            elif path.is_dir():
                if results is not None and results.exists() and path.samefile(results):
                    continue
                if path.name.lower() in THUMBNAILS:
                    left_out["folders of thumbnails"] += 1
                elif recursive:
                    waiting.append(path)
                else:
                    left_out["sub-folders (--recursive takes them)"] += 1
            elif path.suffix.lower() in HEIC_SUFFIXES and not reads_heic():
                left_out["HEIC (pip install 'nsbgan-infer[heic]' to read them)"] += 1
            elif path.suffix.lower() not in known or not path.is_file():
                left_out["of other kinds"] += 1
            elif _is_own(path):
                left_out["results of earlier runs"] += 1
            else:
                yield path


def _is_own(path: Path) -> bool:
    try:
        with open_header(path, str(path)) as image:
            return is_own_result(image)
    except NsbError:
        return False  # said later, with its reason


def _distinct(found: Iterator[tuple[Path, Path]], left_out: Counter[str]) -> list[tuple[Path, Path]]:
    """Each file once."""
    kept: dict[str, tuple[Path, Path]] = {}
    for path, within in found:
        real = "-" if path == STREAM else os.path.realpath(path)
        if real in kept:
            left_out["given twice"] += 1
        kept.setdefault(real, (path, within))
    return list(kept.values())


def _name_targets(sources: Sequence[tuple[Path, Path]], out: Path, ending: str, fmt: PhotoFormat) -> list[Job]:
    """A file of `out` for each photo, none of which is a photo that is read.

    Photos that would become one file get longer names: with the ending of their file, or the name of their folder, or
    both, or a number.
    """
    taken = {_key(Path(os.path.realpath(path))) for path, _ in sources if path != STREAM}
    suffix = f"_{ending}{FORMATS[fmt].suffixes[0]}"
    room = NAME_LIMIT - len(os.fsencode(suffix))
    groups: dict[str, list[tuple[Path, Path]]] = {}
    for path, within in sources:
        groups.setdefault(_key(out / within / _stems(path)[0]), []).append((path, within))
    named: dict[Path, Path] = {}
    for group in groups.values():
        for stems in zip(*(_stems(path) for path, _ in group), strict=True):
            targets = [out / w / (shorten(n, room) + suffix) for n, (_, w) in zip(stems, group, strict=True)]
            keys = {_key(Path(os.path.realpath(t))) for t in targets}
            if len(keys) == len(targets) and not keys & taken:
                break
        else:  # more than a number can tell apart, or cut to one name
            targets = [t.with_name(f"{i}{suffix}") for i, t in enumerate(targets)]
            keys = {_key(Path(os.path.realpath(t))) for t in targets}
        taken |= keys
        named |= {path: target for (path, _), target in zip(group, targets, strict=True)}
    return [Job(path, named[path], fmt) for path, _ in sources]


def _stems(path: Path) -> list[str]:
    """Names for the result, the plain one first."""
    if path == STREAM:
        return ["stdin"] * 5
    folder, kind = path.resolve().parent.name, path.suffix[1:]
    number = zlib.crc32(os.fsencode(path.resolve())) % 10**6
    both = f"{folder}_{path.stem}_{kind}"
    return [path.stem, f"{path.stem}_{kind}", f"{folder}_{path.stem}", both, f"{path.stem}_{number:06}"]


def shorten(stem: str, limit: int) -> str:
    """As much of `stem` as fits into `limit` bytes, cut between characters."""
    while len(os.fsencode(stem)) > limit:
        stem = stem[:-1]
    return stem


def _key(path: Path) -> str:
    """Equal for names that are one file where the case of letters makes no difference."""
    return str(path).casefold()


def _check_targets(jobs: Sequence[Job]) -> None:
    read = {os.path.realpath(j.source) for j in jobs if j.source != STREAM}
    for target in (j.target for j in jobs if j.target != STREAM):
        if len(os.fsencode(target.name)) > NAME_LIMIT:
            raise UsageError(f"The name {target.name[:40]}... has more than {NAME_LIMIT} bytes: choose a shorter one.")
        if os.path.realpath(target) in read:
            raise UsageError(f"{target} is the photo itself: choose another --out.")


def _agreed(out: str, fmt: PhotoFormat | None) -> PhotoFormat:
    by_name = photo_format(out)
    assert by_name is not None
    if fmt and fmt != by_name:
        raise UsageError(
            f"--out {Path(out).name} is a {by_name.upper()} file and --format says {fmt}: give one of them."
        )
    return by_name


def _nothing(inputs: Sequence[Path], left_out: Counter[str]) -> str:
    text = Batch((), left_out=dict(left_out)).left_out_text()
    return f"No photos in {', '.join(map(str, inputs))}: expected {', '.join(suffixes())} files. {text}".strip()

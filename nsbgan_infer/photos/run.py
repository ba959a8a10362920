"""The work on a batch of photos: read, make, write, one after the other; what fails does not stop the others."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.errors import ImageFileError, WorkError
from nsbgan_infer.photos.batch import STREAM, Batch, Failure, Job
from nsbgan_infer.photos.enlarging import Tell, enlarge
from nsbgan_infer.photos.reading import MAX_PIXELS, Photo, open_photo
from nsbgan_infer.photos.resizing import Wish
from nsbgan_infer.photos.writing import check_size, encode_photo, lost_in
from nsbgan_infer.storage.files import write_bytes

STDIN_LIMIT = 1 << 30  # bytes

Make = Callable[[Photo, Tell], tuple[Photo, dict[str, float]]]  # a photo -> another one, and what was measured


@dataclass(frozen=True)
class Done:
    """A result: its job, width and height, and what was measured by name."""

    job: Job
    size: tuple[int, int]
    measured: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Work:
    """How the photos of a batch are made."""

    decoder: Decoder
    wish: Wish = field(default_factory=Wish)
    make: Make | None = None
    """Something else than to enlarge; its result has the size of the photo."""
    quality: int | None = None
    tile: int | None = None
    max_pixels: int = MAX_PIXELS
    say: Callable[[Path, str], None] = lambda _source, _note: None
    """Told what is worth knowing about a photo, while the work runs."""

    @property
    def scale(self) -> int:
        """By how much a photo grows where nothing is wished."""
        return 1 if self.make else self.decoder.info.scale

    def run(self, batch: Batch, tell: Callable[[float], None]) -> tuple[list[Done], list[Failure]]:
        """Make all photos; `tell` hears how many are done, as a fraction within one, and may raise to cancel.

        Raises the error itself where the batch is one photo.
        """
        done: list[Done] = []
        failed = list(batch.failures)
        for number, job in enumerate(batch.jobs):
            try:
                done.append(self.make_one(job, lambda i, n, number=number: tell(number + i / n)))  # type: ignore[misc]
            except (ImageFileError, WorkError) as error:
                if len(batch.jobs) + len(batch.failures) + len(batch.skipped) == 1:
                    raise
                failed.append(Failure(job.source, error))
                self.say(job.source, str(error))
            tell(number + 1)
        return done, failed

    def make_one(self, job: Job, tell: Tell) -> Done:
        """Make one photo and write it, whole or not at all."""
        photo = read_source(job.source, self.max_pixels)
        check_size(job.fmt, self.wish.size_of(photo.size, self.scale), str(job.source))
        stretched = self.wish.stretches(photo.size)
        for note in (*photo.notes, *lost_in(photo, job.fmt)):
            self.say(job.source, note)
        if stretched >= 0.005:
            self.say(job.source, f"the size changes its proportions by {stretched:.0%}")
        measured: dict[str, float] = {}
        if self.make:
            photo, measured = self.make(photo, tell)
        else:
            photo = enlarge(photo, self.decoder, self.wish, tile=self.tile, tell=tell)
        write_target(encode_photo(photo, job.fmt, quality=self.quality), job.target)
        return Done(job, photo.size, measured)


def read_source(source: Path, max_pixels: int = MAX_PIXELS, *, stream: BinaryIO | None = None) -> Photo:
    """The photo in a file, or in `stream` (default: standard input) for `STREAM`. Raises ImageFileError."""
    if source != STREAM:
        return open_photo(source, max_pixels=max_pixels)
    data = (stream or sys.stdin.buffer).read(STDIN_LIMIT + 1)
    if not data or len(data) > STDIN_LIMIT:
        what = f"holds more than {STDIN_LIMIT:,} bytes" if data else "holds no picture"
        raise ImageFileError(f"Standard input {what}: pipe one picture's file into it.")
    return open_photo(data, name="standard input", max_pixels=max_pixels)


def write_target(data: bytes, target: Path, *, stream: BinaryIO | None = None) -> None:
    """Write a file whole or not at all, or to `stream` (default: standard output) for `STREAM`. Raises WorkError."""
    try:
        if target == STREAM:
            out = stream or sys.stdout.buffer
            out.write(data)
            out.flush()
            return
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        where = "standard output" if target == STREAM else target.parent
        raise WorkError(f"Cannot write to {where}: {error.strerror or error}.") from error
    write_bytes(target, data)

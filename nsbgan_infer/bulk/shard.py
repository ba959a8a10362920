"""One shard of a bulk run: what is missing of it is made, encoded and written, and its journal kept.

The main thread runs the networks, a few threads encode, and one thread writes in the order of the plan, so the next
batch is made while the last one becomes PNG. The journal `.nsbgan/00000.jsonl.part` gets a line for an image after the
image is written, and loses its `.part` when the shard is whole.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from nsbgan_infer.bulk.journal import WORK, done_journal, open_journal, read_journal, replace_text
from nsbgan_infer.bulk.plan import Failure, Make, Plan, Progress
from nsbgan_infer.bulk.sinks import Encoded, Line, Pixels, Shard, open_shard, rows_file
from nsbgan_infer.errors import UsageError, WorkError
from nsbgan_infer.images import Recipe, to_uint8
from nsbgan_infer.pipeline import Request

MAX_FAILURES_IN_A_ROW = 3  # then the run stops: it is not the image that is wrong
QUEUE = 2  # batches that wait for the encoders and the writer


class ShardWorker:
    """Makes what is missing of one shard. `run` returns the images that failed."""

    def __init__(self, plan: Plan, folder: Path, number: int, make: Make, progress: Progress | None) -> None:
        self.plan, self.folder, self.number, self.make, self.progress = plan, folder, number, make, progress
        self.failures: list[Failure] = []
        self.in_a_row = 0
        self.pending: deque[Future[int]] = deque()
        self.written = number * plan.shard_size

    def run(self) -> list[Failure]:
        journal, begun = done_journal(self.folder, self.number), open_journal(self.folder, self.number)
        if journal.exists():
            if self._all_there(read_journal(journal)):
                self._report(len(self.plan.shard(self.number)))
                return []
            journal.replace(begun)
        self.shard: Shard = open_shard(self.plan.encoding, self.folder, self.folder / WORK, self.number)
        kept = self._intact(read_journal(begun))
        self.shard.keep(kept)
        replace_text(self.folder / WORK / f"journal-{self.number:05d}.part", begun, "".join(k.to_json() for k in kept))
        self._report(len(kept))
        with begun.open("a", encoding="utf-8") as self.lines:
            self._make_missing({line.index for line in kept})
        if self.failures:
            return self.failures
        self.shard.close()
        begun.replace(journal)
        return []

    def _make_missing(self, have: set[int]) -> None:
        encoders, writer = ThreadPoolExecutor(min(4, os.cpu_count() or 1)), ThreadPoolExecutor(1)
        try:
            for batch in self.plan.batches(self.number):
                if all(i in have for i in batch):
                    continue
                for indices, pixels, recipes in self._outputs(batch):
                    encoded = [
                        encoders.submit(self._encode, index, pixels[k], recipes[k] if recipes else None)
                        for k, index in enumerate(indices)
                        if index not in have
                    ]
                    self.pending.append(writer.submit(self._write, encoded))
                    while len(self.pending) >= QUEUE:
                        self._report(self.pending.popleft().result())
            while self.pending:
                self._report(self.pending.popleft().result())
        finally:
            writer.shutdown(cancel_futures=True)
            encoders.shutdown(cancel_futures=True)

    def _outputs(self, batch: range) -> Iterator[tuple[range, Pixels, Sequence[Recipe]]]:
        """The batch as a whole; where that fails, each of its images alone, so that one harms no other."""
        try:
            output = self.make([self.plan.request(i) for i in batch])
            yield batch, to_uint8(output.tensors), output.recipes
            self.in_a_row = 0
        except UsageError:
            raise
        except Exception as error:
            if len(batch) > 1:
                for index in batch:
                    yield from self._outputs(range(index, index + 1))
                return
            failure = Failure(batch[0], self.plan.request(batch[0]), _sentence(error))
            self.failures.append(failure)
            self.in_a_row += 1
            if self.in_a_row >= MAX_FAILURES_IN_A_ROW:
                raise WorkError(
                    f"{self.in_a_row} images in a row failed, last {failure} What is written is intact: repeat the "
                    "command with --resume once the cause is gone."
                ) from error

    def _encode(self, index: int, pixels: Pixels, recipe: Recipe | None) -> Encoded:
        """In an encoder thread."""
        request = self.plan.request(index)
        return self.plan.encoding.encode(index, request.class_id, request.seed, pixels, recipe)

    def _write(self, images: Sequence[Future[Encoded]]) -> int:
        """In the writer thread: the images of one batch, then their lines in one go."""
        lines = [self.shard.add(image.result()) for image in images]
        self.lines.write("".join(line.to_json() for line in lines))
        self.lines.flush()
        return len(lines)

    def _report(self, images: int) -> None:
        self.written += images
        if self.progress:
            self.progress(self.written, self.plan.count)

    def _all_there(self, lines: Sequence[Line]) -> bool:
        """Whether a shard that was finished has its files still, by name and size."""
        if self.plan.encoding.sink == "npz":
            ends = max(line.offset + line.size for line in lines)
            part = rows_file(self.folder / WORK, self.number)
            return part.exists() and part.stat().st_size >= ends
        sizes: dict[str, int] = {}
        for line in lines:
            file = self.folder / line.file
            if line.file not in sizes:
                sizes = {line.file: file.stat().st_size if file.exists() else -1}
            if sizes[line.file] < line.offset + line.size:
                return False
        return True

    def _intact(self, lines: Sequence[Line]) -> list[Line]:
        """Those lines, up to the first other one for appended files, whose bytes have their hash."""
        wanted, kept = set(self.plan.shard(self.number)), []
        for line in lines:
            if line.index in wanted and self.plan.request(line.index) == Request(line.class_id, line.seed):
                if _hash(self.shard.locate(line), line.offset, line.size) == line.sha256:
                    wanted.remove(line.index)
                    kept.append(line)
                elif self.plan.encoding.sink != "folder":
                    break
        return kept


def _hash(file: Path, offset: int, size: int) -> str | None:
    try:
        with file.open("rb") as f:
            f.seek(offset)
            return hashlib.sha256(f.read(size)).hexdigest()
    except OSError:
        return None


def _sentence(error: Exception) -> str:
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text if text.endswith(".") else text + "."

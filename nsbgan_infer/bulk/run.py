"""Bulk generation: a plan of (index, class, seed), cut into shards that depend on nothing but the plan.

A run writes `plan.json` first and `manifest.jsonl` (a line an image: index, class, seed, file, offset, size, sha256)
last. Between the two, each shard keeps a journal of its lines in the folder `.nsbgan`; a resumed run reads it, drops
what is torn, and makes the batches that are missing. Batches are cut by the plan, never by where a run stopped, so a
run that was killed and resumed ends byte-identical to one that was not. The network makes the next batch while
threads encode the last one and one thread writes.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from nsbgan_infer.bulk.journal import WORK, done_journal, open_journal, read_journal, replace_text
from nsbgan_infer.bulk.plan import Failure, Make, Plan, Progress
from nsbgan_infer.bulk.shard import ShardWorker
from nsbgan_infer.bulk.sinks import Line, write_npz
from nsbgan_infer.errors import UsageError, WorkError
from nsbgan_infer.storage.files import read_json, writable_folder

PLAN, MANIFEST, LOCK = "plan.json", "manifest.jsonl", ".nsbgan.lock"
T = TypeVar("T")


def run(plan: Plan, folder: Path, make: Make, *, resume: bool = False, progress: Progress | None = None) -> None:
    """Make every image of `plan` into `folder`, in this process.

    Raises UsageError before any work (unwritable folder; a run is there already, or one with another plan) and
    WorkError with one sentence when something fails during it; what is written stays and can be resumed.
    """
    with sole_run(folder):
        if prepare(plan, folder, resume=resume):
            return
        failures: list[Failure] = []
        for number in plan.shards:
            failures += run_shard(plan, folder, number, make, progress=progress)
        finish(plan, folder, failures)


@contextmanager
def sole_run(folder: Path) -> Iterator[None]:
    """Hold `folder` against another process that would make the same run. The system lets go of it when a process
    dies, so a killed run can be resumed at once. Raises UsageError where another one is at it, or for a folder that
    cannot be written.
    """
    from filelock import FileLock, Timeout

    writable_folder(folder)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UsageError(f"Another process is making the run in {folder}: wait for its end, or stop it.") from None
    try:
        yield
    finally:
        if os.name == "posix":  # elsewhere filelock removes it itself, and an open file cannot be removed
            (folder / LOCK).unlink(missing_ok=True)
        lock.release()


def prepare(plan: Plan, folder: Path, *, resume: bool) -> bool:
    """Write `plan.json`, or compare it with the one that is there. True if the run is finished already.

    Raises UsageError for a folder that cannot be written, a run that is there without `resume`, or another plan.
    """
    writable_folder(folder)
    file = folder / PLAN
    if not file.exists():
        work = folder / WORK
        _guard(lambda: work.mkdir(exist_ok=True), folder)
        _guard(lambda: replace_text(work / f"{PLAN}.part", file, json.dumps(plan.to_dict(), indent=2) + "\n"), folder)
        return False
    if not resume:
        raise UsageError(f"{folder} holds a run already: add --resume to resume it, or choose another folder.")
    check_same(read_json(file, limit=16 << 20), plan.to_dict(), folder)
    if (folder / MANIFEST).exists():
        shutil.rmtree(folder / WORK, ignore_errors=True)
        return True
    (folder / WORK).mkdir(exist_ok=True)
    return False


def check_same(old: Mapping[str, Any], new: Mapping[str, Any], folder: Path) -> None:
    """Raise UsageError naming the first setting in which the run in `folder` differs from the one asked for."""
    for key in sorted(old.keys() | new.keys()):
        before, now = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(now, dict):
            check_same(before, now, folder)
        elif before != now:
            raise UsageError(
                f"{folder} holds a run with {key} {_short(before)}, not {_short(now)}: "
                "resume it with its own options, or choose another folder."
            )


def run_shard(plan: Plan, folder: Path, number: int, make: Make, *, progress: Progress | None = None) -> list[Failure]:
    """Make what is missing of one shard; returns the images that failed. `prepare` must have been called.

    Raises WorkError when nothing can be written, or when one image after the other fails.
    """
    return _guard(lambda: ShardWorker(plan, folder, number, make, progress).run(), folder)


def finish(plan: Plan, folder: Path, failures: Sequence[Failure] = ()) -> None:
    """Join the journals to `manifest.jsonl` once every shard is done. Raises WorkError if `failures` is not empty."""
    if failures:
        raise WorkError(
            f"{len(failures)} of {plan.count} images could not be made, first {failures[0]} "
            f"The others are in {folder}: repeat the command with --resume to try the missing ones again."
        )
    _guard(lambda: _join(plan, folder), folder)


def done(plan: Plan, folder: Path) -> int:
    """How many images of a run the manifest or the journals name."""
    if (folder / MANIFEST).exists():
        return plan.count
    return sum(done_in(folder, number) for number in plan.shards)


def done_in(folder: Path, number: int) -> int:
    """How many images of one shard its journal names."""
    return len(read_journal(done_journal(folder, number)) or read_journal(open_journal(folder, number)))


def _join(plan: Plan, folder: Path) -> None:
    work = folder / WORK

    def shards() -> Iterable[tuple[int, list[Line]]]:
        for number in plan.shards:
            yield number, sorted(read_journal(done_journal(folder, number)), key=lambda line: line.index)

    start: int | None = None
    if plan.encoding.sink == "npz":
        labelled = plan.classes[0] is not None
        start = write_npz(folder, work, shards(), count=plan.count, side=plan.resolution, labelled=labelled)
    part = work / f"{MANIFEST}.part"
    with part.open("w", encoding="utf-8") as out:
        for _number, lines in shards():
            for line in lines:
                joined = line if start is None else replace(line, offset=start + line.index * line.size)
                out.write(joined.to_json())
    part.replace(folder / MANIFEST)
    shutil.rmtree(work)


def _guard(work: Callable[[], T], folder: Path) -> T:
    """`work`'s result; an OSError during it becomes one sentence."""
    try:
        return work()
    except OSError as error:
        raise WorkError(
            f"Cannot write to {folder}: {error.strerror or error}. What is written is intact: repeat the command with "
            "--resume once there is room."
        ) from error


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."

"""A tiny bulk run, and child processes that run it: killed at a given line of our code, or watched for memory."""

from __future__ import annotations

import hashlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from forked import fork_server

from nsbgan_infer.bulk import run as runs
from nsbgan_infer.bulk.plan import Plan
from nsbgan_infer.bulk.sinks import Encoding, SinkName
from nsbgan_infer.diagnostics.bench import peak_memory
from nsbgan_infer.images import Recipe
from nsbgan_infer.pipeline import Output, Request

SIDE = 8


def picture(request: Request, batch: int) -> torch.Tensor:
    """A picture that tells class, seed and the size of the batch it was made in apart."""
    generator = torch.Generator().manual_seed(1000 * request.seed + 7 * (request.class_id or 0) + batch)
    return torch.rand(3, SIDE, SIDE, generator=generator)


def make(requests: Sequence[Request]) -> Output:
    tensors = torch.stack([picture(r, len(requests)) for r in requests])
    recipes = tuple(
        Recipe("tiny", "tiny", (), SIDE, r.class_id, r.seed, 1.0, "scale", "cpu", "fp32", len(requests))
        for r in requests
    )
    return Output(tensors, tuple(requests), recipes)


def plan_of(sink: SinkName = "folder", **changes: Any) -> Plan:
    values: dict[str, Any] = {"classes": (207, 1, 5), "count": 30, "resolution": SIDE, "batch_size": 4}
    return Plan(**{**values, "shard_size": 12, "encoding": Encoding(sink), **changes})


def tree(folder: Path) -> dict[str, str]:
    """Every file of a folder, hidden ones too, with its hash."""
    files = (p for p in folder.rglob("*") if p.is_file())
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def killed_at(line: int, plan: Plan, folder: Path) -> None:
    """In a child process: run, and die by SIGKILL when `line` lines of our code have run, in whatever thread."""
    torch.set_num_threads(1)
    left = [line]

    def trace(frame: FrameType, event: str, _arg: object) -> Any:
        if not frame.f_code.co_filename.endswith(
            ("bulk/run.py", "bulk/plan.py", "bulk/sinks.py", "bulk/shard.py", "bulk/journal.py")
        ):
            return None
        if event == "line":
            left[0] -= 1
            if left[0] <= 0:
                os.kill(os.getpid(), signal.SIGKILL)
        return trace

    if line:
        threading.settrace(trace)
        sys.settrace(trace)
    runs.run(plan, folder, make, resume=True)


def child(line: int, plan: Plan, folder: Path) -> int | None:
    process = fork_server().Process(target=killed_at, args=(line, plan, folder))
    process.start()
    process.join()
    return process.exitcode


def measure_memory(folder: Path, answers: Any) -> None:
    torch.set_num_threads(1)
    peaks: dict[int, float] = {}

    def note(done: int, _total: int) -> None:
        peaks[done] = peak_memory()

    plan = Plan((1,), 10_000, SIDE, batch_size=50, encoding=Encoding("npz"))
    runs.run(plan, folder, make, progress=note)
    answers.put((peaks[1000], peak_memory()))


def measured_memory(folder: Path) -> tuple[float, float]:
    """The peak memory (MiB) of a process after 1,000 and after 10,000 images."""
    context = fork_server()
    answers = context.SimpleQueue()
    process = context.Process(target=measure_memory, args=(folder, answers))
    process.start()
    process.join()
    peaks: tuple[int, int] = answers.get()
    return peaks

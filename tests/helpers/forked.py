"""Programs in processes of their own that start at once: forked from a server that has imported torch and our trainers.

The process of the tests is not forked itself: after all its native threads that would be a risk.
"""

from __future__ import annotations

import multiprocessing
import os
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

PRELOAD = [
    "pytest",
    "accelerate",
    "nsbgan_infer.bulk.run",
    "nsbgan_infer.cli.train",
    "nsbgan_infer.diagnostics.bench",
    "nsbgan_infer.training.decoders.l1",
    "nsbgan_infer.training.decoders.unet",
    "nsbgan_infer.training.samplers.biggan",
]
COMMAND = "from nsbgan_infer.cli.main import run; run()"


def fork_server() -> ForkServerContext:
    """The one server of this process; what it preloads is settled when it first starts."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    return context


@dataclass
class Forked:
    """A program in text that runs with `arguments`, in this process's folder and environment or another one."""

    program: str
    arguments: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def __post_init__(self) -> None:
        handle, name = tempfile.mkstemp(suffix=".stderr")
        os.close(handle)
        self.told = Path(name)
        given = (self.program, self.arguments, dict(self.environment), str(Path.cwd()), name)
        self.running: BaseProcess = fork_server().Process(target=_work, args=given)
        self.running.start()

    def end(self, seconds: float = 180) -> tuple[int | None, str]:
        """Its exit code, None where it had to be killed after so many seconds, and what it wrote to stderr."""
        self.running.join(seconds)
        code = self.running.exitcode
        if code is None:
            self.running.kill()
            self.running.join()
        said = self.told.read_text("utf-8", "replace")
        self.told.unlink()
        return code, said


def run_ranks(program: str, *arguments: str, ranks: int = 2) -> None:
    """Run a program as the processes of one gloo group, and fail with what they say unless all end well."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    environment = {**os.environ, **group, "ACCELERATE_USE_CPU": "true"}
    processes = [
        Forked(program, arguments, {**environment, "RANK": str(r), "LOCAL_RANK": str(r)}) for r in range(ranks)
    ]
    ended = [p.end() for p in processes]
    assert [code for code, _ in ended] == [0] * ranks, ended


def run_alone(program: str, *arguments: str) -> None:
    """Run a program as one process without a group, and fail with what it says unless it ends well."""
    code, said = Forked(program, arguments).end()
    assert code == 0, said


def _work(
    program: str, arguments: tuple[str, ...], environment: dict[str, str], folder: str, standard_error: str
) -> None:
    """In the child process."""
    with Path(standard_error).open("w") as file:
        os.dup2(file.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    torch.set_num_threads(1)
    sys.argv[:] = ["nsbgan", *arguments]
    exec(compile(program, "<program>", "exec"), {"__name__": "__main__"})

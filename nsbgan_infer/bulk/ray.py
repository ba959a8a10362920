"""The shards of a bulk run on Ray actors, on this machine or on many that share the output folder.

Each actor loads the models once and makes one shard after the other. An actor that dies is started again and its shard
resumes from its journal, so the result is that of one process with the same plan.
"""

from __future__ import annotations

import platform
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from nsbgan_infer.bulk.cluster import cluster, import_ray
from nsbgan_infer.bulk.plan import Failure, Make, Plan, Progress
from nsbgan_infer.bulk.run import done_in, finish, prepare, run_shard, sole_run
from nsbgan_infer.errors import NsbError, WorkError

POLL = 2.0  # seconds between two looks at the journals


def run_on_ray(
    plan: Plan,
    folder: Path,
    factory: Callable[[], Make],
    *,
    workers: int = 2,
    address: str | None = None,
    gpus: float = 0,
    resume: bool = False,
    progress: Progress | None = None,
) -> None:
    """`run.run`, its shards made by `workers` actors; each calls `factory` once, and may use `gpus` GPUs.

    `address` is that of a running cluster (`auto`, `host:port`, `ray://host:port`); None means RAY_ADDRESS, or Ray on
    this machine where that is not set. `folder` must be the same place on every machine. Actors use as many threads as
    torch does here. Raises what `run.run` and `cluster` raise, and MissingExtraError where Ray is not installed.
    """
    ray = import_ray()
    with sole_run(folder):
        if prepare(plan, folder, resume=resume):
            return
        with cluster(ray, address, workers):
            failures = _make_shards(ray, plan, folder.absolute(), factory, workers, gpus, progress)
        finish(plan, folder, failures)


class Worker:
    """What an actor does. What its machine lacks (weights, an extra) is told with the first shard, and where."""

    def __init__(self, factory: Callable[[], Make], threads: int) -> None:
        torch.set_num_threads(threads)
        self.problem: NsbError | None = None
        try:
            self.make = factory()
        except NsbError as error:
            self.problem = error

    def shard(self, plan: Plan, folder: str, number: int) -> list[Failure]:
        """Make what is missing of one shard."""
        if self.problem is not None:
            raise type(self.problem)(f"On the machine {platform.node()}: {self.problem}")
        return run_shard(plan, Path(folder), number, self.make)


def _make_shards(
    ray: Any,
    plan: Plan,
    folder: Path,
    factory: Callable[[], Make],
    workers: int,
    gpus: float,
    progress: Progress | None,
) -> list[Failure]:
    actor = ray.remote(num_cpus=1, num_gpus=gpus, max_restarts=-1, max_task_retries=-1)(Worker)
    idle = [actor.remote(factory, torch.get_num_threads()) for _ in range(min(workers, len(plan.shards)))]
    waiting, failures = deque(plan.shards), list[Failure]()
    running: dict[Any, tuple[Any, int]] = {}
    ended = 0  # images of shards that are through
    while waiting or running:
        while waiting and idle:
            worker, number = idle.pop(), waiting.popleft()
            running[worker.shard.remote(plan, str(folder), number)] = (worker, number)
        ready, _ = ray.wait(list(running), timeout=POLL)
        for result in ready:
            worker, number = running.pop(result)
            idle.append(worker)
            failures += _answer(ray, result)
            ended += done_in(folder, number)
        if progress:  # only the journals of running shards are read: a plan may have 50,000 others
            progress(ended + sum(done_in(folder, number) for _, number in running.values()), plan.count)
    return failures


def _answer(ray: Any, result: Any) -> list[Failure]:
    try:
        failures: list[Failure] = ray.get(result)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, NsbError):
            raise error.cause from None
        raise WorkError(f"A shard failed: {error.cause!r}. Repeat the command with --resume.") from error
    except ray.exceptions.RayActorError as error:
        cause = str(error).strip().splitlines()[-1]
        raise WorkError(f"A worker could not start or stay alive: {cause}") from error
    return failures

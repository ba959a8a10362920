"""The queue of the service: requests wait in it, and those that can be made together leave it as one batch.

Requests come from an event loop, batches are made in threads of their own. A request that was given up (its sender has
gone, its time is over) leaves the queue at once, and work on a batch ends once all its requests are given up.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from nsbgan_infer.errors import WorkError

GivenUp = Callable[[], bool]
Work = Callable[[Sequence[Any], GivenUp], Sequence[Any]]  # tasks of one key -> a result or an exception for each
SMOOTHING = 0.2  # of the seconds that a request takes, for Retry-After


class BusyError(WorkError):
    """The queue is full; `retry_after` says in how many seconds there should be room."""

    def __init__(self, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StoppingError(WorkError):
    """The service ends and takes on nothing more."""


class TooLateError(WorkError):
    """A request's time was over before it was done."""


@dataclass(eq=False)
class _Job:
    key: Hashable
    task: Any
    future: Future[Any] = field(default_factory=Future)
    given_up: bool = False


class Batcher:
    """`work` is called in one of `threads` threads with up to `batch` tasks of one key, oldest first.

    `seen` is told the size of each batch and its seconds.
    """

    def __init__(
        self,
        work: Work,
        *,
        queue: int,
        batch: int,
        threads: int = 1,
        seen: Callable[[int, float], None] | None = None,
    ) -> None:
        self.work, self.limit, self.batch, self.threads = work, queue, batch, threads
        self.seen = seen
        self.running = 0
        self.held = 0  # requests whose photo is arriving
        self.seconds = 0.0  # that one request takes, a moving mean
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._stopping = False
        self._workers = [threading.Thread(target=self._serve, daemon=True, name="pictures") for _ in range(threads)]
        for worker in self._workers:
            worker.start()

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def stopping(self) -> bool:
        """Whether it takes on nothing more."""
        return self._stopping

    async def submit(self, key: Hashable, task: Any, *, seconds: float) -> Any:
        """What becomes of `task`, together with others of its `key`.

        Raises BusyError, StoppingError, TooLateError after `seconds`, and what `work` returned or raised as an
        exception. A caller who is cancelled gives the request up.
        """
        job = _Job(key, task)
        with self._changed:
            self._check_room()
            self._waiting.append(job)
            self._changed.notify()
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job.future), seconds)
        except TimeoutError as error:
            if job.future.done() and not job.future.cancelled():
                raise  # the work's own
            raise TooLateError(f"The request was not done within {seconds:g} s and is given up.") from error
        finally:
            self._give_up(job)

    @contextmanager
    def arriving(self) -> Iterator[None]:
        """Around the arrival of something large: as many may arrive as may wait, and none where the queue is full.

        Raises BusyError and StoppingError.
        """
        with self._changed:
            self._check_room()
            if self.held >= self.limit:
                again = self._retry_after()
                raise BusyError(f"{self.limit} photos are arriving: try again in {again} s.", again)
            self.held += 1
        try:
            yield
        finally:
            with self._changed:
                self.held -= 1

    def close(self, seconds: float = 30.0) -> None:
        """Take on nothing more, finish what waits for at most `seconds`, and give up the rest."""
        end = time.monotonic() + seconds
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for worker in self._workers:
            worker.join(max(0.0, end - time.monotonic()))
        with self._changed:
            left = list(self._waiting)
            self._waiting.clear()
        for job in left:
            job.given_up = True
            job.future.cancel()

    def _check_room(self) -> None:
        """Raise StoppingError or BusyError where nothing more is taken on."""
        if self._stopping:
            raise StoppingError("The service is stopping: ask another one, or later.")
        if len(self._waiting) >= self.limit:
            again = self._retry_after()
            raise BusyError(f"{self.limit} requests are waiting: try again in {again} s.", again)

    def _retry_after(self) -> int:
        return max(1, math.ceil(self.seconds * (len(self._waiting) + self.running) / self.threads))

    def _give_up(self, job: _Job) -> None:
        job.given_up = True
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)

    def _next(self) -> list[_Job]:
        """The oldest request and those that can be made with it; empty at the end."""
        with self._changed:
            while not self._waiting:
                if self._stopping:
                    return []
                self._changed.wait()
            key = self._waiting[0].key
            jobs = [job for job in self._waiting if job.key == key][: self.batch]
            for job in jobs:
                self._waiting.remove(job)
            self.running += len(jobs)
            return jobs

    def _serve(self) -> None:
        while jobs := self._next():
            begun = time.perf_counter()
            try:
                self._make([job for job in jobs if job.future.set_running_or_notify_cancel()])
            finally:
                took = time.perf_counter() - begun
                with self._changed:
                    self.running -= len(jobs)
                    each = took / len(jobs)
                    self.seconds = each if not self.seconds else (1 - SMOOTHING) * self.seconds + SMOOTHING * each
                if self.seen:
                    self.seen(len(jobs), took)

    def _make(self, jobs: Sequence[_Job]) -> None:
        if not jobs:
            return
        try:
            results = self.work([job.task for job in jobs], lambda: all(job.given_up for job in jobs))
        except BaseException as error:  # whatever it is, those who wait are told
            results = [error] * len(jobs)
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, BaseException):
                job.future.set_exception(result)
            else:
                job.future.set_result(result)

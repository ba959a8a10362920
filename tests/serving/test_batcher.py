"""The service's queue: batches of what waits together, a limit, deadlines, requests that are given up, an end."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from nsbgan_infer.errors import UsageError
from nsbgan_infer.serving.batcher import Batcher, BusyError, StoppingError, TooLateError


class Gated:
    """Work that waits for `open` before each batch and notes the batches; tasks are doubled."""

    def __init__(self) -> None:
        self.open, self.begun = threading.Semaphore(0), threading.Semaphore(0)
        self.batches: list[list[Any]] = []
        self.ended_early = False

    def __call__(self, tasks: Sequence[Any], given_up: Callable[[], bool]) -> list[Any]:
        self.batches.append(list(tasks))
        self.begun.release()
        self.open.acquire(timeout=20)
        self.ended_early = given_up()
        return [UsageError("no") if task == "bad" else task * 2 for task in tasks]


@pytest.fixture
def gated() -> Gated:
    return Gated()


@pytest.fixture
def batcher(gated: Gated) -> Iterator[Batcher]:
    made = Batcher(gated, queue=4, batch=3)
    yield made
    gated.open.release(100)
    made.close(5)


async def begin(batcher: Batcher, gated: Gated, *tasks: Any, key: str = "a") -> list[asyncio.Task[Any]]:
    """Submit tasks one after the other; the first is under way when this returns."""
    jobs = []
    for task in tasks:
        jobs.append(asyncio.ensure_future(batcher.submit(key, task, seconds=20)))
        await asyncio.sleep(0)
        if task == tasks[0]:
            await asyncio.to_thread(gated.begun.acquire, timeout=20)
    return jobs


def test_what_waits_together_is_made_together(batcher: Batcher, gated: Gated) -> None:
    async def work() -> list[int]:
        jobs = await begin(batcher, gated, 1, 2, 3)
        jobs.insert(1, asyncio.ensure_future(batcher.submit("b", 10, seconds=20)))
        jobs.append(asyncio.ensure_future(batcher.submit("a", 4, seconds=20)))
        await asyncio.sleep(0)
        gated.open.release(100)
        return await asyncio.gather(*jobs)

    assert asyncio.run(work()) == [2, 20, 4, 6, 8]
    assert gated.batches == [[1], [2, 3, 4], [10]]


def test_a_batch_is_no_larger_than_its_limit_and_oldest_first(batcher: Batcher, gated: Gated) -> None:
    async def work() -> list[int]:
        jobs = await begin(batcher, gated, 1, 2, 3, 4, 5)
        gated.open.release(100)
        return await asyncio.gather(*jobs)

    assert asyncio.run(work()) == [2, 4, 6, 8, 10]
    assert gated.batches == [[1], [2, 3, 4], [5]]


def test_a_full_queue_says_when_to_come_back(batcher: Batcher, gated: Gated) -> None:
    async def work() -> None:
        jobs = await begin(batcher, gated, 1, 2, 3, 4, 5)
        assert (batcher.waiting, batcher.running) == (4, 1)
        batcher.seconds = 1.5
        with pytest.raises(BusyError, match="4 requests are waiting: try again in 8 s") as raised:
            await batcher.submit("a", 6, seconds=20)
        assert raised.value.retry_after == 8  # 1.5 s for each of five
        gated.open.release(100)
        await asyncio.gather(*jobs)
        assert batcher.waiting == 0

    asyncio.run(work())


def test_one_bad_task_fails_alone(batcher: Batcher, gated: Gated) -> None:
    async def work() -> list[Any]:
        jobs = await begin(batcher, gated, 1, "bad", 3)
        gated.open.release(100)
        return await asyncio.gather(*jobs, return_exceptions=True)

    one, bad, three = asyncio.run(work())
    assert (one, three) == (2, 6) and isinstance(bad, UsageError)


def test_work_that_raises_is_told_to_all_of_its_batch_and_the_next_goes_on() -> None:
    def work(tasks: Sequence[Any], _given_up: object) -> Sequence[Any]:
        if 0 in tasks:
            raise ZeroDivisionError
        return tasks

    batcher = Batcher(work, queue=4, batch=1)
    with pytest.raises(ZeroDivisionError):
        asyncio.run(batcher.submit("a", 0, seconds=20))
    assert asyncio.run(batcher.submit("a", 1, seconds=20)) == 1
    batcher.close()


def test_a_request_that_is_late_leaves_the_queue_and_the_work(batcher: Batcher, gated: Gated) -> None:
    async def work() -> None:
        running = asyncio.ensure_future(batcher.submit("a", 1, seconds=0.05))
        await asyncio.to_thread(gated.begun.acquire, timeout=20)
        with pytest.raises(TooLateError, match=r"not done within 0\.05 s"):
            await batcher.submit("a", 2, seconds=0.05)
        assert batcher.waiting == 0
        with pytest.raises(TooLateError):
            await running
        gated.open.release(100)

    asyncio.run(work())
    batcher.close(5)
    assert gated.batches == [[1]] and gated.ended_early


def test_a_caller_who_goes_gives_the_request_up(batcher: Batcher, gated: Gated) -> None:
    async def work() -> None:
        jobs = await begin(batcher, gated, 1, 2, 3)
        jobs[1].cancel()
        await asyncio.gather(jobs[1], return_exceptions=True)
        assert batcher.waiting == 1
        gated.open.release(100)
        assert await jobs[2] == 6

    asyncio.run(work())
    assert gated.batches == [[1], [3]]


def test_at_the_end_what_waits_is_finished_and_nothing_more_taken(batcher: Batcher, gated: Gated) -> None:
    async def work() -> None:
        jobs = await begin(batcher, gated, 1, 2)
        closing = asyncio.ensure_future(asyncio.to_thread(batcher.close, 20))
        while not batcher.stopping:
            await asyncio.sleep(0.01)
        with pytest.raises(StoppingError):
            await batcher.submit("a", 3, seconds=20)
        gated.open.release(100)
        assert await asyncio.gather(*jobs) == [2, 4]
        await closing

    asyncio.run(work())


def test_several_threads_work_at_the_same_time() -> None:
    both = threading.Barrier(2, timeout=20)

    def work(tasks: Sequence[Any], _given_up: object) -> Sequence[Any]:
        both.wait()
        return tasks

    batcher = Batcher(work, queue=4, batch=1, threads=2)

    async def ask() -> list[Any]:
        return await asyncio.gather(*(batcher.submit("a", i, seconds=20) for i in (1, 2)))

    assert asyncio.run(ask()) == [1, 2]
    batcher.close()

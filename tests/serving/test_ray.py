"""Replicas: a batch goes to another one where one dies, and on Ray no accepted request is lost with a replica."""

from __future__ import annotations

import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from nsbgan_infer.errors import MissingExtraError, UsageError, WorkError
from nsbgan_infer.serving.making import GivenUpError
from nsbgan_infer.serving.ray import TRIES, Replica, ask_replicas, replicas_on_ray
from nsbgan_infer.storage import hub

HELPERS = str(Path(__file__).resolve().parents[1] / "helpers")


class Response:
    """What a replica answers: a result, an exception, or silence."""

    def __init__(self, answer: Any) -> None:
        self.answer, self.cancelled = answer, False

    def result(self, timeout_s: float) -> Any:
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def cancel(self) -> None:
        self.cancelled = True


class Handle:
    """Answers one after the other."""

    def __init__(self, *answers: Any) -> None:
        self.responses = [Response(answer) for answer in answers]
        self.asked = 0

    def remote(self, _tasks: object) -> Response:
        self.asked += 1
        return self.responses[self.asked - 1]


def test_a_batch_goes_to_another_replica_where_one_dies() -> None:
    ray = pytest.importorskip("ray", reason="replicas need the extra serve-ray")
    dead = ray.exceptions.RayActorError
    handle = Handle(dead(), dead(), ["made"])
    assert ask_replicas(ray, handle, ["task"], lambda: False) == ["made"] and handle.asked == 3
    with pytest.raises(WorkError, match=f"{TRIES} replicas died on this request"):
        ask_replicas(ray, Handle(*(dead() for _ in range(TRIES))), ["task"], lambda: False)


def test_what_is_wrong_with_a_task_is_not_tried_again() -> None:
    ray = pytest.importorskip("ray", reason="replicas need the extra serve-ray")
    handle = Handle(ray.exceptions.RayTaskError("f", "trace", UsageError("no such class")))
    with pytest.raises(UsageError, match="no such class"):
        ask_replicas(ray, handle, ["task"], lambda: False)
    assert handle.asked == 1


def test_a_batch_that_nobody_waits_for_is_cancelled() -> None:
    ray = pytest.importorskip("ray", reason="replicas need the extra serve-ray")
    handle, given_up = Handle(TimeoutError()), iter([False, True])
    with pytest.raises(GivenUpError):
        ask_replicas(ray, handle, ["task"], lambda: next(given_up))
    assert handle.responses[0].cancelled


def test_what_is_given_up_is_asked_of_no_other_replica() -> None:
    ray = pytest.importorskip("ray", reason="replicas need the extra serve-ray")
    handle, given_up = Handle(ray.exceptions.RayActorError(), ["made"]), iter([False, True])
    with pytest.raises(GivenUpError):
        ask_replicas(ray, handle, ["task"], lambda: next(given_up))
    assert handle.asked == 1


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"nsbgan-infer\[serve-ray\]"), replicas_on_ray(["embedded"]):
        pass


def test_a_replica_loads_its_pipelines_once_and_refuses_the_network_from_then_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hub, "_offline", False)
    from tiny_service import HeldMaker, tiny_offers

    from nsbgan_infer.serving.schemas import GenerateBody

    replica = Replica(HeldMaker, ["tiny"], 1)
    assert replica.maker.pipeline.cache_info().currsize == 1
    task = tiny_offers(replica.maker).task(GenerateBody.model_validate({"class": 207}))
    assert [made.recipe.class_id for made in replica([task, task])] == [207, 207]
    assert hub.is_offline()


@pytest.mark.slow  # starting Ray Serve takes a minute of two cores, and fails where they are busy
def test_a_killed_replica_loses_no_accepted_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray.serve", reason="replicas need the extra serve-ray")
    from loopback import Asked
    from ray_factories import slow_maker
    from tiny_service import HeldMaker, tiny_offers

    from nsbgan_infer.serving.http import build_service
    from nsbgan_infer.serving.limits import Limits
    from nsbgan_infer.serving.server import serve_in_thread

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([HELPERS, *filter(None, [os.environ.get("PYTHONPATH")])]))
    make: Callable[[], Any] = functools.partial(slow_maker, tmp_path)
    with replicas_on_ray(["tiny"], least=1, most=2, make=make) as work:
        app = build_service(tiny_offers(HeldMaker()), work, limits=Limits(queue=64, batch=2, seconds=300), threads=2)
        with serve_in_thread(app, first=18_600) as address, ThreadPoolExecutor(12) as pool:
            asked = Asked(address)
            answers = [pool.submit(asked.post, {"class": 207, "seed": seed}) for seed in range(12)]
            killer = threading.Thread(target=_kill_one, args=(tmp_path,))
            killer.start()
            results = [answer.result(300) for answer in answers]
            killer.join()
    assert [status for status, _, _ in results] == [200] * 12
    assert (tmp_path / "killed").exists()
    assert len({body for _, _, body in results}) == 12
    assert len({note.name.split("-")[0] for note in tmp_path.glob("*-*")}) >= 2  # another process took over


def _kill_one(notes: Path) -> None:
    """Kill the first replica that works, in the middle of a batch."""
    while not (begun := list(notes.glob("*-*"))):
        time.sleep(0.05)
    os.kill(int(begun[0].name.split("-")[0]), signal.SIGKILL)
    (notes / "killed").touch()

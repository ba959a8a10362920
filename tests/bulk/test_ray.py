"""Shards on Ray: the same bytes as one process, also when an actor is killed."""

from __future__ import annotations

import functools
import os
import platform
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from bulk import make, plan_of, tree
from ray_factories import LARGE, broken, dying, failing, large, plain

from nsbgan_infer.bulk import run as runs
from nsbgan_infer.bulk.pipelines import PipelineFactory
from nsbgan_infer.bulk.ray import Worker, run_on_ray
from nsbgan_infer.errors import CheckpointError, MissingExtraError, UsageError, WorkError

STORE = 200 << 20  # bytes of Ray's object store
HELPERS = str(Path(__file__).resolve().parents[1] / "helpers")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """One local Ray for all tests; its workers find the test helpers."""
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = HELPERS  # inherited by the workers
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=STORE,
        _node_ip_address="127.0.0.1",
    )
    yield ray
    ray.shutdown()
    if before is None:
        del os.environ["PYTHONPATH"]
    else:
        os.environ["PYTHONPATH"] = before


@pytest.mark.slow  # starting Ray takes half a minute of two cores, and fails where they are busy
@pytest.mark.usefixtures("cluster")
def test_two_actors_make_what_one_process_makes(tmp_path: Path) -> None:
    plan = plan_of("tar")
    runs.run(plan, tmp_path / "one", make)
    seen: list[tuple[int, int]] = []
    run_on_ray(plan, tmp_path / "two", plain, progress=lambda *c: seen.append(c))
    assert tree(tmp_path / "two") == tree(tmp_path / "one")
    assert seen[-1][1] == 30


@pytest.mark.slow  # starting Ray takes half a minute of two cores, and fails where they are busy
@pytest.mark.usefixtures("cluster")
def test_the_shard_of_a_killed_actor_runs_again(tmp_path: Path) -> None:
    plan, notes = plan_of("folder"), tmp_path / "notes"
    notes.mkdir()
    runs.run(plan, tmp_path / "one", make)

    run_on_ray(plan, tmp_path / "two", functools.partial(dying, notes))
    assert (notes / "killed").exists()
    assert tree(tmp_path / "two") == tree(tmp_path / "one")
    assert len({p.name.split("-")[0] for p in notes.iterdir() if "-" in p.name}) >= 2


@pytest.mark.slow  # starting Ray takes half a minute of two cores, and fails where they are busy
@pytest.mark.usefixtures("cluster")
def test_a_failing_image_on_an_actor_ends_in_the_same_sentence(tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="1 of 30 images could not be made, first image 13"):
        run_on_ray(plan_of(), tmp_path / "out", failing)
    run_on_ray(plan_of(), tmp_path / "out", plain, resume=True)
    assert (tmp_path / "out" / "manifest.jsonl").exists()


@pytest.mark.slow  # starting Ray takes half a minute of two cores, and fails where they are busy
@pytest.mark.usefixtures("cluster")
def test_a_factory_that_fails_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="worker could not start"):
        run_on_ray(plan_of(), tmp_path / "out", broken)


@pytest.mark.slow  # starting Ray takes half a minute of two cores, and fails where they are busy
@pytest.mark.usefixtures("cluster")
def test_pictures_do_not_pass_through_the_object_store(tmp_path: Path) -> None:
    plan = plan_of("tar", classes=(1,), count=2000, resolution=LARGE, batch_size=20, shard_size=500)
    assert 2000 * 3 * LARGE**2 > STORE
    run_on_ray(plan, tmp_path / "out", large)
    assert len((tmp_path / "out" / "manifest.jsonl").read_text().splitlines()) == 2000


def test_a_run_that_is_there_is_refused_before_ray_starts(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    runs.run(plan_of(), tmp_path, make)
    with pytest.raises(UsageError, match="--resume"):
        run_on_ray(plan_of(), tmp_path, plain)


class Interrupted:
    """Ray as far as a run goes until Ctrl-C or SIGTERM comes: one shard is made, then the signal's exception rises."""

    exceptions = None

    def __init__(self) -> None:
        self.stopped, self.waits = False, 0

    def is_initialized(self) -> bool:
        return False

    def init(self, **_: object) -> None:
        pass

    def shutdown(self) -> None:
        self.stopped = True

    def remote(self, **_: object) -> Any:
        def actor(kind: Any) -> Any:
            def start(*args: Any) -> Any:
                worker = kind(*args)
                return SimpleNamespace(shard=SimpleNamespace(remote=functools.partial(functools.partial, worker.shard)))

            return SimpleNamespace(remote=start)

        return actor

    def wait(self, running: list[Any], timeout: float) -> tuple[list[Any], list[Any]]:
        self.waits += 1
        if self.waits > 1:
            raise KeyboardInterrupt
        return running[:1], running[1:]

    def get(self, result: Any) -> Any:
        return result()


def test_a_signal_stops_ray_and_leaves_a_run_that_can_be_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray = Interrupted()
    monkeypatch.setattr("nsbgan_infer.bulk.ray.import_ray", lambda: ray)
    with pytest.raises(KeyboardInterrupt):
        run_on_ray(plan_of(), tmp_path / "out", plain, workers=1)
    assert ray.stopped and runs.done(plan_of(), tmp_path / "out") == 12
    runs.run(plan_of(), tmp_path / "out", make, resume=True)
    runs.run(plan_of(), tmp_path / "whole", make)
    assert tree(tmp_path / "out") == tree(tmp_path / "whole")


def test_a_machine_without_the_weights_says_which_are_missing_and_where(tmp_path: Path) -> None:
    worker = Worker(PipelineFactory("embedded", decoder=str(tmp_path / "mine")), torch.get_num_threads())
    with pytest.raises(CheckpointError, match=rf"On the machine {re.escape(platform.node())}: .*mine"):
        worker.shard(plan_of(), str(tmp_path), 0)


def test_without_ray_the_error_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"nsbgan-infer\[ray\]"):
        run_on_ray(plan_of(), tmp_path, plain)

"""Which Ray cluster is meant, and what is said of an address that is none, does not listen or does not answer."""

from __future__ import annotations

import os
import signal
import socket
from types import SimpleNamespace
from typing import Any

import pytest

from nsbgan_infer.bulk import cluster as module
from nsbgan_infer.bulk.cluster import check_address, cluster, pick_address
from nsbgan_infer.errors import UsageError, WorkError
from nsbgan_infer.storage.reach import answers

COVERS = ["storage.reach"]


class FakeRay(SimpleNamespace):
    """Notes how it was started."""

    def __init__(self, *, fails: BaseException | None = None) -> None:
        super().__init__(started=None, stopped=0, fails=fails)

    def is_initialized(self) -> bool:
        return self.started is not None and not self.stopped

    def init(self, **settings: Any) -> None:
        if self.fails:
            raise self.fails
        self.started = settings

    def shutdown(self) -> None:
        self.stopped += 1


def test_the_option_comes_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert pick_address(None) == (None, "")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    address, said = pick_address(None)
    assert address == "10.0.0.1:6379" and "from RAY_ADDRESS; unset it" in said
    assert pick_address("auto") == ("auto", "") and pick_address("local") == (None, "")
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert pick_address(None) == (None, "")


@pytest.mark.parametrize("address", ["nobody", "host:port", "a b:1", "host:99999", "redis://host:1", ""])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="no address of a Ray cluster: write host:port"):
        check_address(address)


def test_the_dashboards_address_is_told_apart() -> None:
    with pytest.raises(UsageError, match="is the address of Ray's dashboard"):
        check_address("http://127.0.0.1:8265")


def test_where_nobody_listens_is_one_sentence_that_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        assert answers("127.0.0.1", port)
    assert not answers("127.0.0.1", port)
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    with pytest.raises(WorkError, match=r"nobody listens there") as raised, cluster(FakeRay(), None, 2):
        pass
    assert "RAY_ADDRESS" in str(raised.value)


def test_a_server_that_does_not_answer_as_a_cluster_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "JOIN", 0.05)
    monkeypatch.setattr(module, "TRIAL", "import time; print(flush=True); time.sleep(60)")
    ray = FakeRay()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"ray://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(WorkError, match="does not answer as one"), cluster(ray, address, 2):
            pass
    assert ray.started is None and ray.stopped == 0


def test_ray_is_started_here_and_stopped_or_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray = FakeRay()
    with cluster(ray, None, 3):
        assert ray.started["address"] == "local" and ray.started["num_cpus"] >= 3 and ray.stopped == 0
    assert ray.stopped == 1
    joined = FakeRay()
    monkeypatch.setattr(module, "TRIAL", "print()")
    with cluster(joined, "auto", 3):
        assert joined.started["address"] == "auto" and "num_cpus" not in joined.started
    assert joined.stopped == 1
    failing = FakeRay(fails=ConnectionError("none runs\nmore"))
    with pytest.raises(WorkError, match="No Ray cluster at auto: none runs"), cluster(failing, "auto", 1):
        pass
    monkeypatch.setattr(module, "TRIAL", "print(); raise ConnectionError('none found')")
    with pytest.raises(WorkError, match="No Ray cluster at auto: ConnectionError: none found"), cluster(ray, "auto", 1):
        pass


@pytest.mark.skipif(os.name == "nt", reason="this system has no SIGTERM")
def test_sigterm_stays_ours_and_stops_what_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    class Ended(BaseException):
        pass

    def ours(_number: int, _frame: object) -> None:
        raise Ended

    before = signal.signal(signal.SIGTERM, ours)
    try:
        for raised, expected in ((SystemExit(signal.SIGTERM), Ended), (KeyboardInterrupt(), KeyboardInterrupt)):
            ray = FakeRay(fails=raised)
            with pytest.raises(expected), cluster(ray, None, 1):
                pass
            assert ray.stopped == 1 and signal.getsignal(signal.SIGTERM) is ours
        ray = FakeRay()
        with pytest.raises(Ended), cluster(ray, None, 1):
            try:
                signal.raise_signal(signal.SIGTERM)
            except Ended:
                raise KeyboardInterrupt from None  # as Ray does while it waits
        assert ray.stopped == 1 and signal.getsignal(signal.SIGTERM) is ours
        with pytest.raises(KeyboardInterrupt), cluster(FakeRay(), None, 1):
            raise KeyboardInterrupt
    finally:
        signal.signal(signal.SIGTERM, before)

"""Shared fixtures: the data folder beside the checkout, a private cache, and no network but loopback."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
from pathlib import Path

import hypothesis
import pytest
import torch

from nsbgan_infer import torch_operators

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
gc.disable()  # while thousands of tests are collected, none of which goes
if "PYTEST_XDIST_WORKER" in os.environ:  # one thread each, in child processes too: the workers share the cores
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
LOOPBACK = ("127.", "localhost", "::1")


def pytest_addoption(parser: pytest.Parser) -> None:
    """The device of the tests in `gpu/`."""
    parser.addoption(
        "--device",
        default=os.environ.get("NSBGAN_TEST_DEVICE", "cuda"),
        help="what the tests marked gpu compare with the CPU: cuda, cuda:N, mps, or cpu to try the tests themselves",
    )


def pytest_configure() -> None:
    """Declare the operator schemas that torchvision's import expects beside a CPU-only torch build, since tests import
    what stands on it directly, and give property tests no deadline: none is about time, and machines are busy."""
    with contextlib.suppress(RuntimeError):  # a complete torchvision has declared them
        torch_operators._declare()
    hypothesis.settings.register_profile("no deadline", deadline=None)
    hypothesis.settings.load_profile("no deadline")


def pytest_collection_finish() -> None:
    """From here on garbage is collected, but not looked for among tests and imported modules."""
    gc.freeze()
    gc.enable()


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker for each core where the whole suite runs; none where files or tests are named, for they start sooner."""
    return (os.cpu_count() or 1) if config.args == config.getini("testpaths") and not config.option.usepdb else 0


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real images; tests that need it are skipped, with this reason, where it is absent."""
    if not SHARED.is_dir():
        pytest.skip("real images are absent: ../shared/data does not exist beside the checkout")
    return SHARED


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that does not stay on this machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        host = address[0] if isinstance(address, tuple) else "localhost"
        if not str(host).startswith(LOOPBACK):
            raise OSError(f"the test suite blocks the network: {host}")
        connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def private_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test has its own empty cache of weights."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("NSBGAN_CACHE", str(folder))
    monkeypatch.setenv("HF_HOME", str(folder / "hf"))
    return folder


@pytest.fixture
def kept_networks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """One cache of compiled networks for all tests that ask for it: they meet the same tiny ones again and again."""
    folder = tmp_path_factory.getbasetemp() / "kept-networks"
    monkeypatch.setattr("nsbgan_infer.engines.openvino.cache_dir", lambda: folder)

"""`nsbgan generate --workers ray` as a process of its own: signals, what is left behind, addresses nobody answers at.

How long an end took is printed and never judged; a bound only ends a process that hangs.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from bulk import tree
from loopback import HANGS, Asked, until

pytestmark = [
    pytest.mark.slow,  # starting Ray takes half a minute of two cores
    pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="processes are looked up in /proc"),
]
COUNT = 1500
Start = Callable[..., subprocess.Popen[Any]]


@pytest.fixture
def mark() -> str:
    """What all processes that a test starts have in their environment, so that each of them is found."""
    return uuid.uuid4().hex


@pytest.fixture
def start(tmp_path: Path, pipeline_folder: Path, mark: str) -> Iterator[Start]:
    """Start a run of `COUNT` pictures into a folder, in shards of 100."""
    pytest.importorskip("ray", reason="these runs need the extra ray")
    started = []

    def begin(out: str, *more: str, **environment: str) -> subprocess.Popen[Any]:
        command = [sys.executable, "-m", "nsbgan_infer", "generate", "--pipeline", str(pipeline_folder)]
        command += ["--count", str(COUNT), "--classes", "uniform", "--sink", "tar", "--shard-size", "100"]
        command += ["--engine", "eager", "-q", "--out", out, *more]
        own = {"NSBGAN_TEST_MARK": mark, "OMP_NUM_THREADS": "1", **environment}
        inherited = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"}
        started.append(subprocess.Popen(command, cwd=tmp_path, env=inherited | own, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield begin
    for process in started:
        if process.poll() is None:
            process.kill()
        process.wait()


def marked(mark: str) -> list[str]:
    """The command lines of all processes with the mark, but this one."""
    found = []
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and mark.encode() in (folder / "environ").read_bytes():
                found.append((folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:100])
        except OSError:  # it has just ended
            continue
    return [line for line in found if line]  # one without a command line has ended and waits for its parent


def made(folder: Path) -> int:
    """How many pictures the journals name."""
    return sum(len(file.read_bytes().splitlines()) for file in folder.glob(".nsbgan/*.jsonl*"))


def end(process: subprocess.Popen[Any], number: int, what: str) -> tuple[int, str]:
    """Send a signal: exit code, and what was said."""
    begun = time.monotonic()
    process.send_signal(number)
    _, said = process.communicate(timeout=HANGS)
    print(f"{what}: ended {time.monotonic() - begun:.1f} s after {signal.Signals(number).name}")
    return process.returncode, said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_on_ray_which_is_resumed_to_the_same_bytes(
    start: Start, tmp_path: Path, mark: str, number: int, code: int
) -> None:
    run = start("part", "--workers", "ray")
    until(lambda: made(tmp_path / "part") > 20 or run.poll() is not None)
    assert run.poll() is None, run.communicate()[1]
    ended, said = end(run, number, "while pictures are made")
    assert ended == code and "Traceback" not in said, said
    until(lambda: marked(mark) == [])
    assert not (tmp_path / "part/manifest.jsonl").exists() and 0 < made(tmp_path / "part") < COUNT
    for arguments in (("part", "--resume"), ("whole",)):
        _, said = start(*arguments).communicate(timeout=HANGS)
        assert said == ""
    assert tree(tmp_path / "part") == tree(tmp_path / "whole")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_ray_starts_leaves_nothing_behind(
    start: Start, tmp_path: Path, mark: str, number: int, code: int
) -> None:
    run = start("part", "--workers", "ray")
    until(lambda: any("gcs_server" in line for line in marked(mark)) or run.poll() is not None)
    assert run.poll() is None, run.communicate()[1]
    ended, said = end(run, number, "while Ray starts")
    assert ended == code and "Traceback" not in said, said
    until(lambda: marked(mark) == [])


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "ray://127.0.0.1:{}"])
@pytest.mark.parametrize("listens", [False, True], ids=["nobody listens", "a stranger listens"])
def test_an_address_without_a_cluster_is_one_sentence(start: Start, mark: str, form: str, listens: bool) -> None:
    with socket.socket() as port:
        port.bind(("127.0.0.1", 0))
        if listens:
            port.listen()
        address = form.format(port.getsockname()[1])
        begun = time.monotonic()
        run = start("out", "--workers", "ray", RAY_ADDRESS=address)
        _, said = run.communicate(timeout=HANGS)
        print(f"{address}: ended {time.monotonic() - begun:.1f} s after its start")
    assert run.returncode in (1, 2)
    (line,) = said.splitlines()
    assert line.startswith(f"nsbgan: error: No Ray cluster at {address} (from RAY_ADDRESS; unset it")
    until(lambda: marked(mark) == [])


@pytest.mark.parametrize("early", [True, False], ids=["while replicas start", "while it serves"])
def test_sigterm_ends_a_service_on_ray_and_its_replicas(tmp_path: Path, mark: str, early: bool) -> None:
    pytest.importorskip("ray.serve", reason="replicas need the extra serve-ray")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "nsbgan_infer", "serve", "--ray", "--replicas", "1", "1", "--port", str(port)]
    environment = {k: v for k, v in os.environ.items() if k != "RAY_ADDRESS"} | {"NSBGAN_TEST_MARK": mark}
    with (tmp_path / "said").open("w") as said:
        service = subprocess.Popen([*command, "--offline"], env=environment, stderr=said, stdout=said)
    try:
        told = (tmp_path / "said").read_text
        wanted = "ServeReplica" if early else "Serving on"
        until(lambda: wanted in told() + " ".join(marked(mark)) or service.poll() is not None)
        assert service.poll() is None, told()
        if not early:
            assert Asked(f"http://127.0.0.1:{port}/").post({"class": 207})[0] == 200
        ended, _ = end(service, signal.SIGTERM, "a service on Ray")
        assert ended == 143 and "Traceback" not in told(), told()
        until(lambda: marked(mark) == [])
    finally:
        service.kill()
        service.wait()

"""Ray, on this machine or on a cluster that runs already: joined or started, and left in good order.

An address is that of --ray-address, else of RAY_ADDRESS as every Ray job has it. One that does not answer is told of
within 15 seconds.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nsbgan_infer.errors import NsbError, UsageError, WorkError, missing_extra
from nsbgan_infer.storage.reach import answers

KNOCK = 5.0  # seconds for a connection
JOIN = 6.0  # seconds more for the cluster to take a process in
TRIAL = """
import os, sys
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
import ray
print("imported", flush=True)
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="error")
ray.shutdown()
"""
QUIET = {"log_to_driver": False, "logging_level": "error", "configure_logging": True}


def import_ray(what: str = "--workers ray", extra: str = "ray") -> Any:
    """The package. Raises MissingExtraError where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would ask, and call home
    try:
        import ray
    except ImportError as error:
        raise missing_extra("ray", extra, what) from error
    return ray


@contextmanager
def cluster(ray: Any, address: str | None, workers: int, **local: Any) -> Iterator[None]:
    """Ray, joined at `address` or started here with `local` settings; what was started here is stopped again.

    Raises UsageError for an address that is none of a cluster, WorkError for one that does not answer.
    """
    if ray.is_initialized():
        yield
        return
    address, named_by = pick_address(address)
    try:
        _start(ray, address, named_by, {"num_cpus": max(workers, os.cpu_count() or 1), **local})
        with _sigterm_told_apart():
            yield
    finally:
        if address is None or ray.is_initialized():
            ray.shutdown()


def _start(ray: Any, address: str | None, named_by: str, local: dict[str, Any]) -> None:
    """Join or start Ray, and leave SIGTERM as it was: Ray puts its own handler there, which knows nothing of a run."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address:
            check_address(address, named_by)
            _try_to_join(address, named_by)
            ray.init(address=address, **QUIET)
        else:
            ray.init(address="local", include_dashboard=False, _node_ip_address="127.0.0.1", **local, **QUIET)
    except NsbError:
        raise
    except SystemExit:  # what Ray makes of SIGTERM while it starts
        signal.signal(signal.SIGTERM, handler)
        signal.raise_signal(signal.SIGTERM)
        raise
    except Exception as error:  # Ray raises many types, a plain Exception where this machine is too busy
        where = f"at {address}{named_by}" if address else "on this machine"
        raise WorkError(f"No Ray cluster {where}: {str(error).strip().splitlines()[0]}") from error
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


@contextmanager
def _sigterm_told_apart() -> Iterator[None]:
    """Raise what the handler of SIGTERM raised: Ray, while it waits, makes a plain KeyboardInterrupt of it."""
    before, raised = signal.getsignal(signal.SIGTERM), list[BaseException]()
    if not callable(before) or threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(number: int, frame: Any) -> None:
        try:
            before(number, frame)
        except BaseException as error:
            raised.append(error)
            raise

    signal.signal(signal.SIGTERM, handler)
    try:
        yield
    except KeyboardInterrupt as error:
        raise (raised or [error])[-1] from None
    finally:
        signal.signal(signal.SIGTERM, before)


def pick_address(address: str | None) -> tuple[str | None, str]:
    """The cluster's address, None for Ray on this machine, and what to say of where it was named."""
    if address:
        return (None if address == "local" else address), ""
    found = os.environ.get("RAY_ADDRESS", "").strip()
    if found in ("", "local"):
        return None, ""
    return found, " (from RAY_ADDRESS; unset it, or give --ray-address local, for Ray on this machine)"


def check_address(address: str, named_by: str = "") -> None:
    """Raise UsageError for what is no address of a cluster, WorkError where nobody listens."""
    if address == "auto":  # Ray looks on this machine, and says at once if there is none
        return
    if address.startswith(("http://", "https://")):
        raise UsageError(
            f"{address}{named_by} is the address of Ray's dashboard, which takes jobs: give that of the cluster "
            "itself, as host:6379 or ray://host:10001."
        )
    match = re.fullmatch(r"(?:ray://)?(\[[0-9a-fA-F:]+\]|[\w.-]+):(\d{1,5})", address, re.ASCII)
    if match is None or int(match[2]) > 65535:
        raise UsageError(
            f"'{address}'{named_by} is no address of a Ray cluster: write host:port, ray://host:port or auto."
        )
    if not answers(match[1].strip("[]"), int(match[2]), timeout=KNOCK):
        raise WorkError(
            f"No Ray cluster at {address}{named_by}: nobody listens there. Start it, or look the address up."
        )


def _try_to_join(address: str, named_by: str) -> None:
    """Join a cluster in a process of its own, and leave it again. Raises WorkError where that fails or takes longer.

    Ray itself would go on for minutes, and a process that gave it up in a thread crashes at its end.
    """
    command = [sys.executable, "-c", TRIAL, address]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, text=True) as trial:
        assert trial.stdout is not None
        try:
            trial.stdout.readline()  # Ray is imported, which may take long where the disk is slow
            _, said = trial.communicate(timeout=JOIN)
        except subprocess.TimeoutExpired:
            why = "what listens there does not answer as one. Look the address up."
            raise WorkError(f"No Ray cluster at {address}{named_by}: {why}") from None
        finally:
            trial.kill()
    if trial.returncode:
        last = [f"Ray ended with {trial.returncode}", *said.strip().splitlines()][-1]
        raise WorkError(f"No Ray cluster at {address}{named_by}: {last}")

"""Ray, on this machine or on a cluster that runs already: joined or started, and left in good order.

An address is that of --ray-address, else of RAY_ADDRESS as every Ray job has it. One that does not answer is told of
within 15 seconds.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nsbgan_infer.errors import NsbError, UsageError, WorkError, missing_extra
from nsbgan_infer.storage.reach import answers

KNOCK = 5.0  # seconds for a connection
JOIN = 9.0  # seconds more for the cluster to take this process in
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
    handler = signal.getsignal(signal.SIGTERM)
    try:
        if address:
            check_address(address, named_by)
            _join(ray, address, named_by)
        else:
            cpus = max(workers, os.cpu_count() or 1)
            settings = {"num_cpus": cpus, "include_dashboard": False, "_node_ip_address": "127.0.0.1"}
            ray.init(address="local", **settings, **local, **QUIET)
    except NsbError:
        raise
    except Exception as error:  # Ray raises many types, a plain Exception where this machine is too busy
        where = f"at {address}{named_by}" if address else "on this machine"
        raise WorkError(f"No Ray cluster {where}: {str(error).strip().splitlines()[0]}") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray puts its own there
    try:
        yield
    finally:
        ray.shutdown()


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


def _join(ray: Any, address: str, named_by: str) -> None:
    """`ray.init` for an address, given up after `JOIN` seconds: it would go on trying for minutes."""
    failed: list[BaseException] = []

    def work() -> None:
        try:
            ray.init(address=address, **QUIET)
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(JOIN)
    if failed:
        raise failed[0]
    if thread.is_alive():
        raise WorkError(
            f"No Ray cluster at {address}{named_by}: what listens there does not answer as one. Look the address up."
        )

"""Whether somebody listens at an address, told within seconds: other libraries wait for minutes."""

from __future__ import annotations

import socket
import threading


def answers(host: str, port: int, *, timeout: float = 5.0) -> bool:
    """Whether `host` takes a connection on `port` within `timeout` seconds, name look-up included."""
    taken: list[bool] = []

    def ask() -> None:
        try:
            with socket.create_connection((host, port), timeout=timeout):
                taken.append(True)
        except (OSError, UnicodeError):
            pass

    thread = threading.Thread(target=ask, daemon=True)  # a name look-up has no time limit of its own
    thread.start()
    thread.join(timeout)
    return bool(taken)

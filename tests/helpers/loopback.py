"""Requests to a service on loopback, from threads, past every proxy."""

from __future__ import annotations

import functools
import http.client
import json
import socket
import time
from collections.abc import Callable
from typing import Any

HANGS = 300  # seconds after which a service is taken to hang; busy machines need many


class Asked:
    """Requests from threads to a service on loopback."""

    def __init__(self, address: str) -> None:
        self.host, self.port = address.split("//")[1].rstrip("/").split(":")

    def post(self, body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.host, int(self.port), timeout=HANGS)
        connection.request("POST", "/generate", json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()

    def raw(self, body: dict[str, Any]) -> socket.socket:
        """The connection of a request for a picture whose answer nobody has read."""
        data = json.dumps(body).encode()
        return self.opened("/generate", data, length=len(data))

    def opened(self, path: str, data: bytes, *, length: int) -> socket.socket:
        """The connection of a POST request that promised `length` bytes and sent `data`; it ends with the answer."""
        opened = self.connected()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        head += f"Content-Length: {length}"
        opened.sendall(f"{head}\r\n\r\n".encode() + data)
        return opened

    def connected(self) -> socket.socket:
        """A connection on which nothing was sent."""
        return socket.create_connection((self.host, int(self.port)), timeout=HANGS)


def answer_on(opened: socket.socket) -> bytes:
    """All that comes on a connection until it ends."""
    with opened:
        return b"".join(iter(functools.partial(opened.recv, 1 << 16), b""))


def until(what: Callable[[], object], limit: float = HANGS) -> None:
    """Wait until `what()` holds; a limit for a hanging service, not a measure."""
    end = time.monotonic() + limit
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)

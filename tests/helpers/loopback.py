"""Requests to a service on loopback, from threads, past every proxy."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable
from typing import Any


class Asked:
    """Requests from threads to a service on loopback."""

    def __init__(self, address: str) -> None:
        self.host, self.port = address.split("//")[1].rstrip("/").split(":")

    def post(self, body: dict[str, Any]) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection(self.host, int(self.port), timeout=30)
        connection.request("POST", "/generate", json.dumps(body), {"content-type": "application/json"})
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()

    def raw(self, body: dict[str, Any]) -> socket.socket:
        data = json.dumps(body).encode()
        opened = socket.create_connection((self.host, int(self.port)), timeout=30)
        opened.sendall(
            b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            + f"Content-Length: {len(data)}\r\n\r\n".encode()
            + data
        )
        return opened


def until(what: Callable[[], object], limit: float = 20) -> None:
    """Wait until `what()` holds; a limit for a hanging service, not a measure."""
    end = time.monotonic() + limit
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)

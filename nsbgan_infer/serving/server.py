"""An application on an address, by uvicorn: in this thread until a signal comes, or in a thread of its own.

Listening needs no client, so proxies of the environment play no part. On SIGTERM and Ctrl-C the server takes no new
requests, finishes those that it has, and ends the application.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nsbgan_infer.errors import UsageError, WorkError

if TYPE_CHECKING:
    import uvicorn

GRACE = 30  # seconds for requests that are under way
PORTS = 20  # tried one after the other where none was asked for


def serve(
    app: Any, *, host: str, port: int | None, first: int = 8000, ready: Callable[[str], None] = lambda _: None
) -> None:
    """Serve until SIGTERM or Ctrl-C; `ready` is told the address once connections are taken.

    `port` None: the first free one from `first`. Raises UsageError where the address cannot be had.
    """
    server, sock = _server(app, host, port, first)
    server.ready = lambda: ready(_address(host, sock))
    server.run(sockets=[sock])
    if not server.started:
        raise WorkError("The service could not start: the lines above say why.")


@contextmanager
def serve_in_thread(app: Any, *, host: str = "127.0.0.1", port: int | None = None, first: int = 8000) -> Iterator[str]:
    """The address of an application that is served while the block runs. Raises as `serve`."""
    server, sock = _server(app, host, port, first)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        if not server.started:
            raise WorkError("The service could not start: the lines above say why.")
        yield _address(host, sock)
    finally:
        server.should_exit = True
        thread.join(GRACE + 5)


def _server(app: Any, host: str, port: int | None, first: int) -> tuple[Any, Any]:
    import uvicorn

    class Server(uvicorn.Server):
        ready: Callable[[], None] = staticmethod(lambda: None)

        async def startup(self, sockets: list[Any] | None = None) -> None:
            await super().startup(sockets=sockets)
            if self.started:
                self.ready()

    sock = None
    for number in (port,) if port is not None else range(first, first + PORTS):
        config = uvicorn.Config(
            app,
            host=host,
            port=number,
            log_config=None,
            log_level="error",  # what a client sends wrong, it is told, not the log
            access_log=False,
            timeout_graceful_shutdown=GRACE,
            timeout_keep_alive=15,
            server_header=False,
            ws="auto",
        )  # fmt: skip - its own logging configuration would close every handler of the process
        sock = _bind(config)
        if sock is not None:
            return Server(config), sock
    where = f"{host}:{port}" if port is not None else f"{host}, ports {first} to {first + PORTS - 1}"
    raise UsageError(f"Cannot serve on {where}: it is taken or is no address of this machine. Choose another --port.")


def _bind(config: uvicorn.Config) -> Any:
    """A listening socket, None where the address cannot be had; uvicorn would end the process."""
    import logging

    log = logging.getLogger("uvicorn.error")
    before, log.disabled = log.disabled, True
    try:
        return config.bind_socket()
    except (SystemExit, OSError):
        return None
    finally:
        log.disabled = before


def _address(host: str, sock: Any) -> str:
    shown = "127.0.0.1" if host in ("0.0.0.0", "::", "") else host
    return f"http://{f'[{shown}]' if ':' in shown else shown}:{sock.getsockname()[1]}/"

"""What the service takes on: how many requests wait, how long, how large, and who may ask."""

from __future__ import annotations

import asyncio
import hmac
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException

from nsbgan_infer.errors import UsageError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

TOKEN = "NSBGAN_SERVE_TOKEN"  # the environment's variable
SHORTEST_TOKEN = 16
OPEN = ("/health",)  # answered without a token, for those who watch the service


@dataclass(frozen=True)
class Limits:
    """The bounds of one service."""

    queue: int = 32
    """Requests that wait; further ones are answered 429."""
    batch: int = 4
    """Pictures made together, of requests that wait together."""
    seconds: float = 60.0
    """From a request's arrival to its answer; then 504. A request may ask for less. A body has as long to arrive."""
    upload: int = 32 << 20
    """Bytes of a photo."""
    pixels: int = 1 << 20
    """Of a photo to enlarge: 16 times as many come out."""
    text: int = 64 << 10
    """Bytes of a JSON body."""


def read_token(file: Path | None) -> str | None:
    """The bearer token: the first line of `file`, else that of the environment; None where neither is given.

    Raises UsageError for a file that cannot be read, and for a token that is short or not of printable ASCII.
    """
    if file is None:
        token = os.environ.get(TOKEN, "")
        if not token:
            return None
    else:
        try:
            token = next(iter(file.read_text("ascii").splitlines()), "").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"Cannot read the token in {file}: {getattr(error, 'strerror', None) or error}."
            ) from error
    if len(token) < SHORTEST_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
        raise UsageError(
            f"A token is {SHORTEST_TOKEN} or more letters and digits: make one with `openssl rand -hex 24`."
        )
    return token


class Guard:
    """An ASGI application before another: asks for the token, and ends bodies that are too long (413) or slow (408)."""

    def __init__(self, app: App, limits: Limits, token: str | None = None) -> None:
        self.app, self.limits, self.token = app, limits, token

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer a request, or hand it on."""
        if scope["type"] == "websocket" and self.token is not None and not self._may(scope):
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if self.token is not None and scope["path"] not in OPEN and not self._may(scope):
            await refuse(send, 401, "This service asks for a bearer token.", {"www-authenticate": "Bearer"})
            return
        most = self.limits.text if scope["path"] in ("/generate",) else self.limits.upload
        length = headers_of(scope).get("content-length", "0")
        if not length.isdigit() or int(length) > most:
            await refuse(send, 413, f"The body is longer than {most:,} bytes.", {"connection": "close"})
            return
        if scope["method"] == "HEAD":  # answered as GET; the server sends no body
            scope = {**scope, "method": "GET"}
        told = False

        async def tell(message: Message) -> None:
            nonlocal told
            told = True
            await send(message)

        try:
            await self.app(scope, self._counted(receive, most), tell)
        except asyncio.CancelledError:  # the server's, once the time that it takes to stop is over
            if not told:
                await refuse(send, 503, "The service has stopped before this was done.", {"connection": "close"})

    def _counted(self, receive: Receive, most: int) -> Receive:
        """`receive` for a body of `most` bytes, whose length need not have been told, and that arrives in time."""
        seen, whole = 0, False
        end = asyncio.get_running_loop().time() + self.limits.seconds

        async def counted() -> Message:
            nonlocal seen, whole
            if whole:  # what comes now is the end of the connection
                return await receive()
            try:
                async with asyncio.timeout_at(end):
                    message = await receive()
            except TimeoutError as error:
                text = f"The body did not arrive within {self.limits.seconds:g} s"
                raise HTTPException(408, text, {"connection": "close"}) from error
            whole = not message.get("more_body")
            seen += len(message.get("body", b""))
            if seen > most:
                raise HTTPException(413, f"The body is longer than {most:,} bytes", {"connection": "close"})
            return message

        return counted

    def _may(self, scope: MutableMapping[str, Any]) -> bool:
        kind, _, given = headers_of(scope).get("authorization", "").partition(" ")
        return kind.lower() == "bearer" and hmac.compare_digest(given.encode("latin-1"), (self.token or "").encode())


def headers_of(scope: MutableMapping[str, Any]) -> dict[str, str]:
    """The headers of a request, names in small letters; the last one where several have a name."""
    return {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope.get("headers", ())}


async def refuse(send: Send, status: int, sentence: str, headers: dict[str, str] | None = None) -> None:
    """A whole answer: `{"error": sentence}`."""
    body = json.dumps({"error": sentence}).encode()
    given = {"content-type": "application/json", "content-length": str(len(body)), **(headers or {})}
    pairs = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in given.items()]
    await send({"type": "http.response.start", "status": status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})

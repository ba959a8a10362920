"""The head of the page: our own script, style, icon and tags in the place of those that gradio writes.

gradio's index names a picture on another host and itself as the author. Nobody fetches these, but whoever shares the
address would show them.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

ASSETS = Path(__file__).parent / "assets"
FOREIGN = re.compile(rb'\s*<(?:meta\s+(?:property="og:|name="twitter:)|link\s+rel="(?:manifest|preconnect)")[^>]*?/?>')
OWN = b"""
		<meta name="description" content="Name a thing and watch a small network draw it." />
		<meta property="og:title" content="nsbgan" />
		<meta property="og:type" content="website" />
		<meta property="og:description" content="Name a thing and watch a small network draw it." />
		<link rel="icon" type="image/svg+xml" href="page/mark.svg" />
		<link rel="stylesheet" href="page/page.css" />
		<script src="page/compare.js"></script>
		<script src="page/page.js"></script>
	</head>"""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class OwnHead:
    """An ASGI application around another one; only the answer to `GET /` is changed."""

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] != f"{scope.get('root_path', '')}/" or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        plain = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
        start: Message = {}
        parts: list[bytes] = []

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
                return
            parts.append(message.get("body", b""))
            if not message.get("more_body"):
                body = own_head(b"".join(parts))
                kept = [(name, value) for name, value in start["headers"] if name.lower() != b"content-length"]
                await send({**start, "headers": [*kept, (b"content-length", str(len(body)).encode())]})
                await send({"type": "http.response.body", "body": body})

        await self.app({**scope, "headers": plain}, receive, collect)


def own_head(page: bytes) -> bytes:
    """The page with our head instead of gradio's tags."""
    head, end, rest = page.partition(b"</head>")
    return FOREIGN.sub(b"", head) + OWN + rest if end else page

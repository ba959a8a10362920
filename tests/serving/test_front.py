"""The head of the page: nothing of gradio's tags stays."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from nsbgan_infer.serving.front import ASSETS, OwnHead, own_head

INDEX = b"""<html><head><meta charset="utf-8" />
<meta property="og:title" content="Gradio" /><meta
\tproperty="og:image"
\tcontent="https://raw.githubusercontent.com/x.jpg"
/><meta name="twitter:creator" content="@Gradio" />
<link rel="manifest" href="/manifest.json" /><title>t</title></head>
<body><meta property="og:x" content="y"></body></html>"""


def test_foreign_tags_go_and_ours_come() -> None:
    page = own_head(INDEX)
    head = page.partition(b"</head>")[0]
    assert b"Gradio" not in head and b"githubusercontent" not in head and b"manifest" not in head
    assert b'content="nsbgan"' in head and b'<meta charset="utf-8" />' in head and b"<title>t</title>" in head
    assert page.endswith(b'<body><meta property="og:x" content="y"></body></html>')
    assert own_head(b'{"no": "page"}') == b'{"no": "page"}'


def test_all_that_the_head_names_ships() -> None:
    for name in ("mark.svg", "page.css", "page.js", "compare.js", "example.webp"):
        assert (ASSETS / name).stat().st_size > 100
        assert b"http" not in (ASSETS / name).read_bytes().replace(b"http://www.w3.org/", b"") or name == "example.webp"


def test_the_example_is_a_picture_of_ours() -> None:
    from nsbgan_infer.images import read_recipe

    recipe = read_recipe(ASSETS / "example.webp")
    assert (recipe.preset, recipe.class_id, recipe.seed, recipe.truncation) == ("embedded", 207, 2, 0.5)


@pytest.mark.parametrize(("path", "changed"), [("/", True), ("/made/a.png", False)])
def test_only_the_page_is_changed_and_its_length_is_right(path: str, changed: bool) -> None:
    async def app(scope: Any, _receive: Any, send: Any) -> None:
        assert changed != any(name == b"accept-encoding" for name, _ in scope["headers"])
        headers = [(b"content-length", str(len(INDEX)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": INDEX[:50], "more_body": True})
        await send({"type": "http.response.body", "body": INDEX[50:]})

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {}

    scope = {"type": "http", "path": path, "method": "GET", "headers": [(b"accept-encoding", b"gzip")]}
    asyncio.run(OwnHead(app)(scope, receive, send))
    body = b"".join(m.get("body", b"") for m in sent)
    assert body == (own_head(INDEX) if changed else INDEX)
    assert dict(sent[0]["headers"])[b"content-length"] == str(len(body)).encode()

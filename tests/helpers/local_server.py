"""A web server on this machine for the tests: files by path, answers that lie about their length, and a request log.

`put_repo` serves a repository with the Hugging Face Hub's routes for reading; `push_server` has those for writing.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Answer:
    """What a path answers: `cut` drops so many bytes from the end of what Content-Length announces, `cuts` times."""

    body: bytes | Path = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0
    cuts: int = 1 << 30

    def sent(self, body: bytes) -> bytes:
        """What goes over the line of a body."""
        if self.cut and self.cuts:
            self.cuts -= 1
            return body[: len(body) - self.cut]
        return body


Handler = Callable[[bytes, dict[str, str]], Answer]  # body and headers -> answer


@dataclass
class LocalServer:
    """`url` of the server, its `answers` by path, the `requests` that came, as "GET /path", the `ranges` of bytes that
    were asked for, and what handles a POST or PUT, by "POST /path"."""

    url: str
    answers: dict[str, Answer]
    requests: list[str]
    ranges: list[str] = field(default_factory=list)
    handlers: dict[str, Handler] = field(default_factory=dict)

    def put(self, path: str, body: bytes | Path = b"", **how: Any) -> None:
        self.answers[path] = Answer(body, **how)

    def put_repo(
        self,
        repo: str,
        files: dict[str, bytes],
        *,
        commit: str = "a" * 40,
        revision: str = "main",
        private: bool = False,
    ) -> None:
        """The routes of the Hugging Face Hub's HTTP interface that a download of `repo` needs."""
        api = f"/api/models/{repo}"
        siblings = [{"rfilename": name, "size": len(body)} for name, body in files.items()]
        info = {"id": repo, "sha": commit, "siblings": siblings, "private": private, "tags": [], "downloads": 0}
        for name in (f"/revision/{revision}", f"/revision/{commit}", *([""] if revision == "main" else [])):
            self.put(f"{api}{name}", json.dumps(info).encode())
        tree = [
            {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}
            for name, body in files.items()
        ]
        self.put(f"{api}/tree/{commit}", json.dumps(tree).encode())
        for name, body in files.items():
            headers = {"X-Repo-Commit": commit, "ETag": f'"{hashlib.sha1(body).hexdigest()}"'}
            self.put(f"/{repo}/resolve/{commit}/{name}", body, headers=headers)


@contextmanager
def serve() -> Iterator[LocalServer]:
    """A running server on a free port of this machine."""
    local = LocalServer("", {}, [])

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            local.requests.append(f"{self.command} {path}")
            answer = local.answers.get(path, Answer(b"not here", 404))
            body = answer.body.read_bytes() if isinstance(answer.body, Path) else answer.body
            wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
            if wanted and answer.status == 200:
                local.ranges.append(wanted[0])
                first, last = int(wanted[1]), min(int(wanted[2] or len(body)), len(body) - 1)
                part = {"Content-Range": f"bytes {first}-{last}/{len(body)}"}
                self.reply(Answer(status=206, headers={**answer.headers, **part}), body[first : last + 1])
            else:
                self.reply(answer, body)

        do_HEAD = do_GET  # noqa: N815 - the base class names it so

        def do_POST(self) -> None:
            path = urlsplit(self.path).path
            local.requests.append(f"{self.command} {path}")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            handler = local.handlers.get(f"{self.command} {path}", lambda *_: Answer(b"not here", 404))
            answer = handler(body, {k.lower(): v for k, v in self.headers.items()})
            self.reply(answer, answer.body if isinstance(answer.body, bytes) else b"")

        do_PUT = do_POST  # noqa: N815

        def reply(self, answer: Answer, body: bytes) -> None:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.sent(body))

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        local.url = f"http://127.0.0.1:{server.server_port}"
        yield local
    finally:
        server.shutdown()
        server.server_close()

"""A web server on this machine for the tests: files by path, answers that lie about their length, and a request log."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


@dataclass
class Answer:
    """What a path answers: `cut` drops so many bytes from the end of what Content-Length announces."""

    body: bytes | Path = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = 0


@dataclass
class LocalServer:
    """`url` of the server, its `answers` by path, and the `requests` that came, as "GET /path"."""

    url: str
    answers: dict[str, Answer]
    requests: list[str]

    def put(self, path: str, body: bytes | Path = b"", **how: Any) -> None:
        self.answers[path] = Answer(body, **how)

    def put_repo(self, repo: str, files: dict[str, bytes], *, commit: str = "a" * 40, revision: str = "main") -> None:
        """The routes of the Hugging Face Hub's HTTP interface that a download of `repo` needs."""
        api = f"/api/models/{repo}"
        siblings = [{"rfilename": name} for name in files]
        info = {"id": repo, "sha": commit, "siblings": siblings, "private": False, "tags": [], "downloads": 0}
        for name in (revision, commit):
            self.put(f"{api}/revision/{name}", json.dumps(info).encode())
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
    answers: dict[str, Answer] = {}
    requests: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urlsplit(self.path).path
            requests.append(f"{self.command} {path}")
            answer = answers.get(path, Answer(b"not here", 404))
            body = answer.body.read_bytes() if isinstance(answer.body, Path) else answer.body
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[: len(body) - answer.cut])

        do_HEAD = do_GET  # noqa: N815 - the base class names it so

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield LocalServer(f"http://127.0.0.1:{server.server_port}", answers, requests)
    finally:
        server.shutdown()
        server.server_close()

"""The routes of the Hugging Face Hub's HTTP interface that a push needs, on the local server."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from local_server import Answer, LocalServer

COMMIT = "c" * 40


@dataclass
class PushServer:
    """A repository that takes pushes from whoever shows `token`; `held` is what it holds then, `large` the names that
    came by the route for large files. `private` None: the repository does not exist before."""

    server: LocalServer
    repo: str
    private: bool | None = None
    token: str = "secret"
    held: dict[str, bytes] = field(default_factory=dict)
    large: list[str] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.private is not None:
            self.serve("a" * 40)
        routes: dict[str, Callable[[bytes], Any]] = {
            "/api/repos/create": self.create,
            "/api/validate-yaml": lambda _body: {"errors": [], "warnings": []},
            f"/api/models/{self.repo}/preupload/main": self.preupload,
            f"/{self.repo}.git/info/lfs/objects/batch": self.batch,
            f"/api/models/{self.repo}/commit/main": self.commit,
        }
        for path, work in routes.items():
            self.server.handlers[f"POST {path}"] = self.guarded(work)

    def serve(self, commit: str) -> None:
        self.server.put_repo(self.repo, self.held, commit=commit, private=bool(self.private))

    def guarded(self, work: Callable[[bytes], Any]) -> Callable[[bytes, dict[str, str]], Answer]:
        def handle(body: bytes, headers: dict[str, str]) -> Answer:
            if headers.get("authorization") != f"Bearer {self.token}":
                return Answer(b'{"error": "Invalid username or password."}', 401)
            value = work(body)
            return value if isinstance(value, Answer) else Answer(json.dumps(value).encode())

        return handle

    def create(self, body: bytes) -> Any:
        known = self.private is not None
        if not known:
            self.private = json.loads(body).get("visibility") == "private"
            self.serve("a" * 40)
        return Answer(json.dumps({"url": f"{self.server.url}/{self.repo}"}).encode(), 409 if known else 200)

    def preupload(self, body: bytes) -> Any:
        modes = {
            f["path"]: "lfs" if f["path"].endswith(".safetensors") else "regular" for f in json.loads(body)["files"]
        }
        return {"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]}

    def batch(self, body: bytes) -> Any:
        objects = json.loads(body)["objects"]
        for entry in objects:
            path = f"/lfs/{entry['oid']}"
            self.server.handlers[f"PUT {path}"] = self.storing(entry["oid"])
            entry["actions"] = {"upload": {"href": self.server.url + path}}
        return {"transfer": "basic", "objects": objects}

    def storing(self, oid: str) -> Callable[[bytes, dict[str, str]], Answer]:
        def handle(body: bytes, _headers: dict[str, str]) -> Answer:
            self.stored[oid] = body
            return Answer()

        return handle

    def commit(self, body: bytes) -> Any:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                self.held[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                self.held[value["path"]] = self.stored[value["oid"]]
                self.large.append(value["path"])
        self.serve(COMMIT)
        return {"commitUrl": f"{self.server.url}/{self.repo}/commit/{COMMIT}", "commitOid": COMMIT}

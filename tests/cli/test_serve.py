"""`nsbgan serve`: what is refused before it serves, and what it serves."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import Run
from tiny import ship_tiny_weights

from nsbgan_infer.storage import hub

pytest.importorskip("uvicorn", reason="the service needs the extra serve")
pytest.importorskip("prometheus_client", reason="the service needs the extra serve")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[dict[str, Any]]:
    """What would have been served, and where."""
    from nsbgan_infer.serving import server

    seen = []

    def serve(app: object, *, ready: Callable[[str], None], **where: object) -> None:
        seen.append({"app": app, "offline": hub.is_offline(), **where})
        ready("http://127.0.0.1:8000/")

    monkeypatch.setattr(server, "serve", serve)
    ship_tiny_weights(tmp_path / "weights", monkeypatch)
    return seen


def test_the_embedded_preset_is_served_on_loopback_and_offline(run: Run, served: list[dict[str, Any]]) -> None:
    result = run("serve", "--port", "8123")
    assert "Serving on http://127.0.0.1:8000/ (docs at http://127.0.0.1:8000/docs)" in result.stderr
    assert "warning" not in result.stderr
    (one,) = served
    assert (one["host"], one["port"], one["offline"]) == ("127.0.0.1", 8123, True)
    from fastapi.testclient import TestClient

    with TestClient(one["app"]) as client:
        assert [p["name"] for p in client.get("/models").json()["presets"]] == ["embedded"]
        assert client.post("/generate", json={"class": 207, "resolution": 256}).status_code == 200


def test_an_open_address_without_a_token_is_warned_of(
    run: Run, served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "--token-file asks for a token" in run("serve", "--host", "0.0.0.0").stderr
    (tmp_path / "token").write_text("0123456789abcdef")
    assert "warning" not in run("serve", "--host", "0.0.0.0", "--token-file", "token").stderr
    assert len(served) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--preset", "embeded"], "did you mean embedded"),
        (["--preset", "../x"], "Unknown preset"),
        (["--ray-address", "auto"], "--ray-address goes with --ray"),
        (["--ray", "--replicas", "3", "2"], "the first number is the smaller one"),
        (["--token-file", "none"], "Cannot read the token"),
        (["--queue", "0"], "--queue"),
    ],
)
def test_what_is_refused(run: Run, arguments: list[str], says: str) -> None:
    assert says in run("serve", *arguments, code=2).stderr


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "prometheus_client"])
def test_without_a_package_the_extra_is_named(run: Run, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert "nsbgan-infer[serve]" in run("serve", code=2).stderr

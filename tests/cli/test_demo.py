"""`nsbgan demo`: what is refused before a page is served; the page itself is tested in tests/serving/."""

from __future__ import annotations

import socket
import sys

import pytest
from command import Run


def test_an_unknown_preset_is_named_with_its_neighbours(run: Run) -> None:
    assert "embedded" in run("demo", "--preset", "embeded", code=2).stderr


def test_without_gradio_the_extra_is_named(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert "[demo]" in run("demo", code=2).stderr


def test_a_port_that_is_taken_is_refused(run: Run) -> None:
    pytest.importorskip("gradio", reason="the web page needs the extra demo")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "choose another --port" in run("demo", "--port", port, code=2).stderr

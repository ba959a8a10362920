"""`nsbgan demo`: what is refused before a page is served; the page itself is tested in tests/serving/."""

from __future__ import annotations

import http.client
import logging
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

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
        assert "Choose another --port" in run("demo", "--port", port, code=2).stderr


@pytest.mark.slow  # a process of its own that imports torch and gradio
@pytest.mark.skipif(os.name == "nt", reason="this system has no SIGTERM")
def test_behind_a_proxy_the_page_is_served_and_sigterm_removes_what_it_made(tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="the web page needs the extra demo")
    environment = os.environ | {"TMPDIR": str(tmp_path), "http_proxy": "http://127.0.0.1:9", "NSBGAN_OFFLINE": "1"}
    page = subprocess.Popen(
        [sys.executable, "-m", "nsbgan_infer", "demo"], env=environment, stderr=subprocess.PIPE, text=True
    )
    assert page.stderr is not None
    try:
        said = page.stderr.readline()
        port = int(re.findall(r"Serving on http://127\.0\.0\.1:(\d+)/", said)[0])
        assert list(tmp_path.glob("nsbgan-demo-*"))
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        for path, expected in (("/", b"gradio"), ("/health", b'"ok"')):
            connection.request("GET", path)
            assert expected in connection.getresponse().read()
        connection.close()
    finally:
        page.send_signal(signal.SIGTERM)
        code = page.wait(60)
    assert code == 143
    assert not list(tmp_path.glob("nsbgan-demo-*"))


def test_serving_leaves_the_logging_of_the_process_alone(run: Run) -> None:
    """uvicorn's own configuration would close the handlers of others, such as absl's, which closes its stream."""
    pytest.importorskip("gradio", reason="the web page needs the extra demo")
    closed = []

    class Handler(logging.NullHandler):
        def close(self) -> None:
            closed.append(self)
            super().close()

    handler = Handler()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        run("demo", "--port", taken.getsockname()[1], code=2)
    assert closed == [] and handler is not None

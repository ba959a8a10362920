"""The Space in examples/space starts from its own folder, answers, and ends cleanly."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

import pytest
from extras import skip_without

skip_without("gradio", "prometheus_client", reason="the web page needs the extra demo")

SPACE = Path(__file__).resolve().parents[1] / "examples/space"


def test_the_header_names_what_is_there() -> None:
    yaml = pytest.importorskip("yaml", reason="reads the header of a Space")
    header = yaml.safe_load((SPACE / "README.md").read_text("utf-8").split("---")[1])
    assert header["sdk"] == "gradio" and (SPACE / header["app_file"]).is_file()
    assert len(header["short_description"]) <= 60
    assert "nsbgan-infer[demo,train]" in (SPACE / "requirements.txt").read_text("utf-8")  # train: photos are inverted


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
def test_it_serves_the_page_until_it_is_told_to_stop() -> None:
    with tempfile.TemporaryDirectory() as place:
        folder, scratch = Path(place) / "app", Path(place) / "tmp"
        shutil.copytree(SPACE, folder)
        scratch.mkdir()
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        env = {**os.environ, "GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1", "TMPDIR": str(scratch)}
        running = subprocess.Popen([sys.executable, "app.py"], cwd=folder, env=env, stderr=subprocess.PIPE, text=True)
        try:
            assert running.stderr is not None
            told = next((line for line in running.stderr if "Serving on" in line), "")
            address = re.search(r"http://\S+", told)
            assert address, running.stderr.read()
            page = urllib.request.urlopen(address[0], timeout=60).read()
            assert b'content="nsbgan"' in page
            assert len(list(scratch.glob("nsbgan-demo-*"))) == 1
            running.send_signal(signal.SIGTERM)
            assert "Traceback" not in running.stderr.read()
            running.wait(60)
        finally:
            running.kill()
        assert list(scratch.glob("nsbgan-demo-*")) == []

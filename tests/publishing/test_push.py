"""A pipeline or a component from Python to a Hub that runs on this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from local_server import LocalServer, serve
from push_server import COMMIT, PushServer
from tiny import tiny_decoder, tiny_pipeline

from nsbgan_infer import push_to_hub
from nsbgan_infer.errors import UsageError, WrongTypeError

REPO = "someone/thing"
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # inside huggingface_hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalServer]:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with serve() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_a_pipeline_and_a_decoder_go_with_a_card(hub: LocalServer, tmp_path: Path) -> None:
    taken = PushServer(hub, REPO)
    assert COMMIT in push_to_hub(tiny_pipeline(), REPO, private=True)
    assert taken.private is True
    assert json.loads(taken.held["model_index.json"])["name"] == "tiny"
    assert "sampler/model.safetensors" in taken.held and f"--pipeline {REPO}" in taken.held["README.md"].decode()
    push_to_hub(tiny_decoder(), REPO)
    assert "model.safetensors" in taken.held and f"--decoder hf://{REPO}" in taken.held["README.md"].decode()
    folder = tiny_pipeline().save_pretrained(tmp_path / "p")
    (folder / "README.md").write_text("my own words")
    push_to_hub(folder, REPO)
    assert taken.held["README.md"] == b"my own words"


def test_what_cannot_be_published() -> None:
    with pytest.raises(WrongTypeError, match="not a int"):
        push_to_hub(5, REPO)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="neither the folder of a component"):
        push_to_hub("nothing here", REPO)

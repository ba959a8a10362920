"""Several places to fetch BigGAN's files from: their order, the same check for each, and a folder of one's own."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from local_server import LocalServer, serve
from wheel_weights import random_biggan

from nsbgan_infer.errors import CheckpointError, OfflineError
from nsbgan_infer.samplers import biggan_mirrors, biggan_release
from nsbgan_infer.samplers.biggan_fetch import fetch_released
from nsbgan_infer.samplers.biggan_mirrors import HUB, mirrors
from nsbgan_infer.samplers.biggan_release import can_fetch, is_cached, source_of
from nsbgan_infer.storage import hub

NAME, FILE = "biggan-deep-128", "pytorch_model.bin"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("wheel") / FILE
    torch.save(random_biggan(128, 8), file)
    return file


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LocalServer, LocalServer]]:
    """The old address and the Hub."""
    with serve() as old, serve() as other:
        monkeypatch.setattr(biggan_release, "BASE_URL", old.url)
        monkeypatch.setattr(biggan_mirrors, "HUB", {NAME: f"{other.url}/{FILE}"})
        yield old, other
    hub.set_offline(False)


def test_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    first = source_of(NAME)
    assert [s.url for s in mirrors(NAME, first)] == [first.url, HUB[NAME]]
    assert [s.url for s in mirrors("biggan-deep-256", source_of("biggan-deep-256"))] == [
        source_of("biggan-deep-256").url
    ]
    monkeypatch.setenv("NSBGAN_MIRROR", "https://mirror.example/biggan/")
    asked = mirrors("biggan-deep-256", source_of("biggan-deep-256"))
    assert asked[0].url == f"https://mirror.example/biggan/biggan-deep-256-{FILE}"
    assert {(s.size, s.sha256) for s in asked} == {(asked[-1].size, asked[-1].sha256)} and asked[0].sha256
    monkeypatch.setenv("NSBGAN_BIGGAN_URL", "https://other.example")
    assert [s.url.split("/")[2] for s in mirrors(NAME, source_of(NAME))] == ["mirror.example", "other.example"]


def test_the_next_one_is_tried_where_one_fails(servers: tuple[LocalServer, LocalServer], checkpoint: Path) -> None:
    old, other = servers
    other.put(f"/{FILE}", checkpoint)  # the old address has nothing
    assert can_fetch(NAME)
    fetch_released(NAME)
    assert is_cached(NAME) and other.requests[-1] == f"GET /{FILE}"
    assert f"GET /{NAME}-{FILE}" in old.requests


def test_what_is_damaged_in_one_place_is_taken_from_the_next(
    servers: tuple[LocalServer, LocalServer], checkpoint: Path, private_cache: Path
) -> None:
    old, other = servers
    old.put(f"/{NAME}-{FILE}", checkpoint.read_bytes()[:-100])
    other.put(f"/{FILE}", checkpoint)
    fetch_released(NAME)
    digest = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert digest in (private_cache / "recorded.json").read_text()


def test_where_all_fail_each_says_why_and_nothing_is_left(
    servers: tuple[LocalServer, LocalServer], private_cache: Path
) -> None:
    old, other = servers
    with pytest.raises(CheckpointError) as caught:
        fetch_released(NAME)
    assert old.url in str(caught.value) and other.url in str(caught.value)
    assert not [p for p in private_cache.rglob("*") if p.is_file()]


def test_a_folder_of_this_machine_serves_without_a_network(
    monkeypatch: pytest.MonkeyPatch, checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copy(checkpoint, tmp_path / f"{NAME}-{FILE}")
    monkeypatch.setenv("NSBGAN_MIRROR", str(tmp_path))
    hub.set_offline()
    try:
        assert can_fetch(NAME)
        fetch_released(NAME)
        assert is_cached(NAME) and (tmp_path / f"{NAME}-{FILE}").is_file()
        with pytest.raises(OfflineError):  # not in the folder
            fetch_released("biggan-deep-512")
        shutil.copy(checkpoint, tmp_path / f"biggan-deep-256-{FILE}")
        with pytest.raises(CheckpointError, match="is not the file that was expected"):
            fetch_released("biggan-deep-256")
    finally:
        hub.set_offline(False)


def test_a_server_of_ones_own_is_asked_first(
    servers: tuple[LocalServer, LocalServer], monkeypatch: pytest.MonkeyPatch, checkpoint: Path
) -> None:
    with serve() as own:
        monkeypatch.setenv("NSBGAN_MIRROR", own.url)
        own.put(f"/{NAME}-{FILE}", checkpoint)
        fetch_released(NAME)
        assert own.requests == [f"GET /{NAME}-{FILE}"] and not servers[0].requests

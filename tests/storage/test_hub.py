"""Fetching from plain addresses and from repositories, against a server on this machine."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from local_server import Answer, LocalServer, serve
from push_server import COMMIT, PushServer
from tiny import tiny_decoder

from nsbgan_infer.errors import CheckpointError, OfflineError, UsageError, WorkError
from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.registry import load_decoder, load_sampler
from nsbgan_infer.storage import hub
from nsbgan_infer.storage.components import read_header, save_component
from nsbgan_infer.storage.hub import (
    Source,
    fetch_header,
    fetch_listing,
    fetch_repo,
    fetch_url,
    hub_reachable,
    network_reachable,
    parse_ref,
    push_files,
)

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")  # inside huggingface_hub
BODY = b"weights" * 1000
DIGEST = hashlib.sha256(BODY).hexdigest()
REPO = "someone/decoder"


@pytest.fixture
def server() -> Iterator[LocalServer]:
    with serve() as running:
        yield running


@pytest.fixture(autouse=True)
def online() -> Iterator[None]:
    yield
    hub.set_offline(False)


def sentences(error: pytest.ExceptionInfo[BaseException]) -> str:
    """The message, which must be one line without a traceback or another program's advice."""
    text = str(error.value)
    assert "\n" not in text and "Traceback" not in text
    assert text.endswith(".")
    return text


def test_fetched_once_and_checked(server: LocalServer, tmp_path: Path) -> None:
    server.put("/a/model.bin", BODY)
    source = Source(f"{server.url}/a/model.bin", len(BODY), DIGEST.upper())
    file = fetch_url(source, tmp_path / "new" / "folder")
    assert file.name == "model.bin" and file.read_bytes() == BODY
    assert fetch_url(source, file.parent) == file
    assert server.requests == ["GET /a/model.bin"]
    assert list(file.parent.iterdir()) == [file]


def test_a_damaged_file_in_the_cache_is_fetched_again(server: LocalServer, tmp_path: Path) -> None:
    server.put("/model.bin", BODY)
    (tmp_path / "model.bin").write_bytes(b"half")
    assert fetch_url(Source(f"{server.url}/model.bin", sha256=DIGEST), tmp_path).read_bytes() == BODY


@pytest.mark.parametrize(
    ("how", "source", "error", "says"),
    [
        ({"cut": 10}, {"size": len(BODY)}, CheckpointError, "6,990 bytes instead of 7,000"),
        ({"cut": 10}, {"sha256": DIGEST}, CheckpointError, "SHA-256"),
        ({}, {"sha256": "0" * 64}, CheckpointError, "SHA-256"),
        ({}, {"size": 1}, CheckpointError, "instead of 1"),
        ({"status": 404}, {}, CheckpointError, "answered 404"),
        ({"status": 403}, {}, CheckpointError, "answered 403"),
        ({"status": 500}, {}, CheckpointError, "answered 500"),
    ],
)
def test_what_is_wrong_is_refused_and_leaves_nothing(
    server: LocalServer,
    tmp_path: Path,
    how: dict[str, int],
    source: dict[str, object],
    error: type[Exception],
    says: str,
) -> None:
    server.put("/model.bin", BODY, **how)
    with pytest.raises(error) as caught:
        fetch_url(Source(f"{server.url}/model.bin", **source), tmp_path)  # type: ignore[arg-type]
    assert says in sentences(caught)
    assert list(tmp_path.iterdir()) == []


def test_nobody_answers(tmp_path: Path) -> None:
    with serve() as gone:
        url = gone.url
    with pytest.raises(OfflineError) as caught:
        fetch_url(Source(f"{url}/model.bin"), tmp_path)
    assert "cannot be reached" in sentences(caught)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("variable", ["NSBGAN_OFFLINE", "HF_HUB_OFFLINE", None])
def test_offline_means_no_request(
    server: LocalServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str | None
) -> None:
    server.put("/model.bin", BODY)
    source = Source(f"{server.url}/model.bin", sha256=DIGEST)
    if variable:
        monkeypatch.setenv(variable, "1")
    else:
        hub.set_offline()
    assert hub.is_offline()
    with pytest.raises(OfflineError) as caught:
        fetch_url(source, tmp_path)
    assert "--offline" in sentences(caught)
    with pytest.raises(OfflineError):
        fetch_repo(REPO)
    assert not network_reachable(source.url)
    (tmp_path / "model.bin").write_bytes(BODY)
    assert fetch_url(source, tmp_path).read_bytes() == BODY
    assert server.requests == []


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/model.bin", "model.bin", "data:,x"])
def test_only_web_addresses(url: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="http"):
        fetch_url(Source(url), tmp_path)


@pytest.mark.parametrize("name", ["", "..", "%2e%2e", ".hidden", "a%00b", "a\\b"])
def test_the_address_cannot_choose_another_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="plain file name"):
        fetch_url(Source(f"http://127.0.0.1:9/{name}"), tmp_path)


def test_the_folder_cannot_be_written(server: LocalServer, tmp_path: Path) -> None:
    server.put("/model.bin", BODY)
    (tmp_path / "file").write_text("no folder")
    with pytest.raises((UsageError, WorkError), match="Cannot write"):
        fetch_url(Source(f"{server.url}/model.bin"), tmp_path / "file")


def test_reachable(server: LocalServer) -> None:
    server.put("/there", BODY)
    assert network_reachable(f"{server.url}/there")
    assert not network_reachable(f"{server.url}/missing")
    assert server.requests == ["HEAD /there", "HEAD /missing"]
    assert not network_reachable("http://127.0.0.1:1/")
    assert not network_reachable("nonsense")


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NSBGAN_CACHE", str(tmp_path / "c"))
    assert hub.cache_dir() == tmp_path / "c" and not (tmp_path / "c").exists()
    monkeypatch.delenv("NSBGAN_CACHE")
    assert hub.cache_dir() == Path.home() / ".cache" / "nsbgan"


def test_references() -> None:
    assert parse_ref("hf://a/b") == ("a/b", None)
    assert parse_ref("hf://Some-One/de_coder.v2@v1.0") == ("Some-One/de_coder.v2", "v1.0")
    assert parse_ref("hf://a/b@refs/pr/3") == ("a/b", "refs/pr/3")


@pytest.mark.parametrize(
    "ref",
    ["a/b", "hf://a", "hf://a/b/c", "hf://a/b@", "hf://../b", "hf://a/..", "hf://a/b@../c", "hf://a/b\n", "hf:// a/b",
     "hf://a\\b/c", "hf:///b", "hf://a/.b", "hf://a/b@-x", "hf://a/b?x=1", "hf://a--b/c", "hf://a/b\0"],
)  # fmt: skip
def test_references_are_strict(ref: str) -> None:
    with pytest.raises(UsageError, match="hf://owner/name"):
        parse_ref(ref)


@given(st.text(max_size=30))
def test_no_reference_leaves_its_folder(text: str) -> None:
    try:
        repo, revision = parse_ref(f"hf://{text}")
    except UsageError:
        return
    for part in (*repo.split("/"), *(revision or "x").split("/")):
        assert ".." not in part and not set(part) & set("\\:\0 ")
    assert len(repo.split("/")) == 2


@pytest.fixture
def hf(server: LocalServer, monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    return server


FILES = {"config.json": b"{}", "model.safetensors": BODY, "README.md": b"# card"}


def test_repository_brings_safe_files_only_and_once(hf: LocalServer) -> None:
    hf.put_repo(REPO, FILES | {"pytorch_model.bin": b"pickle", "train.py": b"import os", "sub/config.json": b"{}"})
    folder = fetch_repo(REPO)
    brought = {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert brought == FILES | {"sub/config.json": b"{}"}
    asked = len(hf.requests)
    assert fetch_repo(REPO) == folder
    hub.set_offline()
    assert fetch_repo(REPO) == folder
    assert len(hf.requests) == asked, "what the cache holds is not asked for again"


def test_revision_is_pinned(hf: LocalServer) -> None:
    hf.put_repo(REPO, {"config.json": b'{"v": 1}'}, commit="1" * 40, revision="v1")
    hf.put_repo(REPO, {"config.json": b'{"v": 2}'}, commit="2" * 40, revision="main")
    assert (fetch_repo(REPO, revision="v1") / "config.json").read_bytes() == b'{"v": 1}'
    assert (fetch_repo(REPO) / "config.json").read_bytes() == b'{"v": 2}'
    assert (fetch_repo(REPO, revision="1" * 40) / "config.json").read_bytes() == b'{"v": 1}'


def test_an_interrupted_download_is_completed(hf: LocalServer) -> None:
    hf.put_repo(REPO, FILES)
    weights = f"/{REPO}/resolve/{'a' * 40}/model.safetensors"
    whole = hf.answers[weights]
    hf.put(weights, b"", status=403)
    with pytest.raises(CheckpointError) as caught:
        fetch_repo(REPO)
    assert REPO in sentences(caught)
    hf.answers[weights] = whole
    assert (fetch_repo(REPO) / "model.safetensors").read_bytes() == BODY


def test_a_broken_connection_is_resumed_where_it_broke(hf: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 500)  # what arrived is kept in such pieces
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _seconds: None)
    hf.put_repo(REPO, FILES)
    weights = hf.answers[f"/{REPO}/resolve/{'a' * 40}/model.safetensors"]
    weights.cut, weights.cuts = 2500, 1
    assert (fetch_repo(REPO) / "model.safetensors").read_bytes() == BODY
    assert weights.cuts == 0 and hf.ranges == ["bytes=4500-"]


def test_a_connection_that_keeps_breaking_leaves_nothing_to_load(
    hf: LocalServer, private_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.file_download.time.sleep", lambda _seconds: None)
    hf.put_repo(REPO, FILES)
    weights = hf.answers[f"/{REPO}/resolve/{'a' * 40}/model.safetensors"]
    weights.cut = len(BODY)
    with pytest.raises(OfflineError) as caught:
        fetch_repo(REPO)
    assert REPO in sentences(caught)
    assert not list(private_cache.rglob("model.safetensors"))
    hub.set_offline()
    with pytest.raises(OfflineError, match="not in the cache"):
        fetch_repo(REPO)


def test_a_file_that_is_listed_but_missing(hf: LocalServer) -> None:
    hf.put_repo(REPO, FILES)
    del hf.answers[f"/{REPO}/resolve/{'a' * 40}/model.safetensors"]
    with pytest.raises(CheckpointError) as caught:
        load_decoder(f"hf://{REPO}")
    assert REPO in sentences(caught)


@pytest.mark.parametrize("load", [load_decoder, load_sampler])
def test_a_repository_without_weights_of_ours(hf: LocalServer, load: Callable[[str], object]) -> None:
    hf.put_repo(REPO, {"config.json": b"{}", "README.md": b"# card"})
    with pytest.raises(CheckpointError, match="nsbgan models --remote") as caught:
        load(f"hf://{REPO}")
    assert REPO in sentences(caught)
    with pytest.raises(CheckpointError, match="not the repository of a pipeline") as caught:
        NsbPipeline.from_pretrained(REPO)
    assert REPO in sentences(caught)


@pytest.mark.parametrize("name", ["../../evil.json", "/tmp/evil.json", "a/../../../../evil.json"])
def test_hostile_file_names(hf: LocalServer, private_cache: Path, name: str) -> None:
    hf.put_repo(REPO, {"config.json": b"{}", name: b"evil"})
    with pytest.raises(CheckpointError) as caught:
        fetch_repo(REPO)
    assert REPO in sentences(caught)
    assert not list(private_cache.parent.rglob("evil.json")) and not Path("/tmp/evil.json").exists()


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (404, "RepoNotFound", "does not exist"),
        (404, "RevisionNotFound", "has no revision 'v9'"),
        (403, "GatedRepo", "log-in"),
        (401, "", "log-in|hf auth login"),
        (500, "", "answered 500|cannot be reached|cannot be fetched"),
    ],
)
def test_what_the_hub_refuses(hf: LocalServer, status: int, code: str, says: str) -> None:
    headers = {"X-Error-Code": code} if code else {}
    hf.put(f"/api/models/{REPO}/revision/v9", b"{}", status=status, headers=headers)
    with pytest.raises(CheckpointError, match=says) as caught:
        fetch_repo(REPO, revision="v9")
    assert REPO in sentences(caught)


def test_the_hub_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve() as gone:
        monkeypatch.setenv("HF_ENDPOINT", gone.url)
    with pytest.raises(OfflineError) as caught:
        fetch_repo(REPO)
    assert "cannot be reached" in sentences(caught)


def test_a_listing_and_a_header_fetch_no_weights(hf: LocalServer, tmp_path: Path, private_cache: Path) -> None:
    file = save_component(tiny_decoder(), tmp_path / "d.safetensors")
    body = file.read_bytes()
    hf.put_repo(REPO, FILES | {"model.safetensors": body}, private=True)
    listing = fetch_listing(REPO)
    assert (listing.commit, listing.private) == ("a" * 40, True)
    assert listing.files == {"config.json": 2, "model.safetensors": len(body), "README.md": 6}
    header = fetch_header(listing, "model.safetensors")
    ours = read_header(file)
    assert header["__metadata__"] == ours["__metadata__"] and header.keys() == ours.keys()
    assert all(header[k]["shape"] == ours[k]["shape"] for k in header if k != "__metadata__")
    assert hf.ranges == ["bytes=0-100000"] and not list(private_cache.rglob("*.safetensors"))


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff" * 40, b"\x02\0\0\0\0\0\0\0{]", b"\x02\0\0\0\0\0\0\0[]"])
def test_a_header_that_is_none(hf: LocalServer, body: bytes) -> None:
    hf.put_repo(REPO, {"model.safetensors": body})
    with pytest.raises(CheckpointError) as caught:
        fetch_header(fetch_listing(REPO), "model.safetensors")
    assert REPO in sentences(caught)


def test_the_hub_is_there_or_not(hf: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hf.put("/", b"welcome")
    assert hub_reachable()
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    assert not hub_reachable()


@pytest.fixture
def logged_in(hf: LocalServer, monkeypatch: pytest.MonkeyPatch) -> LocalServer:
    """huggingface_hub with a token, and with its route for large files that needs no other server."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setenv("HF_TOKEN", "secret")
    return hf


def test_what_is_pushed_is_what_is_fetched(logged_in: LocalServer, tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(BODY)
    hub_side = PushServer(logged_in, REPO)
    content: dict[str, Path | bytes] = {
        "config.json": b"{}",
        "part/model.safetensors": tmp_path / "weights",
        "README.md": b"# card",
    }
    assert push_files(REPO, content, message="Upload") == f"{logged_in.url}/{REPO}/commit/{COMMIT}"
    assert hub_side.held == {"config.json": b"{}", "part/model.safetensors": BODY, "README.md": b"# card"}
    assert hub_side.large == ["part/model.safetensors"] and hub_side.private is False
    assert (fetch_repo(REPO) / "part" / "model.safetensors").read_bytes() == BODY
    assert fetch_repo(REPO, revision=COMMIT) == fetch_repo(REPO)


def test_private_means_private(logged_in: LocalServer) -> None:
    made = PushServer(logged_in, REPO)
    push_files(REPO, {"config.json": b"{}"}, private=True, message="Upload")
    assert made.private and made.held
    public = PushServer(logged_in, "someone/public", private=False)
    with pytest.raises(UsageError, match="exists and is public"):
        push_files("someone/public", {"config.json": b"{}"}, private=True, message="Upload")
    assert not public.held
    there = PushServer(logged_in, "someone/private", private=True)
    push_files("someone/private", {"config.json": b"{}"}, private=True, message="Upload")
    assert there.held == {"config.json": b"{}"}


def test_pushing_needs_a_log_in_that_may_write(logged_in: LocalServer, monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = PushServer(logged_in, REPO)
    monkeypatch.setenv("HF_TOKEN", "expired")
    with pytest.raises(CheckpointError) as caught:
        push_files(REPO, {"config.json": b"{}"}, message="Upload")
    assert "401" in sentences(caught) and "`hf auth login`" in str(caught.value)
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nowhere/token")
    asked = len(logged_in.requests)
    with pytest.raises(UsageError, match="`hf auth login`"):
        push_files(REPO, {"config.json": b"{}"}, message="Upload")
    assert len(logged_in.requests) == asked and not refusing.held


def test_what_the_hub_says_of_a_card_reaches_the_user(logged_in: LocalServer) -> None:
    held = PushServer(logged_in, REPO).held
    refusal = b'{"errors": [{"message": "license must be one of a list"}], "warnings": []}'
    logged_in.handlers["POST /api/validate-yaml"] = lambda _body, _headers: Answer(refusal, 400)
    with pytest.raises(CheckpointError, match="license must be one of a list") as caught:
        push_files(REPO, {"README.md": b"# card"}, message="Upload")
    assert REPO in sentences(caught) and not held


@pytest.mark.parametrize("path", [f"/api/models/{REPO}/commit/main", f"/{REPO}.git/info/lfs/objects/batch"])
def test_a_push_that_fails_on_the_way_is_one_sentence(logged_in: LocalServer, tmp_path: Path, path: str) -> None:
    held = PushServer(logged_in, REPO).held
    logged_in.handlers[f"POST {path}"] = lambda _body, _headers: Answer(b"", 418)
    (tmp_path / "weights").write_bytes(BODY)
    with pytest.raises(CheckpointError) as caught:
        push_files(REPO, {"model.safetensors": tmp_path / "weights"}, message="Upload")
    assert "cannot be published" in sentences(caught) and not held


def test_offline_pushes_and_lists_nothing(logged_in: LocalServer) -> None:
    hub.set_offline()
    for work in (lambda: push_files(REPO, {"a": b"b"}, message="Upload"), lambda: fetch_listing(REPO)):
        with pytest.raises(OfflineError, match="without --offline"):
            work()
    assert not hub_reachable() and logged_in.requests == []


def test_importing_is_light() -> None:
    code = "import sys, nsbgan_infer.storage.hub; print([m for m in ('torch', 'huggingface_hub') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_what_may_have_been_meant_as_a_folder_is_named_as_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NSBGAN_OFFLINE", "1")
    with pytest.raises(OfflineError, match=r"no folder 'runs/typo' here, and as a repository of the Hub: runs/"):
        NsbPipeline.from_pretrained("runs/typo")
    with pytest.raises(OfflineError, match=r"^runs/typo is not in the cache"):
        NsbPipeline.from_pretrained("hf://runs/typo")

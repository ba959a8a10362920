"""Where weights come from and where they can go: plain addresses with a checksum, and repositories on the Hugging Face
Hub (HF_ENDPOINT names another server with its routes).

Nothing here asks the network unless a `fetch_*` or `push_*` function or `*_reachable` is called, and `fetch_url` and
`fetch_repo` do not for what the cache holds. Offline (`set_offline`, NSBGAN_OFFLINE=1 or HF_HUB_OFFLINE=1) means that
no request is sent at all.
"""

from __future__ import annotations

import http.client
import os
import re
import socket
import sys
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsbgan_infer.errors import CheckpointError, OfflineError, UsageError
from nsbgan_infer.storage.files import atomic_path, check_plain_name, sha256_of, writable_folder

if TYPE_CHECKING:
    from huggingface_hub import HfApi

HUB = "https://huggingface.co"
SAFE_FILES = ("*.json", "*.safetensors", "*.md")  # what a repository may bring: never a pickle, never code
STALLED_AFTER = 60.0  # seconds without a byte
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}"
_REVISION = r"[A-Za-z0-9][A-Za-z0-9._/-]{0,199}"

_offline = False
_quiet = False


@dataclass(frozen=True)
class Source:
    """One file at a plain address: `size` in bytes and `sha256` in hexadecimal, where they are known."""

    url: str
    size: int | None = None
    sha256: str | None = None


@dataclass(frozen=True)
class Listing:
    """What a Hub repository holds at `commit`: `files` maps names, which others chose, to sizes in bytes."""

    repo: str
    commit: str
    private: bool
    files: dict[str, int]


def cache_dir() -> Path:
    """The folder of fetched and converted weights: $NSBGAN_CACHE, else ~/.cache/nsbgan. It may not exist yet."""
    return Path(os.environ.get("NSBGAN_CACHE") or "~/.cache/nsbgan").expanduser()


def set_offline(offline: bool = True) -> None:
    """Refuse the network in this process (the command's `--offline`), whatever the environment says."""
    global _offline
    _offline = offline


def set_quiet(quiet: bool = True) -> None:
    """Show no progress bars while fetching in this process (the command's `--quiet`)."""
    global _quiet
    _quiet = quiet


def is_offline() -> bool:
    """Whether the network is refused."""
    return _offline or any(
        os.environ.get(name, "").strip().lower() in ("1", "true", "yes", "on")
        for name in ("NSBGAN_OFFLINE", "HF_HUB_OFFLINE")
    )


def network_reachable(url: str, *, timeout: float = 3.0) -> bool:
    """Whether the file at `url` answers within `timeout` seconds, name look-up included; False offline."""
    if is_offline():
        return False
    answered: list[bool] = []

    def ask() -> None:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=timeout):
                answered.append(True)
        except (OSError, ValueError, http.client.HTTPException):
            pass

    # a name look-up has no time limit of its own, so it is left behind in a thread
    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(timeout)
    return bool(answered)


def hub_reachable(*, timeout: float = 3.0) -> bool:
    """Whether the Hub answers within `timeout` seconds; False offline."""
    return network_reachable(_endpoint() or HUB, timeout=timeout)


def fetch_url(source: Source, folder: Path) -> Path:
    """Fetch one file into `folder` under the last part of its address; one that is there already is not fetched again.

    Shows a progress bar if standard error is a terminal. Raises OfflineError if the network is refused or does
    not answer, CheckpointError if the address is wrong or what came has another size or SHA-256, WorkError if the
    disk is full. Only a complete, checked file stays.
    """
    url = urllib.parse.urlsplit(source.url)
    if url.scheme not in ("http", "https"):
        raise UsageError(f"Weights are fetched from http or https addresses only, not from {source.url}.")
    file = folder / check_plain_name(url.path.rpartition("/")[2], Path(source.url))
    if file.is_file() and _mismatch(file, source) is None:
        return file
    if is_offline():
        raise OfflineError(f"{file.name} is not in the cache and the network is refused: run without --offline once.")
    writable_folder(folder, what="cache folder")
    with atomic_path(file) as part:
        _download(source, part)
        if wrong := _mismatch(part, source):
            raise CheckpointError(
                f"What {source.url} sent is not the file that was expected: {wrong}. Try again later."
            )
    return file


def check_file(file: Path, source: Source) -> None:
    """Raise CheckpointError unless a file of this machine is the one that `source` describes."""
    if wrong := _mismatch(file, source):
        raise CheckpointError(f"{file} is not the file that was expected: {wrong}.")


def _download(source: Source, part: Path) -> None:
    from torch.hub import download_url_to_file

    try:
        with _socket_timeout(STALLED_AFTER):
            download_url_to_file(source.url, str(part), progress=sys.stderr.isatty() and not _quiet)
    except urllib.error.HTTPError as error:
        raise CheckpointError(
            f"{source.url} cannot be fetched: the server answered {error.code} ({error.reason}). "
            "If you have the file, give its path instead."
        ) from error
    except (urllib.error.URLError, ConnectionError, TimeoutError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise OfflineError(
            f"{source.url} cannot be reached ({reason}): check the network, or give the path of a file that you have."
        ) from error


def _mismatch(file: Path, source: Source) -> str | None:
    """What is wrong with a fetched file, or None."""
    size = file.stat().st_size
    if source.size is not None and size != source.size:
        return f"it has {size:,} bytes instead of {source.size:,}"
    if source.sha256 and (digest := sha256_of(file)) != source.sha256.lower():
        return f"its SHA-256 is {digest} instead of {source.sha256}"
    return None


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    """torch.hub sets no time limit of its own, so a server that falls silent would hold us for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def parse_ref(ref: str) -> tuple[str, str | None]:
    """`hf://owner/repo[@revision]` -> (`owner/repo`, revision or None). Raises UsageError for anything else."""
    match = re.fullmatch(rf"hf://({_NAME}/{_NAME})(?:@({_REVISION}))?", ref)
    if not match or ".." in ref or "--" in match[1]:
        raise UsageError(
            f"'{ref.removeprefix('hf://')}' names no repository on the Hub: write owner/name (hf://owner/name for a "
            "decoder or a sampler), and @revision after it for another than the newest."
        )
    return match[1], match[2]


def fetch_repo(repo: str, *, revision: str | None = None, allow: tuple[str, ...] = SAFE_FILES) -> Path:
    """The folder with the files of a Hub repository that match `allow`: from the cache if it is complete there.

    A revision that was fetched once is not asked for again; to see a branch's news, name the new commit. Raises
    OfflineError if it is not in the cache and the network is refused or does not answer, CheckpointError if the
    repository or the revision does not exist, or asks for a log-in.
    """
    repo, revision = _checked(repo, revision)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    where = _hub_cache()
    patterns = list(allow)
    try:
        return Path(
            snapshot_download(
                repo, revision=revision, cache_dir=where, allow_patterns=patterns, endpoint=_endpoint(),
                local_files_only=True,
            )
        )  # fmt: skip
    except (LocalEntryNotFoundError, OSError) as error:
        if is_offline():
            raise OfflineError(
                f"{_label(repo, revision)} is not in the cache and the network is refused: run without --offline once."
            ) from error
    _bars()
    with _hub_errors(repo, revision):
        return Path(
            snapshot_download(repo, revision=revision, cache_dir=where, allow_patterns=patterns, endpoint=_endpoint())
        )


def fetch_listing(repo: str, *, revision: str | None = None) -> Listing:
    """What a repository holds now, asked from the Hub. Raises as `fetch_repo`."""
    repo, revision = _checked(repo, revision)
    _need_network(f"The content of {_label(repo, revision)}")
    with _hub_errors(repo, revision):
        info = _api().model_info(repo, revision=revision, files_metadata=True)
        files = {s.rfilename: s.size or 0 for s in info.siblings or []}
        return Listing(repo, str(info.sha), bool(info.private), files)


def fetch_header(listing: Listing, file: str) -> dict[str, Any]:
    """The header of a safetensors file in a repository, as `components.read_header` returns it; no weights are fetched.

    Raises as `fetch_repo`, and CheckpointError for a file that is not safetensors.
    """
    from huggingface_hub.errors import SafetensorsParsingError

    with _hub_errors(listing.repo, listing.commit):
        try:
            found = _api().parse_safetensors_file_metadata(listing.repo, file, revision=listing.commit)
        except (SafetensorsParsingError, AttributeError, KeyError, TypeError) as error:
            raise CheckpointError(f"{file} of {listing.repo} is not a safetensors file that can be read.") from error
    tensors = {name: {"dtype": t.dtype, "shape": list(t.shape)} for name, t in found.tensors.items()}
    return {"__metadata__": found.metadata, **tensors}


def push_files(repo: str, files: Mapping[str, Path | bytes], *, private: bool = False, message: str) -> str:
    """Put `files` (name in the repository -> file or content) into `repo` in one commit; returns its address.

    The repository is made if it does not exist; one that is there keeps its other files, and is refused if it is public
    and `private` is asked for. The log-in is huggingface_hub's own. Raises UsageError without one, CheckpointError for
    what the Hub refuses, OfflineError if it does not answer.
    """
    repo, _ = _checked(repo, None)
    _need_network(f"Publishing to {repo}")
    from huggingface_hub import CommitOperationAdd, get_token

    if not get_token():
        raise UsageError(f"Publishing to {repo} needs a log-in: run `hf auth login` with a token that may write.")
    _bars()
    with _hub_errors(repo, None, writing=True):
        api = _api()
        api.create_repo(repo, private=private or None, exist_ok=True)
        if private and not api.model_info(repo).private:
            raise UsageError(f"{repo} exists and is public: choose another name, or make it private on the Hub first.")
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        return str(api.create_commit(repo, operations, commit_message=message).commit_url)


@contextmanager
def _hub_errors(repo: str, revision: str | None, *, writing: bool = False) -> Iterator[None]:
    """Turn what huggingface_hub raises into one sentence each."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    label = _label(repo, revision)
    do, done = ("write", "published") if writing else ("read", "fetched")
    log_in = f"run `hf auth login` with an account that may {do} it"
    try:
        yield
    except (CheckpointError, UsageError):
        raise
    except GatedRepoError as error:
        raise CheckpointError(f"{label} asks for a log-in and for its terms to be accepted: {log_in}.") from error
    except RevisionNotFoundError as error:
        raise CheckpointError(
            f"{repo} has no revision '{revision}' on the Hub: leave it out, or look it up."
        ) from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{label} does not exist on the Hub, or is private: check its name, or {log_in}."
        ) from error
    except LocalEntryNotFoundError as error:
        raise OfflineError(
            f"{label} is not in the cache and the Hub cannot be reached: check the network and try again."
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403):
            may = "written" if writing else "read"
            raise CheckpointError(f"{label} may not be {may} (the Hub answered {status}): {log_in}.") from error
        raise CheckpointError(f"{label} cannot be {done}: the Hub answered {status}. Try again later.") from error
    except ValueError as error:
        why = f"the Hub does not take it: {str(error)[:300]}" if writing else "its names or answers are not a Hub's"
        raise CheckpointError(f"{label} is refused, {why}.") from error
    except Exception as error:  # the transport's own errors, whose package is huggingface_hub's affair
        reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise OfflineError(f"{label} cannot be {done} ({reason}): check the network and try again.") from error


def _checked(repo: str, revision: str | None) -> tuple[str, str | None]:
    return parse_ref(f"hf://{repo}@{revision}" if revision else f"hf://{repo}")


def _need_network(what: str) -> None:
    if is_offline():
        raise OfflineError(f"{what} needs the network, which is refused: run without --offline.")


def _api() -> HfApi:
    from huggingface_hub import HfApi

    return HfApi(endpoint=_endpoint(), library_name="nsbgan_infer")


def _bars() -> None:
    """No progress bars of huggingface_hub with `--quiet`, or where nobody sees them."""
    if _quiet or not sys.stderr.isatty():
        from huggingface_hub.utils.tqdm import disable_progress_bars

        disable_progress_bars()


def _endpoint() -> str | None:
    """Another server than huggingface.co; read at each call, as the environment may change."""
    return os.environ.get("HF_ENDPOINT") or None


def _hub_cache() -> Path:
    """huggingface_hub's own cache, shared with other programs; read at each call, as the environment may change."""
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or f"{home}/hub").expanduser()


def _label(repo: str, revision: str | None) -> str:
    return f"{repo}@{revision}" if revision else repo

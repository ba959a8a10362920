"""Where weights come from: plain addresses with a checksum, and repositories on the Hugging Face Hub.

Nothing here asks the network unless a `fetch_*` function is called, and none of them does for what the cache holds.
Offline (`set_offline`, NSBGAN_OFFLINE=1 or HF_HUB_OFFLINE=1) means that no request is sent at all.
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
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from nsbgan_infer.errors import CheckpointError, OfflineError, UsageError
from nsbgan_infer.files import atomic_path, check_plain_name, sha256_of, writable_folder

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
        raise UsageError(f"'{ref}' names no repository on the Hub: write hf://owner/name or hf://owner/name@revision.")
    return match[1], match[2]


def fetch_repo(repo: str, *, revision: str | None = None, allow: tuple[str, ...] = SAFE_FILES) -> Path:
    """The folder with the files of a Hub repository that match `allow`: from the cache if it is complete there.

    A revision that was fetched once is not asked for again; to see a branch's news, name the new commit. Raises
    OfflineError if it is not in the cache and the network is refused or does not answer, CheckpointError if the
    repository or the revision does not exist, or asks for a log-in.
    """
    repo, revision = parse_ref(f"hf://{repo}@{revision}" if revision else f"hf://{repo}")
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError
    from huggingface_hub.utils.tqdm import disable_progress_bars

    endpoint = os.environ.get("HF_ENDPOINT") or None
    where = _hub_cache()
    patterns = list(allow)
    try:
        return Path(
            snapshot_download(
                repo, revision=revision, cache_dir=where, allow_patterns=patterns, endpoint=endpoint,
                local_files_only=True,
            )
        )  # fmt: skip
    except (LocalEntryNotFoundError, OSError) as error:
        if is_offline():
            raise OfflineError(
                f"{_label(repo, revision)} is not in the cache and the network is refused: run without --offline once."
            ) from error
    if _quiet:
        disable_progress_bars()
    with _hub_errors(repo, revision):
        return Path(
            snapshot_download(repo, revision=revision, cache_dir=where, allow_patterns=patterns, endpoint=endpoint)
        )


@contextmanager
def _hub_errors(repo: str, revision: str | None) -> Iterator[None]:
    """Turn what huggingface_hub raises into one sentence each."""
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        LocalEntryNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    label = _label(repo, revision)
    log_in = "run `hf auth login` with an account that may read it"
    try:
        yield
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
            raise CheckpointError(f"{label} may not be read (the Hub answered {status}): {log_in}.") from error
        raise CheckpointError(f"{label} cannot be fetched: the Hub answered {status}. Try again later.") from error
    except ValueError as error:
        raise CheckpointError(f"{label} is refused, because it names files that no repository should hold.") from error
    except Exception as error:  # the transport's own errors, whose package is huggingface_hub's affair
        reason = (str(error).splitlines() or [""])[0][:200] or type(error).__name__
        raise OfflineError(f"{label} cannot be fetched ({reason}): check the network and try again.") from error


def _hub_cache() -> Path:
    """huggingface_hub's own cache, shared with other programs; read at each call, as the environment may change."""
    home = os.environ.get("HF_HOME") or "~/.cache/huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or f"{home}/hub").expanduser()


def _label(repo: str, revision: str | None) -> str:
    return f"{repo}@{revision}" if revision else repo

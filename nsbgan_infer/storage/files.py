"""Files are written whole or not at all, and names read from a file never leave its folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from nsbgan_infer.errors import CheckpointError, UsageError, WorkError

NAME_LIMIT = 255  # bytes of a file's name, on all usual file systems


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`; what the block wrote there replaces `path` when it ends without an error.

    Raises WorkError when the disk is full or the folder vanished; nothing half-written stays.
    """
    ending = f".{secrets.token_hex(4)}.part"
    start = path.name
    while len(os.fsencode(start)) > NAME_LIMIT - len(ending) - 1:
        start = start[:-1]
    part = path.parent / f".{start}{ending}"  # named before it is made: Ctrl-C may come between
    try:
        part.open("xb").close()
        mode = part.stat().st_mode
        yield part
        part.chmod(mode)  # some writers (safetensors) put a file there that only its owner reads
        part.replace(path)
    except OSError as error:
        raise WorkError(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):  # never made, or moved to `path`
            part.unlink()


def write_bytes(path: Path, data: bytes) -> None:
    """Write `data` to `path`, whole or not at all."""
    with atomic_path(path) as part:
        part.write_bytes(data)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path`, whole or not at all."""
    write_bytes(path, (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode())


def read_json(path: Path, *, limit: int = 1 << 20) -> dict[str, Any]:
    """The JSON object in `path`. Raises CheckpointError if it is missing, too large or not an object."""
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)  # not its size on disk: a pipe or a device has none
        if len(data) > limit:
            raise CheckpointError(f"{path} is larger than {limit} bytes and not read: it should be a short JSON file.")
        value = json.loads(data.decode("utf-8"))
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON ({error}): fetch or save it again.") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} should hold a JSON object, not a {type(value).__name__}.")
    return value


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal. Raises CheckpointError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"Cannot read {path}: {error.strerror or error}.") from error


def check_plain_name(name: object, where: Path) -> str:
    """`name` if it is a plain relative name (letters, digits, `.`, `_`, `-`), as index files must hold.

    Raises CheckpointError for separators, `..`, absolute paths, drive letters, control characters and the names that
    Windows keeps for devices.
    """
    plain = isinstance(name, str) and re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9._-]{0,126}[A-Za-z0-9_-])?", name)
    if not plain or ".." in str(name) or re.match(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\.|$)", str(name)):
        raise CheckpointError(f"{where} names {name!r}, which is not a plain file name: the file is refused.")
    return str(name)


def writable_folder(path: Path, *, what: str = "output folder") -> Path:
    """Make the folder `path` and try that files can be written there. Raises UsageError before any work is done."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"Cannot write to the {what} {path}: {reason}. Choose another.") from error
    return path

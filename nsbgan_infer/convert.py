"""Checkpoints (.bin, .pth, .pt, .pkl, foreign .safetensors) -> a component: a folder or one `.safetensors` file.

`storage.checkpoints` opens the file as data. What it holds is told from its tensors' names; every name and shape is
then compared with the network's, and nothing is written before all of it fits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nsbgan_infer.decoders import rrdb
from nsbgan_infer.decoders.srresnet import SRResNet, SRResNetConfig
from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.samplers import biggan_layouts, r3gan
from nsbgan_infer.samplers.biggan_checkpoint import convert_biggan
from nsbgan_infer.samplers.stylegan2_layouts import from_ada_state, from_public_layout
from nsbgan_infer.storage.checkpoints import Checkpoint, is_plain_tensor, read_checkpoint
from nsbgan_infer.storage.components import Component, build_component, check_tensors, empty_weights, save_component
from nsbgan_infer.storage.files import sha256_of


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
        return convert_biggan(source, out)
    component = build(checkpoint, re.sub(r"[^\w.-]", "-", source.stem)[:64], licence)
    spoilt = next((k for k, v in component.state_dict().items() if not bool(torch.isfinite(v).all())), None)
    if spoilt:
        raise CheckpointError(f"{source} is damaged: it leads to NaN or infinity in {spoilt}. Fetch it again.")
    info = {"converted_from": source.name, "source_sha256": sha256_of(source), "layout": name}
    return save_component(component, out, info=info)


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
    average = checkpoint.beside.get("latent_avg")
    if average is not None and not (isinstance(average, Tensor) and is_plain_tensor(average)):
        raise CheckpointError("latent_avg of the StyleGAN2 checkpoint is no ordinary tensor.")
    return from_public_layout(checkpoint.tensors, average, licence=licence)


def _build_stylegan2_ada(checkpoint: Checkpoint, _name: str, licence: str) -> Component:
    return from_ada_state(checkpoint.tensors, checkpoint.beside.get("module"), licence=licence)


def _build_biggan(checkpoint: Checkpoint, name: str, licence: str) -> Component:
    return biggan_layouts.from_peer_state(checkpoint.tensors, name=name, licence=licence)


def _is_biggan(checkpoint: Checkpoint) -> bool:
    return biggan_layouts.is_biggan_pytorch(checkpoint.tensors) or biggan_layouts.is_studiogan(checkpoint.tensors)


def _build_r3gan(checkpoint: Checkpoint, name: str, licence: str) -> Component:
    return r3gan.from_peer_state(checkpoint.tensors, name=name, licence=licence)


def _is_r3gan(checkpoint: Checkpoint) -> bool:
    return r3gan.is_r3gan(checkpoint.tensors)


def _build_srresnet(checkpoint: Checkpoint, name: str, licence: str) -> Component:
    """BasicSR's MSRResNet and the authors' variant for low bands, whose skip and normalisation are kept (spec 3)."""
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


def _build_rrdb(checkpoint: Checkpoint, name: str, licence: str) -> Component:
    return rrdb.from_public_layout(checkpoint.tensors, name=name, licence=licence)


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
    "rrdb": Layout(
        "RRDBNet as BasicSR and ESRGAN have it: Real-ESRGAN's and most upscalers' files",
        lambda c: rrdb.is_public_layout(c.tensors),
        _build_rrdb,
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

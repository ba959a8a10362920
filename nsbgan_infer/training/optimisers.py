"""Adam, and Muon for the hidden convolutions of a residual network.

Muon (Jordan et al. 2024): the momentum of a weight matrix is replaced by the nearest half-orthogonal matrix, found by
five Newton-Schulz iterations, so that every direction of the matrix learns at the same rate. Weights that are no hidden
matrix (first and last layer, biases) keep Adam. What it gave here is in weights/TRAINING.md.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from nsbgan_infer.devices import computes_bf16
from nsbgan_infer.errors import UsageError

OptimiserName = Literal["adam", "muon"]
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)  # Jordan et al. 2024: steepest at 0, singular values end in 0.7 to 1.2
MUON_MOMENTUM = 0.95


def make_optimiser(
    model: nn.Module, name: OptimiserName, *, lr: float, betas: tuple[float, float] = (0.9, 0.99)
) -> torch.optim.Optimizer:
    """The optimiser of all parameters of `model`. Its groups carry `scale`: the learning rate is lr * scale.

    `lr` is Adam's; Muon's own rate is MUON_SCALE times as large.
    """
    if name not in get_args(OptimiserName):
        raise UsageError(f"Unknown optimiser '{name}': use {', '.join(get_args(OptimiserName))}.")
    if name == "adam":
        return torch.optim.Adam([{"params": list(model.parameters()), "scale": 1.0}], lr=lr, betas=betas)
    hidden = [p for n, p in model.named_parameters() if p.ndim == 4 and ("body" in n)]
    chosen = {id(p) for p in hidden}
    others = [p for p in model.parameters() if id(p) not in chosen]
    return Muon(hidden, others, lr=lr, betas=betas)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """The learning rate of the next step, for every group in its proportion (its `scale`, 1 where it has none).

    A rate in a tensor is written in place, so that a captured step follows it.
    """
    for group in optimiser.param_groups:
        own = rate * group.get("scale", 1.0)
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(own)
        else:
            group["lr"] = own


MUON_SCALE = 8.0


class Muon(torch.optim.Optimizer):
    """Muon for `hidden` (convolution weights, seen as matrices (out, in * k * k)), Adam for `others`."""

    def __init__(
        self, hidden: list[nn.Parameter], others: list[nn.Parameter], *, lr: float, betas: tuple[float, float]
    ) -> None:
        groups: list[dict[str, Any]] = [
            {"params": hidden, "muon": True, "scale": MUON_SCALE},
            {"params": others, "muon": False, "scale": 1.0},
        ]
        super().__init__(groups, {"lr": lr, "betas": betas, "eps": 1e-8})
        set_rate(self, lr)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One update. `closure` is not supported."""
        if closure is not None:
            raise NotImplementedError("Muon takes no closure")
        for group in self.param_groups:
            (self._muon if group["muon"] else self._adam)(group)

    def _muon(self, group: dict[str, Any]) -> None:
        """Weights of one shape are treated together: a batch of small matrices is faster than one by one."""
        by_shape: dict[torch.Size, list[nn.Parameter]] = {}
        for weight in group["params"]:
            if weight.grad is not None:
                by_shape.setdefault(weight.shape, []).append(weight)
        for shape, weights in by_shape.items():
            updates = []
            for weight in weights:
                state = self.state[weight]
                if not state:
                    state["momentum"] = torch.zeros_like(weight)
                gradient = cast(Tensor, weight.grad)
                state["momentum"].lerp_(gradient, 1 - MUON_MOMENTUM)
                updates.append(gradient.lerp(state["momentum"], MUON_MOMENTUM).flatten(1))
            for weight, update in zip(weights, orthogonalised(torch.stack(updates)).unbind(), strict=True):
                weight.add_(update.reshape(shape), alpha=-group["lr"])

    def _adam(self, group: dict[str, Any]) -> None:
        first, second = group["betas"]
        for weight in group["params"]:
            if weight.grad is None:
                continue
            state = self.state[weight]
            if not state:
                state.update(step=0, mean=torch.zeros_like(weight), square=torch.zeros_like(weight))
            state["step"] += 1
            state["mean"].lerp_(weight.grad, 1 - first)
            state["square"].mul_(second).addcmul_(weight.grad, weight.grad, value=1 - second)
            root = (state["square"] / (1 - second ** state["step"])).sqrt_().add_(group["eps"])
            weight.addcdiv_(state["mean"], root, value=-group["lr"] / (1 - first ** state["step"]))


def orthogonalised(matrices: Tensor, *, iterations: int = 5) -> Tensor:
    """(N, rows, columns) -> the same shape, all singular values moved into about 0.7 to 1.2 (in bf16, as published,
    where the device computes it)."""
    a, b, c = NEWTON_SCHULZ
    tall = matrices.shape[-2] > matrices.shape[-1]
    x: Tensor = matrices.mT if tall else matrices
    dtype = torch.bfloat16 if computes_bf16(matrices.device) else torch.float32
    x = (x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)).to(dtype)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)

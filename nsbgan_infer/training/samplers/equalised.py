"""Equalised learning rate (Karras et al. 2018, section 4.1): weights of N(0, 1), scaled where they are used.

Adam's steps do not depend on the size of a gradient, so with weights of one size every layer learns at one speed. What
is saved has the scale worked in: `spectral.plain_state` reads the scaled weights.
"""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization


class Scaled(nn.Module):
    """A weight times a constant."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.factor


def put_equalised_rate(module: nn.Module, *, last: tuple[nn.Module, ...] = ()) -> None:
    """Weights N(0, 1) times sqrt(2 / fan-in) in every convolution and linear map inside `module`, biases 0, in place.
    The gain of the `last` layers is 1 in place of sqrt(2)."""
    layers: list[Any] = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    for layer in layers:
        gain = 1.0 if any(layer is other for other in last) else math.sqrt(2)
        nn.init.normal_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
        factor = gain / math.sqrt(layer.weight[0].numel())
        register_parametrization(layer, "weight", Scaled(factor))

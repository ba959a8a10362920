"""The engines `eager` and `compile`: torch itself, convolutions in channels_last order.

On a CPU channels_last makes a folded network 1.2 to 1.8 times faster; `compile` pays where many images are made.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from nsbgan_infer.storage.architectures import Graph

T = TypeVar("T")


def channels_last(part: T) -> T:
    """The same part, its weights in channels_last order (in place)."""
    if isinstance(part, nn.Module):
        part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return part


def compiled(graph: Graph) -> Callable[..., Tensor]:
    """The tensor part through torch.compile, which works on its first batch of each size."""
    channels_last(graph.module)
    run: Callable[..., Tensor] = torch.compile(graph.module, dynamic=False)
    return run

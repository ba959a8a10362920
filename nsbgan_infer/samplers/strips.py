"""Layers of a network by strips of rows: what is largest in them never exists whole."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

ROWS = 32  # of pictures; more take more memory, fewer compute more rows twice


def by_strips(layers: Callable[[Tensor], Tensor], x: Tensor, *, times: int, reach: int, rows: int = ROWS) -> Tensor:
    """`layers(x)`, x (B, C, H, W) -> (B, C', times H, times W). What a row becomes depends on `reach` rows around it.
    Queries (B, 1, N, D) are rows, too, which need none but themselves.

    Strips of `rows` are computed with so many more on both sides, whose results are left out. With gradients, on other
    devices than the CPU and while a graph is recorded all rows are computed at once.
    """
    height = x.shape[2]
    if height <= rows or not _may_be_cut(x):
        return layers(x)
    done = []
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        above, below = max(0, top - reach), min(height, bottom + reach)
        strip = layers(x[:, :, above:below])
        done.append(strip[:, :, (top - above) * times : (bottom - above) * times])
    return torch.cat(done, 2)


def _may_be_cut(x: Tensor) -> bool:
    recorded = torch.jit.is_tracing() or torch.compiler.is_compiling()  # type: ignore[attr-defined, no-untyped-call]
    return x.device.type == "cpu" and not torch.is_grad_enabled() and not recorded

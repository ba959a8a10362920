"""Means over the processes of a run that losses and norms need while they are computed, with gradients."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def global_mean(values: Tensor) -> Tensor:
    """The mean over the batch and over all processes (equal batches), with gradients to every process."""
    return mean_over_processes(values.mean())


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over all processes, the same everywhere, with gradients to every process."""
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return value
    out: Tensor = _MeanOverProcesses.apply(value)  # type: ignore[no-untyped-call]
    return out


class _MeanOverProcesses(torch.autograd.Function):
    """All-reduce to the mean. Its transpose is again the mean: each value enters every process's loss by 1 / n."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        """The mean of `value` over processes."""
        return _reduced(value)

    @staticmethod
    def backward(ctx: object, *gradients: Tensor) -> Tensor:
        """The mean of the gradient over processes (gradients of the weights are averaged, not summed, afterwards)."""
        return _reduced(gradients[0])


def _reduced(value: Tensor) -> Tensor:
    value = value.detach().clone()
    dist.all_reduce(value)
    return value / dist.get_world_size()

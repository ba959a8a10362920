"""Batch normalisation over the batches of all processes, on any device (torch's own does it on GPUs only).

With it a trainer on several processes gives the weights that one process gives with the same global batch. That also
needs the biases frozen that a batch normalisation takes away again: their gradient is zero but for rounding, and Adam
would make full steps of the rounding.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nsbgan_infer.training.processes import mean_over_processes


class GlobalBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm2d whose statistics in training are those of the global batch (equal shares). Same parameters."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> the same shape."""
        if not self.training or self.running_mean is None or self.running_var is None:
            return super().forward(x)
        mean = mean_over_processes(x.float().mean(dim=(0, 2, 3)))  # (C,)
        centred = x.float() - mean[:, None, None]
        variance = mean_over_processes(centred.square().mean(dim=(0, 2, 3)))
        with torch.no_grad():
            count = x.numel() // x.shape[1] * (dist.get_world_size() if dist.is_initialized() else 1)
            rate = self.momentum or 0.0
            self.running_mean.lerp_(mean, rate)
            self.running_var.lerp_(variance * (count / max(1, count - 1)), rate)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked.add_(1)
        scale = self.weight / (variance + self.eps).sqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(x.dtype)


def with_global_batch_norm(module: nn.Module) -> None:
    """Replace every BatchNorm2d inside `module`, in place, by one over all processes with the same parameters."""
    for name, child in module.named_children():
        if type(child) is not nn.BatchNorm2d:
            with_global_batch_norm(child)
            continue
        new = GlobalBatchNorm2d(child.num_features, eps=child.eps, momentum=child.momentum)
        new.load_state_dict(child.state_dict())
        setattr(module, name, new.train(child.training))


def freeze_cancelled_biases(module: nn.Module) -> None:
    """Stop the training of every bias of a convolution that a batch normalisation follows in an nn.Sequential."""
    for sequence in module.modules():
        if not isinstance(sequence, nn.Sequential):
            continue
        for layer, following in pairwise(sequence):
            if isinstance(layer, nn.Conv2d) and isinstance(following, nn.BatchNorm2d) and layer.bias is not None:
                layer.bias.requires_grad_(False)

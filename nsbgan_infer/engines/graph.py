"""A part whose tensor part (`Component.graph`) another engine runs.

A decoder's is the decoder itself. A sampler is called with `Latents`; its tensor part takes z and what else the network
needs as tensors, and the truncation has been looked up before.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nsbgan_infer.errors import UsageError
from nsbgan_infer.samplers.base import SamplerInfo
from nsbgan_infer.storage.architectures import Component, Graph


class Engined:
    """A sampler or decoder whose tensor part another engine runs: the same info, the same contract."""

    def __init__(self, part: Any, graph: Graph, run: Callable[..., Tensor]) -> None:
        self.info = part.info
        self.weights_file: Path | None = getattr(part, "weights_file", None)
        self.graph, self.run = graph, run

    def __call__(self, given: Any) -> Tensor:
        return self.run(*self.graph.inputs(given))


def part_graph(part: object) -> Graph | None:
    """The tensor part of a sampler or of a decoder with weights, as it describes itself; None for other decoders.

    Raises UsageError for a sampler that does not.
    """
    graph = part.graph() if isinstance(part, Component) else None
    info = getattr(part, "info", None)
    if graph is None and isinstance(info, SamplerInfo):
        raise UsageError(f"Only built-in samplers can be compiled or exported: run {info.name} with eager.")
    return graph


def place_of(part: object) -> tuple[torch.device, torch.dtype]:
    """Where a part's weights lie and what they are, whatever runs it; the CPU and fp32 for one without weights."""
    inner = getattr(part, "decoder", None)  # of an ensemble
    part = inner if isinstance(inner, Engined) else part
    network = part.graph.module if isinstance(part, Engined) else part
    weights = next(network.parameters(), None) if isinstance(network, nn.Module) else None
    return (torch.device("cpu"), torch.float32) if weights is None else (weights.device, weights.dtype)

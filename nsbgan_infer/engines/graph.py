"""The tensor part of a component: what can be traced, compiled and exported, and how its inputs come about.

A decoder's is the decoder itself. A sampler is called with `Latents`; its tensor part takes z and what else the network
needs as tensors, and the truncation has been looked up before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nsbgan_infer.classes import NUM_CLASSES
from nsbgan_infer.errors import UsageError
from nsbgan_infer.latents import Latents
from nsbgan_infer.samplers.base import SamplerInfo
from nsbgan_infer.storage.components import Component


@dataclass(frozen=True)
class Graph:
    """`module` takes the tensors called `names` and returns one; `inputs` makes them of what the part is called with
    (`Latents`, or a low band)."""

    module: nn.Module
    names: tuple[str, ...]
    inputs: Callable[[Any], tuple[Tensor, ...]]


class Engined:
    """A sampler or decoder whose tensor part another engine runs: the same info, the same contract."""

    def __init__(self, part: Any, graph: Graph, run: Callable[..., Tensor]) -> None:
        self.info = part.info
        self.weights_file: Path | None = getattr(part, "weights_file", None)
        self.graph, self.run = graph, run

    def __call__(self, given: Any) -> Tensor:
        return self.run(*self.graph.inputs(given))


class _BigGAN(nn.Module):
    def __init__(self, sampler: Any) -> None:
        super().__init__()
        self.sampler = sampler

    def forward(self, z: Tensor, y: Tensor, statistics: Tensor) -> Tensor:
        picture: Tensor = self.sampler.forward_tensors(z, y, statistics)
        return picture


class _Learned(nn.Module):
    def __init__(self, sampler: Any) -> None:
        super().__init__()
        self.sampler = sampler

    def forward(self, code: Tensor, y: Tensor) -> Tensor:
        sample: Tensor = self.sampler.draw_code(code, y)
        return sample


class _Tensors(nn.Module):
    """A sampler that says itself which tensors it takes: `graph_inputs` makes them, `forward_tensors` takes them."""

    def __init__(self, sampler: Any, names: tuple[str, ...]) -> None:
        super().__init__()
        self.sampler, self.names = sampler, names

    def forward(self, *tensors: Tensor) -> Tensor:
        sample: Tensor = self.sampler.forward_tensors(**dict(zip(self.names, tensors, strict=True)))
        return sample


def part_graph(part: object) -> Graph | None:
    """The tensor part of one of our samplers, or of a decoder of ours with weights; None for other decoders.

    Raises UsageError for the sampler of a plug-in.
    """
    info = getattr(part, "info", None)
    if isinstance(info, SamplerInfo):
        if hasattr(part, "graph_inputs"):
            return _of_tensors(part, info)
        make = {"biggan-deep": _biggan, "learned": _learned}.get(getattr(part, "arch", ""))
        if make is None:
            raise UsageError(f"Only built-in samplers can be compiled or exported: run {info.name} with eager.")
        return make(part)
    if isinstance(part, Component):
        return Graph(part, ("low_band",), lambda low_band: (low_band,))
    return None


def _biggan(sampler: Any) -> Graph:
    def inputs(latents: Latents) -> tuple[Tensor, ...]:
        like = sampler.to_rgb.weight
        at = sampler.statistics.at(latents.truncation, sampler.config)
        return latents.z.to(like.device, like.dtype), latents.y.to(like.device, like.dtype), at

    return Graph(_BigGAN(sampler), ("z", "y", "statistics"), inputs)


def _learned(sampler: Any) -> Graph:
    def inputs(latents: Latents) -> tuple[Tensor, ...]:
        dtype = sampler.embed.weight.dtype
        z, y = latents.z.to(dtype), latents.y[:, list(sampler.config.classes)].to(dtype)
        return (
            sampler.prior(z, y) if sampler.config.form == "lean" else z
        ), y  # the prior stays in fp32 torch: it is small

    return Graph(_Learned(sampler), ("code", "y"), inputs)


def _of_tensors(sampler: Any, info: SamplerInfo) -> Graph:
    z, y = torch.zeros(1, info.z_dim), torch.zeros(1, NUM_CLASSES)
    names = tuple(sampler.graph_inputs(Latents(z, y, (0,), 1.0, info.truncation_mode)))
    return Graph(_Tensors(sampler, names), names, lambda latents: tuple(sampler.graph_inputs(latents).values()))

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


class _StyleGAN2(nn.Module):
    def __init__(self, sampler: Any, sides: list[int]) -> None:
        super().__init__()
        self.sampler, self.sides = sampler, sides

    def forward(self, z: Tensor, truncation: Tensor, noise: Tensor) -> Tensor:
        """`noise` (B, sum of r^2): the maps of all layers, one after the other."""
        s = self.sampler
        maps = torch.split(noise, [r * r for r in self.sides], dim=1)
        w = s.latent_avg + truncation * (s.map(z) - s.latent_avg)
        picture: Tensor = s.synthesise(w, [m.view(-1, 1, r, r) for m, r in zip(maps, self.sides, strict=True)])
        return picture


def part_graph(part: object) -> Graph | None:
    """The tensor part of one of our samplers, or of a decoder of ours with weights; None for other decoders.

    Raises UsageError for the sampler of a plug-in.
    """
    info = getattr(part, "info", None)
    if isinstance(info, SamplerInfo):
        make = {"biggan-deep": _biggan, "learned": _learned, "stylegan2": _stylegan2}.get(getattr(part, "arch", ""))
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


def _stylegan2(sampler: Any) -> Graph:
    def inputs(latents: Latents) -> tuple[Tensor, ...]:
        truncation = torch.tensor([latents.truncation], dtype=latents.z.dtype, device=latents.z.device)
        return latents.z, truncation, torch.cat([n.flatten(1) for n in sampler.draw_noise(latents.seeds)], 1)

    sides = [n.shape[-1] for n in sampler.draw_noise((0,))]
    return Graph(_StyleGAN2(sampler, sides), ("z", "truncation", "noise"), inputs)

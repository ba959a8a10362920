"""What every sampler promises (step 2: latents -> sample)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor, nn

from nsbgan_infer.encoders.base import Basis
from nsbgan_infer.latents import Latents, TruncatedSpace, TruncationMode
from nsbgan_infer.reductions import Reduction, reduction
from nsbgan_infer.storage.architectures import Graph


@dataclass(frozen=True)
class SamplerInfo:
    """What a sampler is. `classes` are the ImageNet ids it can draw, None for an unconditional sampler.

    `resolution` is the height and width of a sample, `z_dim` the length of a latent's z, `truncation_mode` the default
    one (what its weights expect), `truncation` the default value, `licence` that of the weights. `truncates` says where
    the truncation acts: "z" (`draw_latents` applies it) or "w" (the sampler does, by scaling w towards its mean; z is
    drawn untruncated). Callers hand it on: ``draw_latents(..., truncates=info.truncates)``. `makes` is the reduction
    that a sample is (`reductions`): by default that of its basis, an ordinary picture being `bicubic`. `labels` says
    what `classes` count: ImageNet's classes, or those of other data, which have numbers but no names here. `offsets`:
    of the numbers of `Latents.offsets`, how many move what is inside the sampler, and how many are added to its sample.
    """

    name: str
    basis: Basis
    resolution: int
    z_dim: int
    classes: tuple[int, ...] | None
    truncation_mode: TruncationMode
    truncation: float
    licence: str
    truncates: TruncatedSpace = "z"
    makes: str = ""
    labels: Literal["imagenet", "numbers"] = "imagenet"
    offsets: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        if not self.makes:
            object.__setattr__(self, "makes", "bicubic" if self.basis == "pixel" else self.basis)

    @property
    def reduction(self) -> Reduction:
        """What a sample is. Raises UnknownNameError if there is no such reduction."""
        return reduction(self.makes)


class _Tensors(nn.Module):
    """`forward_tensors` of a sampler as a module of its own, which takes the tensors in the order of `names`."""

    def __init__(self, sampler: Any, names: tuple[str, ...]) -> None:
        super().__init__()
        self.sampler, self.names = sampler, names

    def forward(self, *tensors: Tensor) -> Tensor:
        sample: Tensor = self.sampler.forward_tensors(**dict(zip(self.names, tensors, strict=True)))
        return sample


def graph_of(sampler: Any, *names: str, fixed: str | None = None) -> Graph:
    """The graph of a sampler that takes its latents apart.

    `graph_inputs(latents)` makes a dictionary of the tensors called `names`, `forward_tensors(**tensors)` does the
    work on them; `fixed` is the one that belongs to a truncation.
    """
    return Graph(_Tensors(sampler, names), names, lambda latents: tuple(sampler.graph_inputs(latents).values()), fixed)


class Sampler(Protocol):
    """Draws samples.

    Called with `Latents` of batch B it returns (B, 3, resolution, resolution) float, RGB, nominally [0, 1], unclamped.
    In the wavelet basis that is a gain-free low band, in the pixel basis a picture. The model's own range (tanh,
    normalisation) never leaves it. Image j depends on latent j alone, not on the others of the batch.
    """

    @property
    def info(self) -> SamplerInfo: ...

    def __call__(self, latents: Latents) -> Tensor: ...

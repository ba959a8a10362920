"""What an inverter finds: the vector that a sampler draws one picture from, and the way from it to latents.

Usually that is z itself. A sampler that makes something else of z first, as the lean one makes a code, says so by the
methods of `HasVector`: its vector is then closer to the picture, and what z leaves open is chosen there.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol, runtime_checkable

from torch import Tensor

from nsbgan_infer.latents import Latents
from nsbgan_infer.samplers.base import Sampler


@runtime_checkable
class HasVector(Protocol):
    """A sampler whose pictures come from another vector than z. All of B images; gradients flow through each."""

    def vector_of(self, latents: Latents) -> Tensor:
        """(B, length) float32."""

    def at_vector(self, vector: Tensor, latents: Latents) -> Latents:
        """`latents` with another z, one that gives `vector`: the likeliest of those that do."""

    def draw_vector(self, vector: Tensor, latents: Latents) -> Tensor:
        """The sample that `at_vector` would give, without the way over z."""

    def as_class(self, latents: Latents, y: Tensor) -> Latents:
        """The same picture of other classes: `y` (B, 1000), all else as near as may be."""


class PlainVector:
    """Of any other sampler the vector is z."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    def vector_of(self, latents: Latents) -> Tensor:
        """z."""
        return latents.z

    def at_vector(self, vector: Tensor, latents: Latents) -> Latents:
        """z replaced."""
        return replace(latents, z=vector)

    def draw_vector(self, vector: Tensor, latents: Latents) -> Tensor:
        """The sample."""
        return self.sampler(replace(latents, z=vector))

    def as_class(self, latents: Latents, y: Tensor) -> Latents:
        """y replaced: classes share z."""
        return replace(latents, y=y)


def vectors(sampler: Sampler) -> HasVector:
    """The way between latents and the vector of `sampler`."""
    return sampler if isinstance(sampler, HasVector) else PlainVector(sampler)

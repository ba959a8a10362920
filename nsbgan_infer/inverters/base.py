"""What every inverter promises (step 2 backwards: sample -> vector of the sampler)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from nsbgan_infer.encoders.base import Basis
from nsbgan_infer.reductions import Reduction, reduction


@dataclass(frozen=True)
class InverterInfo:
    """What an inverter is. `sampler` is the name of the one that it was trained on, `weights` the SHA-256 of that one's
    weights (empty: they came from no file); `basis`, `makes` and `resolution` are what that one emits and this one
    reads, `classes` what it draws (None: without classes), `length` that of the vector (`samplers.vectors`)."""

    name: str
    sampler: str
    weights: str
    basis: Basis
    makes: str
    resolution: int
    classes: tuple[int, ...] | None
    length: int
    licence: str

    @property
    def reduction(self) -> Reduction:
        """What it reads. Raises UnknownNameError if there is no such reduction."""
        return reduction(self.makes)


class Inverter(Protocol):
    """Guesses.

    Called with samples (B, 3, resolution, resolution), nominally [0, 1], and class weights y (B, 1000), it returns the
    vectors (B, length), which `samplers.vectors` turns into latents. Row i depends on sample i alone.
    """

    @property
    def info(self) -> InverterInfo: ...

    def __call__(self, sample: Tensor, y: Tensor) -> Tensor: ...

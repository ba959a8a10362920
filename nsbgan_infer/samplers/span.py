"""How a trained sampler's own numbers in [-1, 1] stand for low bands or small pictures (spec 1.7, norm11).

A raw low band, 2^levels times the gain-free one, is (low + shift) / scale in [0, 1]; pixels have shift 0 and scale 1.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from nsbgan_infer.encoders.base import Basis


class Span(Protocol):
    """What a configuration says of it."""

    @property
    def basis(self) -> Basis: ...
    @property
    def levels(self) -> int: ...
    @property
    def shift(self) -> float: ...
    @property
    def scale(self) -> float: ...


def normalised(low: Tensor, config: Span) -> Tensor:
    """Gain-free low band (or picture) -> [-1, 1] over the range that `shift` and `scale` span."""
    return (low * gain(config) + config.shift) * (2 / config.scale) - 1


def denormalised(value: Tensor, config: Span) -> Tensor:
    """The inverse of `normalised`, in fp32."""
    return ((value.float() + 1) * (config.scale / 2) - config.shift) / gain(config)


def gain(config: Span) -> float:
    """How many times larger than the gain-free one a raw low band is: 2^levels; pixels: 1."""
    return 2.0**config.levels if config.basis == "wavelet" else 1.0

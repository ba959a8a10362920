"""Encoders by configuration, and by what a decoder reads."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from nsbgan_infer.encoders.base import Encoder
from nsbgan_infer.encoders.pixel import PixelEncoder
from nsbgan_infer.encoders.wavelet import WaveletEncoder
from nsbgan_infer.errors import CheckpointError, unknown_name
from nsbgan_infer.reductions import reduction


def make_encoder(config: dict[str, Any]) -> Encoder:
    """The encoder described by `config`, for example ``{"basis": "wavelet", "levels": 2}``.

    Raises CheckpointError for an unknown key and UnknownNameError for an unknown basis.
    """
    kinds: dict[str, type[WaveletEncoder] | type[PixelEncoder]] = {
        "wavelet": WaveletEncoder,
        "pixel": PixelEncoder,
    }
    rest = dict(config)
    basis = rest.pop("basis", None)
    if basis not in kinds:
        raise unknown_name("encoder basis", str(basis), kinds)
    allowed = {f.name for f in fields(kinds[basis])}
    if extra := sorted(set(rest) - allowed):
        raise CheckpointError(
            f"Unknown encoder setting '{extra[0]}': a {basis} encoder has {', '.join(sorted(allowed))}."
        )
    return kinds[basis](**rest)


def encoder_config(encoder: Encoder) -> dict[str, Any]:
    """The inverse of `make_encoder`, for the built-in encoders."""
    return {"basis": encoder.basis, **asdict(encoder)}  # type: ignore[call-overload]


def follow(encoder: Encoder, reads: str) -> Encoder:
    """The encoder that makes the reduction called `reads`, with as many levels."""
    if encoder.makes == reads:
        return encoder
    made = reduction(reads)
    if made.basis == "wavelet":
        return WaveletEncoder(encoder.levels)
    return PixelEncoder(encoder.levels, made.filter)  # type: ignore[arg-type]

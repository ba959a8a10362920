"""Encoders by configuration, and by what a decoder reads."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from nsbgan_infer.encoders.base import KNOWN, Encoder
from nsbgan_infer.encoders.pixel import PixelEncoder
from nsbgan_infer.encoders.wavelet import WaveletEncoder
from nsbgan_infer.errors import CheckpointError, unknown_name
from nsbgan_infer.reductions import reduction


def make_encoder(config: Mapping[str, Any]) -> Encoder:
    """The encoder described by `config`, for example ``{"basis": "wavelet", "levels": 2}``.

    `basis` is the name under which it is registered. Raises CheckpointError for an unknown key and UnknownNameError for
    an unknown name.
    """
    kinds = all_encoders()
    rest = dict(config)
    basis = rest.pop("basis", None)
    if basis not in kinds:
        raise unknown_name("encoder basis", str(basis), kinds)
    allowed = {f.name for f in fields(cast(Any, kinds[basis]))}
    if extra := sorted(set(rest) - allowed):
        raise CheckpointError(
            f"Unknown encoder setting '{extra[0]}': a {basis} encoder has {', '.join(sorted(allowed))}."
        )
    return kinds[basis](**rest)


def all_encoders() -> dict[str, Callable[..., Encoder]]:
    """Every registered encoder by name: those of this room, whose modules are listed here and not named, and plug-ins
    that were loaded (`registry.load_encoder`)."""
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        import_module(f"{__package__}.{module.name}")
    return dict(KNOWN)


def encoder_config(encoder: Encoder) -> dict[str, Any]:
    """The inverse of `make_encoder`, for registered encoders."""
    names = [name for name, make in all_encoders().items() if make is type(encoder)]
    return {"basis": names[0] if names else encoder.basis, **asdict(cast(Any, encoder))}


def follow(encoder: Encoder, reads: str) -> Encoder:
    """The encoder that makes the reduction called `reads`, with as many levels."""
    if encoder.makes == reads:
        return encoder
    made = reduction(reads)
    if made.basis == "wavelet":
        return WaveletEncoder(encoder.levels)
    return PixelEncoder(encoder.levels, made.filter)  # type: ignore[arg-type]

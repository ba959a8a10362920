"""What every encoder promises, and how one is written down in a pipeline's index."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any, Protocol

from torch import Tensor

from nsbgan_infer.errors import CheckpointError, unknown_name
from nsbgan_infer.reductions import Basis

__all__ = ["Basis", "Encoder", "encoder_config", "make_encoder"]


class Encoder(Protocol):
    """A deterministic, differentiable shrinking of a picture.

    Called with (B, 3, H, W), RGB, nominally [0, 1], it returns (B, 3, ceil(H / 2^levels), ceil(W / 2^levels)),
    gain-free: a flat grey of 0.5 stays 0.5. It keeps dtype and device. `makes` names its reduction (`reductions`).
    """

    @property
    def basis(self) -> Basis: ...

    @property
    def levels(self) -> int: ...

    @property
    def makes(self) -> str: ...

    def __call__(self, picture: Tensor) -> Tensor: ...


def make_encoder(config: dict[str, Any]) -> Encoder:
    """The encoder described by `config`, for example ``{"basis": "wavelet", "levels": 2}``.

    Raises CheckpointError for an unknown key and UnknownNameError for an unknown basis.
    """
    from nsbgan_infer.encoders.pixel import PixelEncoder
    from nsbgan_infer.encoders.wavelet import WaveletEncoder

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

"""The weights that ship: their folder, their manifest, and the best measured decoder of a basis."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsbgan_infer.storage.files import read_json

if TYPE_CHECKING:  # this module does not need torch
    from nsbgan_infer.encoders.base import Basis

FALLBACK: dict[Basis, tuple[str, ...]] = {"wavelet": ("subband-w", "resnet-w"), "pixel": ("resnet-p",)}


def weights_dir() -> Path:
    """The folder of the weights that ship: inside the installed package, or `weights/` of the checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "weights"
    return inside if inside.is_dir() else package.parent / "weights"


def manifest() -> dict[str, Any]:
    """`weights/manifest.json`: what ships, its checksums, licences, measured numbers and the default decoders."""
    return _read_once(weights_dir() / "manifest.json")


@cache
def _read_once(path: Path) -> dict[str, Any]:
    return read_json(path)


def default_decoder(basis: Basis, use: str = "generate") -> str:
    """The name of the best measured decoder of a basis for a `use` (generate | upscale), from the manifest.

    Where the manifest names none: the first of `FALLBACK` that ships, else plain interpolation.
    """
    facts = manifest()
    named = facts.get("defaults", {}).get(use, {}).get(basis)
    ships = [n for n in FALLBACK[basis] if n in facts.get("components", {})]
    return str(named or [*ships, {"wavelet": "iwt", "pixel": "bicubic"}[basis]][0])

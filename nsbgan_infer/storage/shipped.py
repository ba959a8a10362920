"""The weights that ship: their folder, their manifest, and the best measured decoder of a reduction."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, cast

from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.reductions import OF_BASIS, PICTURE, Basis, reduction
from nsbgan_infer.storage.files import read_json

FALLBACK = {  # reduction -> what is taken where the manifest names nothing, the last one without weights
    "wavelet": ("subband-w", "resnet-w", "iwt"),
    "gaussian": ("resnet-p", "bicubic"),
    "bicubic": ("photo", "photo-fast", "bicubic"),
    "bilinear": ("photo", "photo-fast", "bicubic"),
}
MANIFEST_KEYS = {"gaussian": "pixel"}  # as older manifests call it


def weights_dir() -> Path:
    """The folder of the weights that ship: inside the installed package, or `weights/` of the checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "weights"
    return inside if inside.is_dir() else package.parent / "weights"


def cards_dir() -> Path:
    """Where the cards of what ships are written: beside the weights of a checkout, never into an installed package."""
    installed = weights_dir().parent == Path(__file__).resolve().parents[1]
    return Path("cards") if installed else weights_dir() / "cards"


def manifest() -> dict[str, Any]:
    """`weights/manifest.json`: what ships, its checksums, licences, measured numbers and the default decoders."""
    return _read_once(weights_dir() / "manifest.json")


@cache
def _read_once(path: Path) -> dict[str, Any]:
    return read_json(path)


def default_decoder(reads: str, use: str = "generate") -> str:
    """The name of the best measured decoder that reads a reduction for a `use` (generate | upscale), from the manifest.

    `reads` may be a basis too. Where the manifest names none: the first of `FALLBACK` that ships, else plain
    interpolation.
    """
    facts, reads = manifest(), OF_BASIS.get(cast(Basis, reads), reads)
    named = facts.get("defaults", {}).get(use, {})
    chosen = named.get(reads) or named.get(MANIFEST_KEYS.get(reads))
    *trained, plain = FALLBACK[reduction(reads).name]
    return str(chosen or next((n for n in trained if n in facts.get("components", {})), plain))


def default_upscaler(*, sharp: bool = False) -> str:
    """The decoder of photos where none is named: the manifest's, or one that reads ordinary pictures if it ships, else
    the best wavelet one, which takes the photo for a low band.

    `sharp`: the one for worn photos, which undoes blur, noise and JPEG. Raises CheckpointError if none ships.
    """
    if sharp:
        named = manifest().get("defaults", {}).get("sharpen", {}).get(PICTURE)
        if named is None:
            raise CheckpointError(
                "No decoder for worn photos ships with this version: train one with `nsbgan train decoder --arch "
                "photo-sharp` and give its folder with --decoder."
            )
        return str(named)
    name = default_decoder(PICTURE, "upscale")
    return name if name != FALLBACK[PICTURE][-1] else default_decoder("wavelet", "upscale")

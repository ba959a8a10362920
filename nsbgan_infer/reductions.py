"""Reductions: how a small picture was made from a large one. Every encoder makes one, every decoder reads one.

`wavelet` is the low band of bior2.2, `gaussian` the paper's pixel encoder; both put sample k at pixel scale * k, the
corner of its cell. `bicubic` and `bilinear` are antialiased resizes with sample k at scale * k + (scale - 1) / 2, the
centre of its cell, as cameras, Pillow and MATLAB make small pictures; an ordinary picture counts as `bicubic`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from nsbgan_infer.errors import unknown_name

Basis = Literal["pixel", "wavelet"]
Anchor = Literal["corner", "centre"]


@dataclass(frozen=True)
class Reduction:
    """A way to make small pictures.

    `basis`: what the numbers mean; `filter`: what weighs the pixels around a sample; `anchor`: where sample k lies in
    the large picture, at pixel scale * k (`corner`) or scale * k + (scale - 1) / 2 (`centre`).
    """

    name: str
    basis: Basis
    filter: str
    anchor: Anchor

    def __str__(self) -> str:
        return f"a {self.name} reduction ({self.basis} basis, {self.anchor} anchored)"


REDUCTIONS: dict[str, Reduction] = {
    r.name: r
    for r in (
        Reduction("wavelet", "wavelet", "bior2.2", "corner"),
        Reduction("gaussian", "pixel", "gaussian", "corner"),
        Reduction("bicubic", "pixel", "bicubic", "centre"),
        Reduction("bilinear", "pixel", "bilinear", "centre"),
    )
}
PICTURE = "bicubic"  # what an ordinary picture counts as, of the unknown larger one
OF_BASIS: dict[Basis, str] = {"wavelet": "wavelet", "pixel": "gaussian"}  # where nothing else is said: the paper's


def reduction(name: str) -> Reduction:
    """The reduction called `name`. Raises UnknownNameError."""
    if name not in REDUCTIONS:
        raise unknown_name("reduction", name, REDUCTIONS)
    return REDUCTIONS[name]

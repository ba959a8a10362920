"""Presets: a named pipeline after each of the paper's table rows, and the one that ships.

One row is a sampler and stages (encoder or None, decoder). The decoder `default` is the best measured one that reads
the stage's reduction, as `weights/manifest.json` names it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nsbgan_infer.errors import CheckpointError, unknown_name
from nsbgan_infer.reductions import PICTURE, Basis, reduction


@dataclass(frozen=True)
class StagePreset:
    """One stage: the reduction that its decoder `reads`, `levels` of the encoder (0: none), and the decoder's name."""

    reads: str
    levels: int
    decoder: str = "default"

    @property
    def basis(self) -> Basis:
        """That of the reduction."""
        return reduction(self.reads).basis

    def encoder(self, reads: str | None = None) -> dict[str, Any] | None:
        """The encoder's configuration, for another reduction where the decoder asks for it."""
        made = reduction(reads or self.reads)
        filter = {"filter": made.filter} if made.basis == "pixel" and made.name != "gaussian" else {}
        return {"basis": made.basis, "levels": self.levels, **filter} if self.levels else None


@dataclass(frozen=True)
class Preset:
    """A named pipeline: `paper` is the table row that it is, with the paper's min FID / IS where it has one.
    `by_class`: its sampler is asked for classes."""

    name: str
    sampler: str
    stages: tuple[StagePreset, ...]
    summary: str
    paper: str = ""
    by_class: bool = True


def _w(levels: int) -> StagePreset:
    return StagePreset("wavelet", levels)


def _p(levels: int) -> StagePreset:
    return StagePreset("gaussian", levels)


def _b(levels: int) -> StagePreset:
    return StagePreset(PICTURE, levels)


_ROWS = (
    Preset("biggan-128", "biggan-deep-128", (), "BigGAN-deep, 128", "table 2, BigGAN-128: 10.58 / 43.72"),
    Preset("biggan-256", "biggan-deep-256", (), "BigGAN-deep, 256", "table 2, BigGAN-256: 10.68 / 52.16"),
    Preset("biggan-512", "biggan-deep-512", (), "BigGAN-deep, 512", "table 2, BigGAN-512: 11.32 / 49.37"),
    Preset("pretrained-128-64", "biggan-deep-128", (_w(1),), "128 -> 64 -> 256", "table 2: 12.66 / 45.54 (ESRGAN-W)"),
    Preset("pretrained-256-128", "biggan-deep-256", (_w(1),), "256 -> 128 -> 512", "table 2: 10.59 / 52.14 (ESRGAN-W)"),
    Preset("pretrained-256-64", "biggan-deep-256", (_w(2),), "256 -> 64 -> 256", ""),
    Preset("pretrained-128", "biggan-deep-128", (_b(0),), "128 -> 512, pixels", "table 2: 13.55 / 47.70 (ESRGAN-P)"),
    Preset("learned-w-64", "learned-w-64", (_w(0),), "64 -> 256, wavelet", "table 1: 21.82 / 119.8 (ESRGAN-W)"),
    Preset("learned-p-64", "learned-p-64", (_p(0),), "64 -> 256, pixels", "table 1: 32.66 / 89.81 (ESRGAN-P)"),
    Preset(
        "stylegan2-256-64",
        "stylegan2-256",
        (_w(2),),
        "StyleGAN2, 256 -> 64 -> 256",
        "table 10: 13.53 / 3.182",
        by_class=False,
    ),
    Preset("r3gan-64", "r3gan-64", (_p(0), _p(1)), "R3GAN, your weights: 64 -> 256 -> 128 -> 512", ""),
    Preset("stylegan2-ffhq", "stylegan2-ffhq", (), "StyleGAN2, faces, your weights: 1024", "", by_class=False),
    Preset(
        "stylegan2-ffhq-256",
        "stylegan2-ffhq-256",
        (_w(1),),
        "StyleGAN2, faces, your weights: 256 -> 128 -> 512",
        by_class=False,
    ),
    Preset("bigbigan-128", "bigbigan-128", (_p(0),), "BigBiGAN, your weights: 128 -> 512", "", by_class=False),
    Preset("embedded", "embedded-w-64", (_w(0), _w(1)), "20 classes, ships: 64 -> 256 -> 128 -> 512", ""),
    Preset("embedded-p", "embedded-p-64", (_p(0), _p(1)), "20 classes, ships: the same in pixels", ""),
)
PRESETS = {p.name: p for p in _ROWS}


def find_preset(name: str) -> Preset:
    """The preset called `name`. Raises UnknownNameError with near names."""
    if name not in PRESETS:
        raise unknown_name("preset", name, PRESETS)
    return PRESETS[name]


def default_preset(*, fetch: bool = False) -> tuple[str, str]:
    """The preset meant where none is named, and the reason in one clause: BigGAN's weights if they are
    cached or can be fetched, else what ships. Asks the network for 3 seconds at most, and not at all offline.

    `fetch` also fetches and converts the weights, falling back to what ships where that fails. Raises WorkError.
    """
    from nsbgan_infer.samplers.biggan_fetch import fetch_released
    from nsbgan_infer.samplers.biggan_release import can_fetch, is_cached, release
    from nsbgan_infer.storage.hub import is_offline

    name, ships = "pretrained-256-128", "embedded"
    sampler = PRESETS[name].sampler
    if is_cached(sampler):
        return name, "BigGAN's weights are in the cache"
    if is_offline():
        return ships, "BigGAN's weights are not in the cache and the network is refused"
    if not can_fetch(sampler):
        return ships, "BigGAN's weights are not in the cache and cannot be fetched now"
    if fetch:
        try:
            fetch_released(sampler)
        except CheckpointError as error:
            return ships, f"BigGAN's weights could not be fetched: {error}"
    return name, f"BigGAN's weights can be fetched (once, {release(sampler).size / 1e6:.0f} MB)"

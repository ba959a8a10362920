"""Presets of the UNet trainers: one table, with the source of each value.

`paper` and `authors` are meant for GPUs and ImageNet, `small` for one ordinary machine (what the shipped weights were
trained with), `tiny` for a first try in seconds. A value is one for all four networks, or four: `unet-w` levels 1 and
2, `unet-p` levels 1 and 2. The learning rate does not depend on sums or means in the loss: Adam divides them out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, cast

from nsbgan_infer.errors import UsageError, unknown_name
from nsbgan_infer.training.decoders.unet import UNetName, UNetSettings
from nsbgan_infer.training.loop import LoopSettings
from nsbgan_infer.training.overrides import apply_overrides
from nsbgan_infer.training.schedules import Schedule

PRESETS = ("paper", "authors", "small", "tiny")
NETWORKS = (("unet-w", 1), ("unet-w", 2), ("unet-p", 1), ("unet-p", 2))
Row = tuple[Any, str]  # value (or one for each of NETWORKS, as a list), source

# setting -> preset -> (value, source)
TABLE: dict[str, dict[str, Row]] = {
    "steps": {
        "paper": ([288_000, 232_000, 615_000, 178_000], "tables 8 and 9"),
        "authors": ([197_000, 220_500, 615_000, 178_000], "code: checkpoints named in launch scripts; P as the paper"),
        "small": ([4_000, 2_000, 4_000, 2_000], "about 10 minutes each on one CPU core"),
        "tiny": (50, "a first try"),
    },
    "batch": {
        "paper": ([128, 64, 64, 64], "tables 8 and 9"),
        "authors": ([128, 64, 64, 64], "code"),
        "small": ([8, 8, 4, 4], "one CPU core"),
        "tiny": (4, "a first try"),
    },
    "width": {
        "paper": ([512, 512, 64, 64], "C.3: 52.1 M and 95.0 M parameters, 17.3 M each"),
        "authors": ([512, 512, 64, 64], "code"),
        "small": ([56, 56, 12, 12], "weights under 4 MB in fp16"),
        "tiny": ([8, 8, 4, 4], "a first try"),
    },
    "crop": {
        "paper": (64, "C.3: 256 x 256 pictures, W in 32 x 32 patches"),
        "authors": (64, "code"),
        "small": (64, "measured: statistics of batch norm from crop 32 (2 x 2 at the bottom) do not fit 256 pixels"),
        "tiny": (16, "windows of 64 pixels"),
    },
    "square": {
        "paper": (256, "section 4: ImageNet at 256 x 256"),
        "authors": (256, "code takes the raw central window; here resized and cropped (the one shared preparation)"),
        "small": (256, "as the paper"),
        "tiny": (0, "windows of the original pictures"),
    },
    "flip": {
        "paper": (False, "not stated"),
        "authors": (False, "code: no augmentation"),
        "small": (True, "few pictures"),
        "tiny": (True, "as small"),
    },
    "lr": {
        "paper": (1e-4, "tables 8 and 9"),
        "authors": ([1e-4, 1e-4, 1e-3, 1e-3], "code"),
        "small": (2e-3, "one-cycle, short run"),
        "tiny": (1e-3, "a first try"),
    },
    "betas": {
        "paper": ((0.9, 0.999), "tables 8 and 9"),
        "authors": ((0.9, 0.999), "code"),
        "small": ((0.9, 0.999), "as the paper"),
        "tiny": ((0.9, 0.999), "as the paper"),
    },
    "schedule": {
        "paper": (Schedule("constant"), "no decay stated"),
        "authors": (Schedule("constant"), "code"),
        "small": (Schedule("one-cycle"), "a run of known length"),
        "tiny": (Schedule("one-cycle"), "as small"),
    },
    "even_scales": {
        "paper": (False, "no normalisation stated"),
        "authors": (False, "code: raw wavelet values, default initialisation"),
        "small": (True, "measured: after 400 steps 28.79 dB on Set5, zero details 28.71, raw values 28.61"),
        "tiny": (False, "as the paper"),
    },
    "true_share": {
        "paper": (1.0, "C.3: levels are trained independently, on true details"),
        "authors": ([1.0, 0.0, 1.0, 1.0], "code: W on the frozen level 1; a version on true details exists too"),
        "small": ([1.0, 0.5, 1.0, 0.5], "half of each (spec section 8, row 20)"),
        "tiny": (1.0, "needs no level 1"),
    },
    "precision": {
        "paper": ("fp32", "not stated"),
        "authors": ("fp32", "code"),
        "small": ("bf16", "measured: up to twice the speed"),
        "tiny": ("fp32", "runs everywhere"),
    },
}


def unet_settings(
    preset: str,
    *,
    arch: str,
    level: int,
    data: tuple[str, ...],
    out: Path,
    level1: str = "",
    overrides: Mapping[str, Any] | None = None,
) -> UNetSettings:
    """The settings of a run for network `level` of `arch`. `overrides` are laid over the preset.

    `level1` is the trained network 1 for level 2 (see `UNetSettings`). Raises UsageError or UnknownNameError for what
    cannot work.
    """
    if not data:
        raise UsageError("Training needs pictures: give at least one folder, ZIP or tar shard.")
    row = preset_row(preset, arch, level)
    steps = row.pop("steps")
    save_every = max(1, min(1000, steps // 4))
    loop = LoopSettings(
        out,
        steps,
        precision=row.pop("precision"),
        log_every=max(1, min(100, steps // 10)),
        save_every=save_every,
        sheet_every=2 * save_every if steps < 10_000 else 10 * save_every,
    )
    share = {"true_share": row.pop("true_share")}  # laid over last: with overrides it may go without level1
    settings = UNetSettings(loop, data, cast(UNetName, arch), cast(Literal[1, 2], level), level1, **row)
    return apply_overrides(settings, share | dict(overrides or {}))


def preset_row(preset: str, arch: str, level: int) -> dict[str, Any]:
    """Setting -> value for one network. Raises UnknownNameError for an unknown preset, architecture or level."""
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    if (arch, level) not in NETWORKS:
        raise unknown_name("UNet", f"{arch} level {level}", [f"{a} level {n}" for a, n in NETWORKS])
    column = NETWORKS.index((arch, level))
    values = {setting: rows[preset][0] for setting, rows in TABLE.items()}
    return {setting: v[column] if isinstance(v, list) else v for setting, v in values.items()}

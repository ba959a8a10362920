"""Presets of the decoder trainers: one table, with the source of each value.

`paper` and `authors` are meant for GPUs and ImageNet, `small` for one ordinary machine (what the shipped weights were
trained with, see weights/TRAINING.md), `tiny` for a first try in seconds. Section numbers are those of the paper;
"code" is what its authors ran (see the notes on each row where the two differ).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from nsbgan_infer.errors import UsageError, unknown_name
from nsbgan_infer.training.decoders.adversarial import AdversarialSettings
from nsbgan_infer.training.decoders.l1 import NETWORKS, DecoderSettings, settings_of
from nsbgan_infer.training.loop import LoopSettings
from nsbgan_infer.training.overrides import apply_overrides
from nsbgan_infer.training.schedules import Schedule

PresetName = Literal["paper", "authors", "small", "tiny"]
PRESETS: tuple[PresetName, ...] = ("paper", "authors", "small", "tiny")
HALVED = (50_000, 100_000, 200_000, 300_000)
OWN = ("perceptual", "width", "pixel_weight", "perceptual_weight", "adversarial_weight", "lattice_weight", "shift")
DEGRADED: dict[str, Any] = {"degrade": ("two-round", "camera"), "clean": 0.3}  # what photo-sharp has
Row = tuple[Any, str]  # value, source

# setting -> preset -> (value, source)
L1_TABLE: dict[str, dict[str, Row]] = {
    "steps": {
        "paper": (150_000, "table 7"),
        "authors": (150_000, "code: total 1,000,000 for W, the checkpoint at 150,000 was used"),
        "small": (12_000, "what fits into an hour of one CPU core"),
        "tiny": (50, "a first try"),
    },
    "batch": {
        "paper": (32, "table 7"),
        "authors": (32, "code: 16 on each of 2 GPUs"),
        "small": (16, "measured: twice the steps in the same time"),
        "tiny": (4, "a first try"),
    },
    "crop": {
        "paper": (64, "C.2: 64 x 64 input"),
        "authors": (64, "code: gt_size 256, the whole picture"),
        "small": (24, "measured: crop 24 costs half of crop 32"),
        "tiny": (16, "a first try"),
    },
    "square": {
        "paper": (256, "section 4: ImageNet at 256 x 256"),
        "authors": (256, "code squashes without antialiasing; here resized and cropped (the one shared preparation)"),
        "small": (0, "windows of the original pictures: more of them, and sharper"),
        "tiny": (0, "as small"),
    },
    "turns": {
        "paper": (False, "not mentioned"),
        "authors": (True, "code: all eight for P; none for W, against its configuration"),
        "small": (True, "887 pictures are few; as EDSR (arXiv:1707.02921, section 4.1)"),
        "tiny": (False, "a first try"),
    },
    "shrink": {
        "paper": (1.0, "none"),
        "authors": (1.0, "none"),
        "small": (0.5, "measured with more pictures: + 0.04 dB in 400 steps, see weights/TRAINING.md"),
        "tiny": (1.0, "as the paper"),
    },
    "optimiser": {
        "paper": ("adam", "C.2"),
        "authors": ("adam", "code"),
        "small": ("muon", "measured: 0.7 % lower L1 after 300 steps than Adam, see weights/TRAINING.md"),
        "tiny": ("adam", "a first try"),
    },
    "lr": {
        "paper": (1e-4, "C.2"),
        "authors": (1e-4, "code"),
        "small": (5e-4, "measured; Muon's own rate is 8 times this: 0.004 is stable, 0.02 diverged"),
        "tiny": (1e-3, "a first try"),
    },
    "betas": {
        "paper": ((0.9, 0.99), "C.2"),
        "authors": ((0.9, 0.99), "code"),
        "small": ((0.9, 0.99), "as the paper"),
        "tiny": ((0.9, 0.99), "as the paper"),
    },
    "schedule": {
        "paper": (Schedule("halving", milestones=HALVED), "C.2: initialised and halved; the listed steps"),
        "authors": (Schedule("cosine", period=250_000, lowest=1e-7), "code: cosine, restarts every 250,000 steps"),
        "small": (Schedule("one-cycle"), "measured: best for a run of known length"),
        "tiny": (Schedule("one-cycle"), "as small"),
    },
    "precision": {
        "paper": ("fp32", "code"),
        "authors": ("fp32", "code"),
        "small": ("bf16", "measured: twice the speed"),
        "tiny": ("fp32", "runs everywhere"),
    },
    "narrow": {
        "paper": ((0, 0), "blocks and channels of the paper"),
        "authors": ((0, 0), "as the paper"),
        "small": ((0, 0), "as the paper"),
        "tiny": ((2, 16), "a first try"),
    },
}

# What the adversarial stage has otherwise.
ADVERSARIAL_TABLE: dict[str, dict[str, Row]] = {
    "steps": {
        "paper": (150_000, "table 7"),
        "authors": (150_000, "code: total 400,000, the checkpoint at 150,000 was used"),
        "small": (2600, "subband-w-sharp's 22 minutes of one CPU core without bf16; esrgan-* had 1,200"),
        "tiny": (50, "a first try"),
    },
    "batch": {
        "paper": (32, "table 7"),
        "authors": (32, "code: 16 on each of 2 GPUs"),
        "small": (8, "one CPU core"),
        "tiny": (2, "a first try"),
    },
    "crop": {
        "paper": (64, "C.2"),
        "authors": (64, "code"),
        "small": (16, "windows of 64 pixels: four times as many as of 128 in the same time give better means"),
        "tiny": (8, "32 pixels, three pairs in the discriminator"),
    },
    "optimiser": {
        "paper": ("adam", "C.2"),
        "authors": ("adam", "code"),
        "small": ("adam", "as the paper: Muon was not tried against a discriminator"),
        "tiny": ("adam", "as the paper"),
    },
    "shrink": {
        "paper": (1.0, "none"),
        "authors": (1.0, "none"),
        "small": (1.0, "what the shipped weights had; smaller was not tried"),
        "tiny": (1.0, "as the paper"),
    },
    "lr": {
        "paper": (1e-4, "C.2"),
        "authors": (1e-4, "code"),
        "small": (2e-4, "few steps"),
        "tiny": (1e-4, "as the paper"),
    },
    "ema": {
        "paper": (0.0, "none"),
        "authors": (0.0, "none"),
        "small": (0.98, "smooths the last steps of a short run"),
        "tiny": (0.0, "as the paper"),
    },
    "pixel_weight": {
        "paper": (1e-2, "equation 9, C.2"),
        "authors": (1e-2, "code"),
        "small": (1e-2, "as the paper"),
        "tiny": (1e-2, "as the paper"),
    },
    "perceptual_weight": {
        "paper": (1.0, "equation 9"),
        "authors": (1.0, "code"),
        "small": (1.0, "as the paper"),
        "tiny": (1.0, "as the paper"),
    },
    "adversarial_weight": {
        "paper": (5e-3, "equation 9, C.2"),
        "authors": (5e-3, "code"),
        "small": (1e-3, "measured: 2e-3 and 5e-3 are farther from real pictures, see weights/TRAINING.md"),
        "tiny": (5e-3, "as the paper"),
    },
    "schedule": {
        "paper": (Schedule("halving", milestones=HALVED), "C.2"),
        "authors": (Schedule("halving", milestones=HALVED), "code: MultiStep 0.5 at these steps"),
        "small": (Schedule("one-cycle"), "a run of known length"),
        "tiny": (Schedule("one-cycle"), "as small"),
    },
    "perceptual": {
        "paper": ("vgg19", "C.2: conv5_4 before its activation"),
        "authors": ("vgg19", "code: features.34"),
        "small": ("lite1", "its weights come with a package, and neither measure uses it"),
        "tiny": ("lite1", "as small"),
    },
    "lattice_weight": {
        "paper": (0.0, "none"),
        "authors": (0.0, "none"),
        "small": (15.0, "measured: without it lite1 draws dots with a period of 4 pixels, see weights/TRAINING.md"),
        "tiny": (0.0, "as the paper"),
    },
    "shift": {
        "paper": (0, "none"),
        "authors": (0, "none"),
        "small": (8, "measured: lower distance by Lite2, see weights/TRAINING.md"),
        "tiny": (0, "as the paper"),
    },
    "width": {
        "paper": (64, "code: 21,055,049 parameters at 256"),
        "authors": (64, "code"),
        "small": (16, "one CPU core"),
        "tiny": (4, "a first try"),
    },
}


def decoder_settings(
    preset: str, *, arch: str, data: tuple[str, ...], out: Path, overrides: Mapping[str, Any] | None = None
) -> DecoderSettings:
    """The settings of an L1 run. `overrides` are laid over the preset (see `overrides.apply_overrides`).

    Raises UsageError or UnknownNameError for what cannot work.
    """
    row = _column(L1_TABLE, preset)
    steps = row.pop("steps")
    settings = _decoder(row, _loop(out, steps, row.pop("precision")), arch, data)
    return apply_overrides(settings, overrides or {})


def adversarial_settings(
    preset: str,
    *,
    arch: str,
    start: Path,
    data: tuple[str, ...],
    out: Path,
    perceptual_file: str = "",
    overrides: Mapping[str, Any] | None = None,
) -> AdversarialSettings:
    """The settings of an adversarial run that begins with the decoder in `start`, of the same `arch`.

    `overrides` names the settings of `AdversarialSettings`; those of the L1 stage are in its table `decoder`.
    """
    row = _column(L1_TABLE, preset) | _column(ADVERSARIAL_TABLE, preset)
    steps = row.pop("steps")
    own = {k: row.pop(k) for k in OWN}
    row |= DEGRADED if arch == "photo" else {}
    loop = _loop(out, steps, row.pop("precision"))
    decoder = replace(_decoder(row, loop, arch, data), start=str(start))
    settings = AdversarialSettings(decoder, perceptual_file=perceptual_file, **own)
    return apply_overrides(settings, overrides or {})


def _column(table: Mapping[str, Mapping[str, Row]], preset: str) -> dict[str, Any]:
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    return {setting: rows[preset][0] for setting, rows in table.items()}


def _decoder(row: dict[str, Any], loop: LoopSettings, arch: str, data: tuple[str, ...]) -> DecoderSettings:
    if not data:
        raise UsageError("Training needs pictures: give at least one folder, ZIP or tar shard.")
    blocks, channels = row.pop("narrow")
    if blocks and arch in NETWORKS and {"blocks", "channels"} <= settings_of(arch):
        row |= {"blocks": blocks, "channels": channels}
    return DecoderSettings(loop, data, arch=arch, **row)


def _loop(out: Path, steps: int, precision: Literal["fp32", "bf16"]) -> LoopSettings:
    """The loop of a run of `steps`: ten log lines, four checkpoints and two sheets at least."""
    return LoopSettings(
        out,
        steps,
        precision=precision,
        log_every=max(1, min(100, steps // 10)),
        save_every=max(1, min(1000, steps // 4)),
        sheet_every=max(1, min(5000, steps // 2)),
    )

"""Presets of the sampler trainers: one table for each, with the source of each value.

`paper` and `authors` are the learned samplers of table 6, for GPUs and ImageNet; `baseline` is the paper's BigGAN-deep
at 256 x 256; `paper64` is R3GAN's own run; `small` runs on one ordinary machine, `tiny` is a first try in seconds.
Table 6 has columns and rows mixed up and another epsilon than every launch script (spec 5.1): where the two differ,
`paper` follows the text and `authors` the scripts ("code").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from nsbgan_infer.errors import UsageError, unknown_name
from nsbgan_infer.training.loop import LoopSettings
from nsbgan_infer.training.overrides import apply_overrides
from nsbgan_infer.training.samplers.biggan import SamplerSettings
from nsbgan_infer.training.samplers.lean import RedrawSettings
from nsbgan_infer.training.samplers.progan import ProGANSettings
from nsbgan_infer.training.samplers.r3gan import R3GANSettings

SamplerForm = Literal["lean", "biggan", "biggan-deep", "r3gan", "progan"]
FORMS: tuple[SamplerForm, ...] = ("lean", "biggan", "biggan-deep", "r3gan", "progan")
Settings = RedrawSettings | SamplerSettings | R3GANSettings | ProGANSettings
Row = tuple[Any, str]  # value, source

# setting -> preset -> (value, source); `biggan` where the two forms differ
TABLE: dict[str, dict[str, Row]] = {
    "steps": {
        "paper": (250_000, "table 6"),
        "authors": (250_000, "code: 100 epochs of 1,281,167 images at batch 512"),
        "baseline": (125_000, "not stated; half of the learned samplers' steps at four times the batch"),
        "small": (20_000, "a day of one small machine"),
        "tiny": (50, "a first try"),
    },
    "channels": {
        "paper": (128, "C.1: BigGAN-deep as published"),
        "authors": (128, "code: ch 128"),
        "baseline": (128, "code: ch 128"),
        "small": (24, "what a CPU bears"),
        "tiny": (8, "a first try"),
    },
    "depth": {
        "paper": (2, "table 6: residual blocks a stage, BigGAN-deep"),
        "authors": (2, "code"),
        "baseline": (2, "code"),
        "small": (1, "what a CPU bears"),
        "tiny": (1, "a first try"),
    },
    "z_dim": {
        "paper": (128, "table 6, row 'attention resolution' (mixed up)"),
        "authors": (128, "code: dim_z 128"),
        "baseline": (128, "code"),
        "small": (128, "as the paper"),
        "tiny": (16, "a first try"),
    },
    "class_dim": {
        "paper": (128, "Brock et al. 2018: shared embedding of 128"),
        "authors": (128, "code: shared_dim 128"),
        "baseline": (128, "code"),
        "small": (128, "as the paper"),
        "tiny": (16, "a first try"),
    },
    "batch": {
        "paper": (256, "table 6: 512 in all"),
        "authors": (256, "code: 256, accumulated twice"),
        "baseline": (64, "code: 64, accumulated 32 times: 2048"),
        "small": (32, "what a CPU bears"),
        "tiny": (4, "a first try"),
    },
    "accumulate": {
        "paper": (2, "table 6: 512 in all"),
        "authors": (2, "code"),
        "baseline": (32, "code"),
        "small": (2, "64 in all"),
        "tiny": (1, "a first try"),
    },
    "g_lr": {
        "paper": (1e-4, "table 6"),
        "authors": (1e-4, "code"),
        "baseline": (1e-4, "code"),
        "small": (2e-4, "spec 11: projected GAN"),
        "tiny": (2e-4, "as small"),
    },
    "d_lr": {
        "paper": (4e-4, "table 6"),
        "authors": (4e-4, "code"),
        "baseline": (4e-4, "code"),
        "small": (2e-4, "spec 11: projected GAN"),
        "tiny": (2e-4, "as small"),
    },
    "betas": {
        "paper": ((0.0, 0.999), "table 6"),
        "authors": ((0.0, 0.999), "code"),
        "baseline": ((0.0, 0.999), "code"),
        "small": ((0.0, 0.99), "spec 11: projected GAN"),
        "tiny": ((0.0, 0.99), "as small"),
    },
    "adam_eps": {
        "paper": (1e-8, "table 6"),
        "authors": (1e-6, "code: adam_eps 1e-6 in every launch script"),
        "baseline": (1e-6, "code"),
        "small": (1e-8, "Adam's default"),
        "tiny": (1e-8, "Adam's default"),
    },
    "ema": {
        "paper": (0.9999, "Brock et al. 2018, appendix C"),
        "authors": (0.9999, "code: from step 20,000"),
        "baseline": (0.9999, "code"),
        "small": (0.999, "spec 11"),
        "tiny": (0.9, "a first try"),
    },
    "ema_start": {
        "paper": (20_000, "code"),
        "authors": (20_000, "code"),
        "baseline": (20_000, "code"),
        "small": (200, "short run"),
        "tiny": (5, "a first try"),
    },
    "orthogonal": {
        "paper": (0.0, "not used in C.1"),
        "authors": (0.0, "code: off"),
        "baseline": (0.0, "code: off"),
        "small": (0.0, "as the paper"),
        "tiny": (0.0, "as the paper"),
    },
    "discriminator": {
        "paper": ("biggan", "C.1"),
        "authors": ("biggan", "code"),
        "baseline": ("biggan", "code"),
        "small": ("projected", "measured: 20 to 35 images a second against 18, and shapes earlier"),
        "tiny": ("biggan", "needs no package"),
    },
    "augment": {
        "paper": ((), "none"),
        "authors": ((), "code: none"),
        "baseline": ((), "code: none"),
        "small": (("color", "translation", "cutout"), "spec 11; Zhao et al. 2020 for small data"),
        "tiny": (("translation",), "a first try"),
    },
    "precision": {
        "paper": ("fp32", "code"),
        "authors": ("fp32", "code"),
        "baseline": ("fp32", "code"),
        "small": ("bf16", "measured: twice the speed"),
        "tiny": ("fp32", "runs everywhere"),
    },
}

# What the best Learned-P-64, a BigGAN, has otherwise (table 6, spec 5.1).
BIGGAN: dict[str, dict[str, Row]] = {
    "channels": {"paper": (64, "C.1"), "authors": (64, "code: ch 64, the experiment used for sampling")},
    "z_dim": {
        "paper": (120, "table 6, row 'attention resolution' (mixed up)"),
        "authors": (120, "code: 5 chunks of 24"),
        "baseline": (119, "7 chunks of 17: the published 120 does not divide"),
        "small": (120, "as the paper"),
        "tiny": (20, "a first try"),
    },
    "batch": {"authors": (128, "code: 128, accumulated 4 times")},
    "accumulate": {"authors": (4, "code: 128 times 4")},
}

# The lean form: found by experiment, see weights/TRAINING.md. Settings that are not here are RedrawSettings' own.
LEAN: dict[str, dict[str, Row]] = {
    "steps": {"small": (12_000, "an hour of one CPU core"), "tiny": (50, "a first try")},
    "pictures": {"small": (0, "all"), "tiny": (400, "looking at 14,000 takes a minute or two")},
    "batch": {"small": (16, "measured: more steps beat larger batches"), "tiny": (4, "a first try")},
    "groups": {"small": (4, "four pictures a class: repulsion is felt"), "tiny": (2, "a first try")},
    "widths": {"small": ((192, 192, 192, 96, 32), "7 ms an image"), "tiny": ((32, 32, 32, 16, 16), "a first try")},
    "code_dim": {"small": (224, "48 + 48 features, 128 of layout"), "tiny": (104, "8 of layout: few pictures do")},
    "centres": {"small": (96, "0.43 M numbers"), "tiny": (4, "a first try")},
    "ema": {"small": (0.9998, "over the last 80,000 images"), "tiny": (0.9, "a first try")},
    "networks": {
        "small": (("lite0", "lite1"), "in turn: features of one are fooled"),
        "tiny": (("lite0",), "a first try"),
    },
    "precision": {"small": ("bf16", "measured: twice the speed"), "tiny": ("fp32", "runs everywhere")},
}

# R3GAN, which is always RpGAN with R1 and R2. `paper64` is the run on ImageNet at 64 x 64 of Huang et al. 2024.
R3GAN: dict[str, dict[str, Row]] = {
    "steps": {
        "paper64": (48_828, "the course: 200 M pictures at batch 4096"),
        "small": (6_000, "some five hours of one slow CPU core"),
        "tiny": (50, "a first try"),
    },
    "widths": {
        "paper64": ((1536,) * 5, "Huang et al. 2024: ImageNet at 64"),
        "small": ((128, 128, 64, 32, 16), "what a CPU bears"),
        "tiny": ((8,) * 5, "a first try"),
    },
    "depth": {"paper64": (2, "Huang et al. 2024"), "small": (1, "what a CPU bears"), "tiny": (1, "a first try")},
    "group": {"paper64": (32, "96 groups of 3072"), "small": (16, "what a CPU bears"), "tiny": (8, "a first try")},
    "z_dim": {"paper64": (64, "Huang et al. 2024"), "small": (64, "as the paper"), "tiny": (8, "a first try")},
    "class_dim": {"paper64": (64, "Huang et al. 2024"), "small": (64, "as the paper"), "tiny": (8, "a first try")},
    "batch": {
        "paper64": (256, "4096 in all (Huang et al. 2024)"),
        "small": (16, "what a CPU bears"),
        "tiny": (4, "a first try"),
    },
    "accumulate": {
        "paper64": (16, "4096 in all"),
        "small": (1, "16 in all"),
        "tiny": (1, "a first try"),
    },
    "loss": dict.fromkeys(("paper64", "small", "tiny"), ("rpgan", "Huang et al. 2024, eq. 2")),
    "r1": {
        "paper64": ((1.0, 0.1), "Huang et al. 2024: to a tenth; 0.5 to 0.05 at 32"),
        "small": ((1.0, 0.1), "as the paper"),
        "tiny": ((1.0, 0.1), "as the paper"),
    },
    "r2": dict.fromkeys(("paper64", "small", "tiny"), ((1.0, 0.1), "as r1")),
    "g_lr": dict.fromkeys(("paper64", "small", "tiny"), (0.0002, "Huang et al. 2024, for both")),
    "d_lr": dict.fromkeys(("paper64", "small", "tiny"), (0.0002, "Huang et al. 2024, for both")),
    "lr_left": dict.fromkeys(("paper64", "small", "tiny"), (0.25, "Huang et al. 2024: 2e-4 to 5e-5")),
    "betas": dict.fromkeys(("paper64", "small", "tiny"), ((0.0, 0.9), "Huang et al. 2024")),
    "beta2_last": dict.fromkeys(("paper64", "small", "tiny"), (0.99, "Huang et al. 2024")),
    "adam_eps": dict.fromkeys(("paper64", "small", "tiny"), (1e-08, "Adam's default")),
    "ema_half_life": {
        "paper64": (50e6, "grows from 0 (Huang et al. 2024); its end, a quarter of the course, is ours"),
        "small": (10_000.0, "a tenth of the pictures"),
        "tiny": (20.0, "a first try"),
    },
    "augment": {
        "paper64": (("color", "translation", "cutout"), "Huang et al. 2024 augment; the policies are ours"),
        "small": (("color", "translation", "cutout"), "as the other forms, for small data"),
        "tiny": (("translation",), "a first try"),
    },
    "augment_share": {
        "paper64": ((0.0, 0.4), "Huang et al. 2024: rising to about 0.4"),
        "small": ((0.0, 0.4), "as the paper"),
        "tiny": ((0.0, 0.4), "as the paper"),
    },
    "precision": {
        "paper64": ("bf16", "Huang et al. 2024: all stages but the first"),
        "small": ("fp32", "what was measured"),
        "tiny": ("fp32", "runs everywhere"),
    },
}

# Progressive growing. `paper` are the values of Karras et al. 2018 for 64 x 64.
PROGAN: dict[str, dict[str, Row]] = {
    "steps": {
        "paper": (337_500, "nine phases of 600,000 pictures (Karras et al. 2018)"),
        "small": (2_000, "a quarter of an hour of one slow CPU core, by the time of single steps"),
        "tiny": (40, "a first try"),
    },
    "growth": {
        "paper": (8 / 9, "the ninth phase is 64 x 64 alone"),
        "small": (0.85, "the rest is 64 x 64 alone"),
        "tiny": (0.8, "a first try"),
    },
    "phase_ratio": {
        "paper": (1.0, "Karras et al. 2018"),
        "small": (0.5, "about as much time for each size"),
        "tiny": (1.0, "as the paper"),
    },
    "widths": {
        "paper": ((512, 512, 512, 512, 256), "Karras et al. 2018, table 2"),
        "small": ((48, 48, 48, 32, 16), "what a CPU bears"),
        "tiny": ((8,) * 5, "a first try"),
    },
    "z_dim": {"paper": (512, "Karras et al. 2018"), "small": (64, "narrow layers"), "tiny": (8, "a first try")},
    "batch": {"paper": (16, "Karras et al. 2018"), "small": (16, "as the paper"), "tiny": (4, "a first try")},
    "accumulate": dict.fromkeys(("paper", "small", "tiny"), (1, "Karras et al. 2018")),
    "loss": dict.fromkeys(("paper", "small", "tiny"), ("wgan-gp", "Karras et al. 2018; lsgan works too")),
    "g_lr": {
        "paper": (1e-3, "Karras et al. 2018, for both"),
        "small": (5e-3, "measured: at 1e-3 even the colours at 4 x 4 are far off after 300 steps"),
        "tiny": (1e-3, "as the paper"),
    },
    "d_lr": {
        "paper": (1e-3, "Karras et al. 2018, for both"),
        "small": (5e-3, "measured: at 1e-3 even the colours at 4 x 4 are far off after 300 steps"),
        "tiny": (1e-3, "as the paper"),
    },
    "betas": dict.fromkeys(("paper", "small", "tiny"), ((0.0, 0.99), "Karras et al. 2018")),
    "adam_eps": dict.fromkeys(("paper", "small", "tiny"), (1e-8, "Karras et al. 2018")),
    "ema": {
        "paper": (0.999, "Karras et al. 2018"),
        "small": (0.98, "a fourteenth of the stable steps"),
        "tiny": (0.9, "a first try"),
    },
    "ema_start": dict.fromkeys(("paper", "small", "tiny"), (0, "Karras et al. 2018")),
    "precision": dict.fromkeys(("paper", "small", "tiny"), ("fp32", "Karras et al. 2018")),
}
PRESETS: tuple[str, ...] = ("paper", "authors", "baseline", "paper64", "small", "tiny")
FORM_TABLES: dict[str, dict[str, dict[str, Row]]] = {
    "lean": LEAN,
    "biggan": TABLE,
    "biggan-deep": TABLE,
    "r3gan": R3GAN,
    "progan": PROGAN,
}


def presets_of(form: str) -> tuple[str, ...]:
    """The presets that a form has, in the order of PRESETS."""
    return tuple(p for p in PRESETS if p in FORM_TABLES[form]["steps"])


def sampler_settings(
    preset: str,
    *,
    form: str,
    data: str,
    out: Path,
    name: str = "",
    licence: str = "none",
    start: str = "",
    loss: str = "",
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings of a run: RedrawSettings for form `lean` (presets small and tiny), else those of the form.

    `data` is a folder of `nsbgan data encode`, `name` that of the component (default: the run folder's), `loss` a row
    of `losses.LOSSES` in place of the preset's, `overrides` are laid over the preset (see `overrides.apply_overrides`).
    Raises UsageError or UnknownNameError.
    """
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    if form not in FORMS:
        raise unknown_name("form of sampler", form, FORMS)
    if preset not in presets_of(form):
        raise UsageError(f"The form {form} has no preset '{preset}': use {' or '.join(presets_of(form))}.")
    row = _column(form, preset)
    loop = LoopSettings(out=out, steps=row.pop("steps"), precision=row.pop("precision"))
    if preset == "tiny":
        loop = replace(loop, log_every=10, save_every=25)
    own = {"loop": loop, "data": data, "name": name or out.name, "licence": licence, **row}
    if start and form != "lean":
        raise UsageError(f"Only the lean form starts from other weights: leave out the start for {form}.")
    if loss and form == "lean":
        raise UsageError("The lean form has losses of its own: leave out --loss, or choose another --form.")
    settings = _fill(form, own, start)
    return apply_overrides(settings, {**({"loss": loss} if loss else {}), **(overrides or {})})


def _fill(form: str, own: Mapping[str, Any], start: str) -> Settings:
    if form == "lean":
        return RedrawSettings(start=start, **own)
    if form == "r3gan":
        return R3GANSettings(**own)
    if form == "progan":
        return ProGANSettings(**own)
    return SamplerSettings(form=form, **own)  # type: ignore[arg-type]


def _column(form: str, preset: str) -> dict[str, Any]:
    row = {setting: cells[preset][0] for setting, cells in FORM_TABLES[form].items() if preset in cells}
    if form == "biggan":
        row |= {setting: cells[preset][0] for setting, cells in BIGGAN.items() if preset in cells}
    return row

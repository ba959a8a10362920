"""Does a sampler keep its promises (see `samplers.base.Sampler`)? Used by `nsbgan plugins check NAME`."""

from __future__ import annotations

from typing import get_args

import torch
from torch import nn

from nsbgan_infer.classes import NUM_CLASSES
from nsbgan_infer.encoders.base import Basis
from nsbgan_infer.encoders.conformance import GREY_LEVEL, Check, Outcome, run_checks
from nsbgan_infer.latents import Latents, TruncatedSpace, TruncationMode, draw_latents
from nsbgan_infer.reductions import REDUCTIONS
from nsbgan_infer.samplers.base import Sampler, SamplerInfo

FURTHEST = 1.0  # that the mean of a sample may lie outside [0, 1]: models that use -1 to 1 or 0 to 255 go further


def check_sampler(sampler: Sampler) -> list[Check]:
    """All checks of `sampler`, on its device and in its dtype. Nothing is raised: a check that fails says why."""
    return run_checks(
        sampler,
        _info,
        {
            "shape": _shape,
            "range": _range,
            "determinism": _determinism,
            "batch independence": _batch,
            "latents untouched": _untouched,
            "latents decide": _decide,
        },
    )


def _info(sampler: Sampler) -> Outcome:
    info = getattr(sampler, "info", None)
    if not isinstance(info, SamplerInfo):
        return False, f"`info` is a {type(info).__name__}, not a SamplerInfo"
    wrong = []
    if not isinstance(info.name, str) or not info.name:
        wrong.append("name is empty")
    if info.basis not in get_args(Basis):
        wrong.append(f"basis is {info.basis!r}, not pixel or wavelet")
    if info.makes not in REDUCTIONS:
        wrong.append(f"makes is {info.makes!r}, not {', '.join(REDUCTIONS)}")
    elif REDUCTIONS[info.makes].basis != info.basis:
        wrong.append(f"makes is {info.makes!r}, whose basis is not {info.basis}")
    for field in ("resolution", "z_dim"):
        if not isinstance(value := getattr(info, field), int) or value < 1:
            wrong.append(f"{field} is {value!r}, not a whole number of at least 1")
    if info.classes is not None and (not info.classes or any(not 0 <= c < NUM_CLASSES for c in info.classes)):
        wrong.append(f"classes are not None or ids from 0 to {NUM_CLASSES - 1}")
    if info.truncation_mode not in get_args(TruncationMode) or info.truncates not in get_args(TruncatedSpace):
        wrong.append(f"truncation_mode is {info.truncation_mode!r} and truncates {info.truncates!r}")
    if not isinstance(info.licence, str) or not info.licence:
        wrong.append("licence is empty ('none' for a sampler without weights)")
    side = info.resolution
    return not wrong, "; ".join(wrong) or f"{info.name}: {side} x {side}, {info.makes}, licence {info.licence}"


def _shape(sampler: Sampler) -> Outcome:
    side = sampler.info.resolution
    for count in (1, 3):
        out = sampler(_latents(sampler, count))
        if tuple(out.shape) != (count, 3, side, side) or not out.is_floating_point():
            return False, f"{count} latents gave {tuple(out.shape)} {out.dtype} instead of ({count}, 3, {side}, {side})"
    return True, f"B latents give (B, 3, {side}, {side})"


def _range(sampler: Sampler) -> Outcome:
    out = sampler(_latents(sampler, 3)).float()
    low, high = (float(v) for v in out.mean((1, 2, 3)).aminmax())
    ok = bool(out.isfinite().all()) and low >= -FURTHEST and high <= 1 + FURTHEST
    return ok, f"samples have means from {low:.3f} to {high:.3f}; [0, 1] is nominal"


def _determinism(sampler: Sampler) -> Outcome:
    off = float((sampler(_latents(sampler, 2)) - sampler(_latents(sampler, 2))).abs().max())
    return off == 0, "two calls agree exactly" if off == 0 else f"two calls differ by {off:.6f}"


def _batch(sampler: Sampler) -> Outcome:
    single = torch.cat([sampler(_latents(sampler, 1, first)) for first in range(3)])
    off = float((single - sampler(_latents(sampler, 3))).abs().max())
    return off <= GREY_LEVEL, f"one at a time and three at a time differ by {off:.6f}, allowed {GREY_LEVEL:.6f}"


def _untouched(sampler: Sampler) -> Outcome:
    latents = _latents(sampler, 2)
    z, y = latents.z.clone(), latents.y.clone()
    sampler(latents)
    kept = torch.equal(latents.z, z) and torch.equal(latents.y, y)
    return kept, "latents keep their values" if kept else "latents are overwritten"


def _decide(sampler: Sampler) -> Outcome:
    first, second = sampler(_latents(sampler, 2)).float()
    return not torch.equal(first, second), f"two seeds differ by {float((first - second).abs().max()):.4f}"


def _latents(sampler: Sampler, count: int, first: int = 0) -> Latents:
    """Those of `count` images of the sampler's first class, seeds from `first` on, where its weights are."""
    info = sampler.info
    latents = draw_latents(
        range(first, first + count),
        [None if info.classes is None else info.classes[0]] * count,
        z_dim=info.z_dim,
        truncation=info.truncation,
        mode=info.truncation_mode,
        truncates=info.truncates,
    )
    weight = next(sampler.parameters(), None) if isinstance(sampler, nn.Module) else None
    return latents if weight is None else latents.to(weight.device)

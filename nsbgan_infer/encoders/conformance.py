"""Does an encoder keep its promises (see `encoders.base.Encoder`)? Used by `nsbgan plugins check NAME`.

`Check` and `run_checks` serve the other kinds of part too: a check runs the part on small inputs made here and
compares with what the contract says; one that fails does not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from nsbgan_infer.encoders.base import Basis, Encoder
from nsbgan_infer.encoders.table import encoder_config, make_encoder
from nsbgan_infer.reductions import REDUCTIONS

GREY_LEVEL = 1 / 255
PLACE_TOLERANCE = 0.05  # pixels of the picture
SIDE = 48  # samples of the low band, for the checks that look at colours and places
INSIDE = slice(16, 32)  # of them, away from what is done at the borders

Outcome = tuple[bool, str]


class Check(NamedTuple):
    """One promise: its name, whether it was kept, and what was seen."""

    name: str
    ok: bool
    message: str


def run_checks(part: Any, info: Callable[[Any], Outcome], later: Mapping[str, Callable[[Any], Outcome]]) -> list[Check]:
    """`info` and, if it is kept, what else is promised. Nothing is raised: a check that fails says why."""
    checks = [_run("info", info, part)]
    if not checks[0].ok:
        return checks  # without it nothing else can be measured
    return checks + [_run(name, check, part) for name, check in later.items()]


def _run(name: str, check: Callable[[Any], Outcome], part: Any) -> Check:
    try:
        with torch.no_grad():
            return Check(name, *check(part))
    except Exception as error:  # a plug-in may raise anything; its message is the finding
        text = (str(error).strip() or "no message").splitlines()[0]
        return Check(name, False, f"raised {type(error).__name__}: {text}")


def check_encoder(encoder: Encoder) -> list[Check]:
    """All checks of `encoder`."""
    return run_checks(
        encoder,
        _info,
        {
            "shape": _shape,
            "dtype": _dtype,
            "range": _range,
            "determinism": _determinism,
            "batch independence": _batch,
            "input untouched": _untouched,
            "registration": _registration,
            "gradients": _gradients,
            "configuration": _configuration,
        },
    )


def _info(encoder: Encoder) -> Outcome:
    wrong = []
    if encoder.basis not in get_args(Basis):
        wrong.append(f"basis is {encoder.basis!r}, not pixel or wavelet")
    if not isinstance(encoder.levels, int) or encoder.levels < 1:
        wrong.append(f"levels is {encoder.levels!r}, not a whole number of at least 1")
    if encoder.makes not in REDUCTIONS:
        wrong.append(f"makes is {encoder.makes!r}, not {', '.join(REDUCTIONS)}")
    elif REDUCTIONS[encoder.makes].basis != encoder.basis:
        wrong.append(f"makes is {encoder.makes!r}, whose basis is not {encoder.basis}")
    return not wrong, "; ".join(wrong) or f"makes {encoder.makes}, {encoder.levels} levels"


def _shape(encoder: Encoder) -> Outcome:
    scale = 2**encoder.levels
    for b, h, w in ((1, 16 * scale, 8 * scale), (2, 9 * scale + 1, 11 * scale - 1)):
        want = (b, 3, -(-h // scale), -(-w // scale))
        if (got := tuple(encoder(_noise(b, h, w)).shape)) != want:
            return False, f"{(b, 3, h, w)} gave {got} instead of {want}"
    return True, f"(B, 3, H, W) gives (B, 3, H/{scale}, W/{scale}), rounded up"


def _dtype(encoder: Encoder) -> Outcome:
    for dtype in (torch.float32, torch.float64):
        out = encoder(_noise(1, *_sides(encoder)).to(dtype))
        if out.dtype != dtype or not out.isfinite().all():
            return False, f"{dtype} gave {out.dtype}, or values that are not finite"
    return True, "kept in float32 and float64"


def _range(encoder: Encoder) -> Outcome:
    greys = torch.tensor([0.0, 0.25, 0.5, 1.0])
    side = SIDE * 2**encoder.levels
    low = encoder(greys[:, None, None, None].expand(4, 3, side, side).contiguous())
    off = (low[..., INSIDE, INSIDE] - greys[:, None, None, None]).abs().max().item()
    return (
        off <= GREY_LEVEL,
        f"flat greys come back within {off:.4f}, allowed {GREY_LEVEL:.4f}: low bands are gain-free",
    )


def _determinism(encoder: Encoder) -> Outcome:
    picture = _noise(2, *_sides(encoder))
    off = (encoder(picture) - encoder(picture)).abs().max().item()
    return off == 0, "two calls agree exactly" if off == 0 else f"two calls differ by {off:.6f}"


def _batch(encoder: Encoder) -> Outcome:
    pictures = _noise(3, *_sides(encoder))
    single = torch.cat([encoder(pictures[i : i + 1]) for i in range(3)])
    off = (single - encoder(pictures)).abs().max().item()
    return off <= GREY_LEVEL, f"one at a time and three at a time differ by {off:.6f}, allowed {GREY_LEVEL:.6f}"


def _untouched(encoder: Encoder) -> Outcome:
    picture = _noise(1, *_sides(encoder))
    before = picture.clone()
    encoder(picture)
    return torch.equal(picture, before), (
        "the input keeps its values" if torch.equal(picture, before) else "input overwritten"
    )


def _registration(encoder: Encoder) -> Outcome:
    """Where sample k lies: a ramp along one axis, whose values are the places of its pixels, is read off."""
    scale, places = 2**encoder.levels, []
    side = SIDE * scale
    for axis in (2, 3):
        ramp = torch.arange(side, dtype=torch.float64).view([side if n == axis else 1 for n in range(4)]) / side
        low = encoder(ramp.expand(1, 3, side, side).contiguous()).mean((0, 1))[INSIDE, INSIDE] * side
        seen = low.mean(1 if axis == 2 else 0)
        places.append((seen - scale * torch.arange(SIDE)[INSIDE]).mean().item())
    want = 0.0 if REDUCTIONS[encoder.makes].anchor == "corner" else (scale - 1) / 2
    message = (
        f"sample k lies {places[0]:+.2f} down and {places[1]:+.2f} right of pixel {scale}k, {want:+.2f} is promised"
    )
    return max(abs(p - want) for p in places) <= PLACE_TOLERANCE, message


def _gradients(encoder: Encoder) -> Outcome:
    with torch.enable_grad():
        picture = _noise(1, *_sides(encoder)).requires_grad_(True)
        encoder(picture).sum().backward()  # type: ignore[no-untyped-call]
    reached = picture.grad is not None and bool(picture.grad.abs().sum() > 0)
    return reached, "gradients reach the picture" if reached else "no gradient reaches the picture"


def _configuration(encoder: Encoder) -> Outcome:
    config = encoder_config(encoder)
    return make_encoder(config) == encoder, f"its configuration {config} makes an equal encoder"


def _noise(b: int, h: int, w: int) -> Tensor:
    """Pseudo-random pictures in [0, 1], each brighter than the one before."""
    picture = torch.rand(b, 3, h, w, generator=torch.Generator("cpu").manual_seed(h * 1009 + w))
    return picture * (torch.arange(1, b + 1) / b)[:, None, None, None]


def _sides(encoder: Encoder) -> tuple[int, int]:
    return 8 * 2**encoder.levels, 12 * 2**encoder.levels

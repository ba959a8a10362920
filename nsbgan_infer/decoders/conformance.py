"""Does a decoder keep its promises (see `decoders.base.Decoder`)? Used by `nsbgan plugins check NAME`.

Every check runs the decoder on small pictures made here and compares with what the contract says; one that fails
does not stop the others.
"""

from __future__ import annotations

import copy
import math
from typing import get_args

import torch
from torch import Tensor, nn

from nsbgan_infer.decoders.base import Decoder, DecoderInfo
from nsbgan_infer.decoders.tiling import decode
from nsbgan_infer.encoders.base import Basis
from nsbgan_infer.encoders.conformance import GREY_LEVEL, Check, Outcome, run_checks
from nsbgan_infer.reductions import REDUCTIONS

FLAT_TOLERANCE = 0.05  # mean of a decoded flat grey
BAR_TOLERANCE = 0.12  # mean of the middle of a decoded colour bar
SHIFT_TOLERANCE = 0.5  # pixels of the decoded picture
SIDE = 32  # low-band samples, for the checks that look at colours and places


def check_decoder(decoder: Decoder) -> list[Check]:
    """All checks of `decoder`, on its device and in its dtype. Nothing is raised: a check that fails says why."""
    later = {
        "shape": _shape,
        "odd sizes": _odd_sizes,
        "dtype and device": _dtype,
        "range": _range,
        "colours": _colours,
        "values outside [0, 1]": _outside,
        "determinism": _determinism,
        "batch independence": _batch,
        "input untouched": _untouched,
        "registration": _registration,
        "tiles": _tiles,
    }
    return run_checks(decoder, _info, later)


def _info(decoder: Decoder) -> Outcome:
    info = getattr(decoder, "info", None)
    if not isinstance(info, DecoderInfo):
        return False, f"`info` is a {type(info).__name__}, not a DecoderInfo"
    wrong = []
    if not isinstance(info.name, str) or not info.name:
        wrong.append("name is empty")
    if info.basis not in get_args(Basis):
        wrong.append(f"basis is {info.basis!r}, not pixel or wavelet")
    if info.reads not in REDUCTIONS:
        wrong.append(f"reads is {info.reads!r}, not {', '.join(REDUCTIONS)}")
    elif REDUCTIONS[info.reads].basis != info.basis:
        wrong.append(f"reads is {info.reads!r}, whose basis is not {info.basis}")
    if not isinstance(info.scale, int) or info.scale < 2:
        wrong.append(f"scale is {info.scale!r}, not a whole number of at least 2")
    if not isinstance(info.licence, str) or not info.licence:
        wrong.append("licence is empty ('none' for a decoder without weights)")
    if info.halo is not None and (not isinstance(info.halo, int) or info.halo < 0):
        wrong.append(f"halo is {info.halo!r}, not None or a number of samples")
    if not isinstance(info.multiple, int) or info.multiple < 1:
        wrong.append(f"multiple is {info.multiple!r}, not a whole number of at least 1")
    return not wrong, "; ".join(wrong) or f"{info.name}: reads {info.reads}, x{info.scale}, licence {info.licence}"


def _shape(decoder: Decoder) -> Outcome:
    step = decoder.info.multiple
    short = -(-8 // step) * step
    for b, h, w in ((1, short, short), (3, short, short + 2 * step), (2, short + 3 * step, short)):
        low = _noise(decoder, b, h, w)
        want = (b, 3, h * decoder.info.scale, w * decoder.info.scale)
        if (got := tuple(decoder(low).shape)) != want:
            return False, f"{tuple(low.shape)} gave {got} instead of {want}"
    return True, f"(B, 3, h, w) gives (B, 3, {decoder.info.scale}h, {decoder.info.scale}w)"


def _odd_sizes(decoder: Decoder) -> Outcome:
    for h, w in ((9, 13), (17, 8), (5, 21)):
        want = (1, 3, h * decoder.info.scale, w * decoder.info.scale)
        if (got := tuple(decode(decoder, _noise(decoder, 1, h, w)).shape)) != want:
            return False, f"{h} x {w} gave {got} instead of {want}"
    return True, "9 x 13, 17 x 8 and 5 x 21 decode (extended to the declared multiple where needed)"


def _dtype(decoder: Decoder) -> Outcome:
    tried = []
    for dtype in (torch.float32, torch.bfloat16):
        part = copy.deepcopy(decoder).to(dtype=dtype) if isinstance(decoder, nn.Module) else decoder
        low = _noise(decoder, 1, *_sides(decoder, 16)).to(dtype)
        out = part(low)
        if out.dtype != dtype or out.device != low.device:
            return False, f"{dtype} on {low.device} gave {out.dtype} on {out.device}"
        if not out.isfinite().all():
            return False, f"NaN or infinity in {dtype}"
        tried.append(str(dtype).removeprefix("torch."))
    return True, f"kept in {' and '.join(tried)}"


def _range(decoder: Decoder) -> Outcome:
    greys = torch.tensor([0.0, 0.25, 0.5, 0.75, 1.0])
    flat = torch.ones_like(_noise(decoder, 1, *_sides(decoder, SIDE)))
    means = torch.stack([_middle(decoder(flat * grey)).float().mean(dim=(0, 2, 3)).cpu() for grey in greys.tolist()])
    off = (means - greys[:, None]).abs().amax(dim=1)  # NaN stays NaN, and fails
    message = f"flat greys come back within {off.max():.4f} (worst: {greys[off.argmax()]:g}), allowed {FLAT_TOLERANCE}"
    return bool(off.max() <= FLAT_TOLERANCE), message


def _colours(decoder: Decoder) -> Outcome:
    """Eight vertical bars, each corner of the colour cube at 0.2 and 0.8; the middle of each must keep its colour."""
    h, w = _sides(decoder, 64)
    bars = torch.tensor([[(n >> c) & 1 for c in range(3)] for n in range(8)]) * 0.6 + 0.2  # (8, 3)
    index = torch.arange(w) * 8 // w
    low = bars[index].T[None, :, None].expand(1, 3, h, w).to(_noise(decoder, 1, 8, 8))
    out = decoder(low).float().cpu()
    width = out.shape[-1] // 8
    seen = torch.stack([_middle(out[..., n * width : (n + 1) * width]).mean(dim=(0, 2, 3)) for n in range(8)])
    worst = (seen - bars).abs().max().item()
    if worst <= BAR_TOLERANCE:
        return True, f"colour bars keep their colours within {worst:.4f}"
    swapped = (seen.flip(1) - bars).abs().max().item()
    hint = ": red and blue are exchanged, RGB is expected" if swapped <= BAR_TOLERANCE else ""
    return False, f"colour bars are off by {worst:.4f}, allowed {BAR_TOLERANCE}{hint}"


def _outside(decoder: Decoder) -> Outcome:
    low = _noise(decoder, 1, *_sides(decoder, 16)) * 2 - 0.5  # as low bands of sharp edges are
    return bool(decoder(low).isfinite().all()), "input in [-0.5, 1.5] is decoded to finite values"


def _determinism(decoder: Decoder) -> Outcome:
    low = _noise(decoder, 2, *_sides(decoder, 16))
    off = (decoder(low) - decoder(low)).abs().max().item()
    return off == 0, "two calls agree exactly" if off == 0 else f"two calls differ by {off:.6f}"


def _batch(decoder: Decoder) -> Outcome:
    low = _noise(decoder, 3, *_sides(decoder, 16))
    together = decoder(low)
    single = torch.cat([decoder(low[i : i + 1]) for i in range(3)])
    off = (single - together).abs().max().item()
    return off <= GREY_LEVEL, f"one at a time and three at a time differ by {off:.6f}, allowed {GREY_LEVEL:.6f}"


def _untouched(decoder: Decoder) -> Outcome:
    low = _noise(decoder, 1, *_sides(decoder, 16))
    before = low.clone()
    decoder(low)
    return torch.equal(low, before), "the input keeps its values" if torch.equal(low, before) else "input overwritten"


def _registration(decoder: Decoder) -> Outcome:
    """How far a smooth picture moves: the least-squares shift along both axes against the declared anchor's grid."""
    h, w = _sides(decoder, SIDE)
    scale = decoder.info.scale
    grid = _noise(decoder, 1, 8, 8)
    low = _smooth(h, w, 1, 32.0)[None].expand(1, 3, h, w).to(grid)
    out = _middle(decoder(low)).float().mean(dim=(0, 1)).cpu().double()
    want = _smooth(h * scale, w * scale, scale, 32.0)
    dy, dx = torch.gradient(want)
    want, dy, dx = (_middle(t) for t in (want, dy, dx))
    slopes = torch.stack((dy, dx, torch.ones_like(dy)), dim=-1).flatten(0, 1)  # shift down, shift right, brightness
    fit = torch.linalg.lstsq(slopes, (want - out).flatten()[:, None]).solution.flatten()
    down, right = (round(v, 2) + 0.0 for v in fit[:2].tolist())  # no "-0.00"
    text = f"sample k lies {down:+.2f} down and {right:+.2f} right of pixel {scale}k"
    centre, anchor = (scale - 1) / 2, decoder.info.reduction.anchor
    place = centre if anchor == "centre" else 0.0
    if anchor == "corner" and max(abs(down - centre), abs(right - centre)) <= 0.3:
        text += ": centre anchored, so it should declare reads='bicubic'"
    elif anchor == "centre":
        text += f", and {centre:+.2f} is the centre of its cell"
    return max(abs(down - place), abs(right - place)) <= SHIFT_TOLERANCE, text


def _tiles(decoder: Decoder) -> Outcome:
    info = decoder.info
    if info.halo is None:
        return True, "declares that it must not be tiled"
    side = 2 * (info.halo + 8) + 16
    low = _noise(decoder, 1, *_sides(decoder, side))
    off = (decode(decoder, low, tile=16) - decode(decoder, low)).abs().max().item()
    return off <= GREY_LEVEL, f"tiles with halo {info.halo} and the whole differ by {off:.6f}, allowed {GREY_LEVEL:.6f}"


def _noise(decoder: Decoder, b: int, h: int, w: int) -> Tensor:
    """Pseudo-random low bands in [0, 1], each brighter than the one before, on the decoder's device in its dtype."""
    low = torch.rand(b, 3, h, w, generator=torch.Generator("cpu").manual_seed(h * 1009 + w))
    low = low * (torch.arange(1, b + 1) / b)[:, None, None, None]
    first = next(decoder.parameters(), None) if isinstance(decoder, nn.Module) else None
    return low if first is None else low.to(first)


def _sides(decoder: Decoder, side: int) -> tuple[int, int]:
    """`side` rounded up to the declared multiple, twice."""
    rounded = -(-side // decoder.info.multiple) * decoder.info.multiple
    return rounded, rounded


def _middle(picture: Tensor) -> Tensor:
    """The central half of each side, away from border effects."""
    h, w = picture.shape[-2:]
    return picture[..., h // 4 : h - h // 4, w // 4 : w - w // 4]


def _smooth(h: int, w: int, scale: int, period: float) -> Tensor:
    """Slow waves along both axes, (h, w) float64 in [0.2, 0.8], at positions 0, 1 / scale, 2 / scale, ..."""
    y, x = (torch.sin(2 * math.pi * torch.arange(n, dtype=torch.float64) / (scale * period) + 0.7) for n in (h, w))
    return 0.5 + 0.15 * y[:, None] + 0.15 * x[None, :]

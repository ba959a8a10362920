"""Does an inverter keep its promises (see `inverters.base.Inverter`)? Used by `nsbgan plugins check NAME`."""

from __future__ import annotations

import torch
from torch import Tensor

from nsbgan_infer.classes import NUM_CLASSES
from nsbgan_infer.encoders.conformance import Check, Outcome, run_checks
from nsbgan_infer.inverters.base import Inverter, InverterInfo
from nsbgan_infer.reductions import REDUCTIONS


def check_inverter(inverter: Inverter) -> list[Check]:
    """All checks of `inverter`. Nothing is raised: a check that fails says why."""
    return run_checks(
        inverter, _info, {"shape": _shape, "determinism": _determinism, "batch independence": _batch, "sees": _sees}
    )


def _info(inverter: Inverter) -> Outcome:
    info = getattr(inverter, "info", None)
    if not isinstance(info, InverterInfo):
        return False, f"`info` is a {type(info).__name__}, not an InverterInfo"
    wrong = [f"{field} is empty" for field in ("name", "sampler", "licence") if not getattr(info, field)]
    if info.makes not in REDUCTIONS or REDUCTIONS[info.makes].basis != info.basis:
        wrong.append(f"makes is {info.makes!r} and basis {info.basis!r}")
    wrong += [f"{field} is not at least 1" for field in ("resolution", "length") if getattr(info, field) < 1]
    return not wrong, "; ".join(wrong) or f"{info.name}: {info.length} numbers of {info.sampler}"


def _given(inverter: Inverter, count: int) -> tuple[Tensor, Tensor]:
    side, classes = inverter.info.resolution, inverter.info.classes
    sample = torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))
    y = torch.zeros(count, NUM_CLASSES)
    if classes:
        y[:, classes[0]] = 1
    return sample, y


def _shape(inverter: Inverter) -> Outcome:
    found = inverter(*_given(inverter, 2))
    good = found.shape == (2, inverter.info.length) and bool(torch.isfinite(found).all())
    return good, f"{tuple(found.shape)}"


def _determinism(inverter: Inverter) -> Outcome:
    given = _given(inverter, 2)
    return bool(torch.equal(inverter(*given), inverter(*given))), "two calls"


def _batch(inverter: Inverter) -> Outcome:
    sample, y = _given(inverter, 2)
    apart = float((inverter(sample, y)[1:] - inverter(sample[1:], y[1:])).abs().max())
    return apart < 1e-4, f"{apart:.1e} apart"


def _sees(inverter: Inverter) -> Outcome:
    found = inverter(*_given(inverter, 2))
    return bool((found[0] - found[1]).abs().max() > 0), "two samples give two vectors"

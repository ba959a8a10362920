"""How far a result of one device or precision is from another's."""

from __future__ import annotations

import torch
from torch import Tensor

LIMITS = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 5e-2}  # of `error`, for networks of some ten layers


def error(found: Tensor, wanted: Tensor) -> float:
    """The root of the mean square of the difference, as a share of `wanted`'s deviation; both finite, not flat."""
    found, wanted = found.detach().double().cpu(), wanted.detach().double().cpu()
    assert found.shape == wanted.shape
    assert found.isfinite().all() and wanted.isfinite().all()
    deviation = wanted.std()
    assert deviation > 1e-3
    return float((found - wanted).square().mean().sqrt() / deviation)

"""A stand-in for the EfficientNets that an inversion looks through, which take seconds to load and to run."""

from __future__ import annotations

import pytest
import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.classifiers.lite_trunk import Seen
from nsbgan_infer.inversion import search


class TinyTrunk(nn.Module):
    """Means over 2 x 2 to 16 x 16 pixels."""

    def __init__(self, name: str, *, wish: str) -> None:
        super().__init__()

    def forward(self, picture: Tensor) -> Seen:
        taps = tuple(F.avg_pool2d(picture, s) for s in (2, 4, 8, 16))
        return Seen(taps, taps[3].flatten(1), taps[3].flatten(1))


def use_tiny_trunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let inversions look through tiny trunks."""
    monkeypatch.setattr(search, "LiteTrunk", TinyTrunk)

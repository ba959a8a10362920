"""A decoder from another package: `iwt-crisp`, zero details in the wavelet basis, sharpened by an unsharp mask."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer import DecoderInfo, WaveletEncoder

AMOUNT = 0.6  # of the difference to a blurred copy is added


class Crisp:
    """(B, 3, h, w) low band, nominally [0, 1] -> (B, 3, 4h, 4w)."""

    info = DecoderInfo(name="iwt-crisp", basis="wavelet", scale=4, licence="Apache-2.0 (no weights)", halo=8)

    def __call__(self, low_band: Tensor) -> Tensor:
        picture = WaveletEncoder(levels=2).enlarge(low_band)
        smooth = F.avg_pool2d(F.pad(picture, (2, 2, 2, 2), mode="replicate"), 5, stride=1)
        return picture + AMOUNT * (picture - smooth)


def make() -> Crisp:
    """What the entry point names: a function without arguments that returns the decoder."""
    return Crisp()

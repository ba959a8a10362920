"""Step 3, wavelet basis: bior2.2 to any number of levels (paper section 3.1.1, equations 3 and 4, appendix G).

(B, 3, H, W) nominally [0, 1] -> low band (B, 3, H/2^L, W/2^L) with the same convention of values. A side that is not
a multiple of 2^L is first extended to one by repeating its last row or column; the inverse crops it back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from nsbgan_infer.encoders.base import Basis, check_levels, pad_to_multiple, register_encoder
from nsbgan_infer.encoders.lifting import Boundary, check_boundary, dwt2, idwt2


@dataclass(frozen=True)
class Pyramid:
    """All bands of one transform: nothing is lost.

    `low` (B, C, h, w) is the low band of the last level; `details[l]` (B, 3, C, h_l, w_l) are the details cH, cV, cD
    of level l + 1, so `details[0]` is the finest; `size` is (H, W) of the picture before padding.
    """

    low: Tensor
    details: tuple[Tensor, ...]
    size: tuple[int, int]


@register_encoder("wavelet")
@dataclass(frozen=True)
class WaveletEncoder:
    """bior2.2, `levels` halvings, border rule `boundary` (see `lifting`). Raises UsageError for bad settings.

    >>> import torch
    >>> encoder, picture = WaveletEncoder(levels=2), torch.rand(1, 3, 32, 48)
    >>> encoder(picture).shape
    torch.Size([1, 3, 8, 12])
    >>> torch.allclose(encoder.inverse(encoder.pyramid(picture)), picture, atol=1e-5)
    True
    """

    levels: int = 2
    boundary: Boundary = "symmetric"
    basis: ClassVar[Basis] = "wavelet"
    makes: ClassVar[str] = "wavelet"

    def __post_init__(self) -> None:
        check_levels(self.levels)
        check_boundary(self.boundary)

    def __call__(self, picture: Tensor) -> Tensor:
        """The low band of `picture`."""
        low = pad_to_multiple(picture, 2**self.levels)
        for _ in range(self.levels):
            low, _details = dwt2(low, self.boundary)
        return low

    def pyramid(self, picture: Tensor) -> Pyramid:
        """The low band and the details of every level."""
        low, details = pad_to_multiple(picture, 2**self.levels), []
        for _ in range(self.levels):
            low, bands = dwt2(low, self.boundary)
            details.append(bands)
        return Pyramid(low, tuple(details), (picture.shape[-2], picture.shape[-1]))

    def inverse(self, pyramid: Pyramid) -> Tensor:
        """The picture of a pyramid: exact for boundary `symmetric`, the authors' inverse for `zero`."""
        picture = pyramid.low
        for bands in reversed(pyramid.details):
            picture = idwt2(picture, bands, self.boundary)
        return picture[..., : pyramid.size[0], : pyramid.size[1]]

    def enlarge(self, low: Tensor) -> Tensor:
        """`low` enlarged by 2^levels with zero details (what the decoder `iwt` does)."""
        for _ in range(self.levels):
            low = idwt2(low, None, self.boundary)
        return low

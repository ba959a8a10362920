"""Step 4, eight times: the mean of a decoder's results on all turns and mirrors of a picture (self-ensemble).

(B, 3, h, w) -> (B, 3, scale * h, scale * w), at eight times the work (Lim et al. 2017, EDSR, arXiv:1707.02921, section
4.3: written with a + behind the name). The square's symmetries keep the centres of cells and no other points, so it is
for decoders that read centre-anchored reductions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.errors import UsageError

Turn = Callable[[Tensor], Tensor]


class SelfEnsemble(nn.Module):
    """`decoder` with its eight results averaged. Raises UsageError for one that reads a corner-anchored reduction."""

    def __init__(self, decoder: Decoder) -> None:
        super().__init__()
        reads = decoder.info.reduction
        if reads.anchor != "centre":
            raise UsageError(
                f"An ensemble turns and mirrors pictures, and {decoder.info.name} reads {reads}, which has no such "
                "symmetry: take a decoder that reads bicubic."
            )
        self.decoder = decoder  # moved and converted with this module if it is one
        self.info = replace(decoder.info, name=f"{decoder.info.name}+")

    def forward(self, low_band: Tensor) -> Tensor:
        """The mean in fp32, in the dtype of what came in."""
        total: Tensor | None = None
        for there, back in symmetries():
            result = back(self.decoder(there(low_band))).float()
            total = result if total is None else total + result
        assert total is not None
        return (total / 8).to(low_band.dtype)


def symmetries() -> Iterator[tuple[Turn, Turn]]:
    """The eight symmetries of the square, each with its inverse, for tensors (..., H, W)."""
    for mirrored in (False, True):
        for quarter in range(4):

            def there(x: Tensor, mirrored: bool = mirrored, quarter: int = quarter) -> Tensor:
                return torch.rot90(x.flip(-1) if mirrored else x, quarter, (-2, -1))

            def back(x: Tensor, mirrored: bool = mirrored, quarter: int = quarter) -> Tensor:
                x = torch.rot90(x, -quarter, (-2, -1))
                return x.flip(-1) if mirrored else x

            yield there, back

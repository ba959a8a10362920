"""Small pictures as a decoder reads them, by any factor: for training and for measuring decoders."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from nsbgan_infer.encoders.pixel import PixelEncoder
from nsbgan_infer.encoders.resize import shrink
from nsbgan_infer.encoders.wavelet import WaveletEncoder
from nsbgan_infer.errors import UsageError
from nsbgan_infer.reductions import reduction

Reducer = Callable[[Tensor], Tensor]  # (B, 3, H, W) in [0, 1] -> (B, 3, ceil(H / scale), ceil(W / scale))


def make_reducer(reads: str, scale: int) -> Reducer:
    """The reduction called `reads` by a factor of `scale`.

    What is centre anchored is an ordinary small picture, so it is rounded to 8 bits; for `bicubic` these are the usual
    benchmark pairs. Raises UnknownNameError, and UsageError for a low band of a scale that is not a power of two.
    """
    made = reduction(reads)
    if made.anchor == "centre":
        return lambda picture: shrink(picture, scale, made.filter, eight_bits=True)
    if scale < 2 or scale & (scale - 1):
        raise UsageError(f"A {reads} reduction is by 2, 4, 8 or 16, not by {scale}: take a decoder that reads bicubic.")
    levels = scale.bit_length() - 1
    return WaveletEncoder(levels) if made.basis == "wavelet" else PixelEncoder(levels)

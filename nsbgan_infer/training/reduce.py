"""What the decoder trainers feed: pictures made smaller as the decoder reads them, on the device that trains."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.encoders import PixelEncoder, WaveletEncoder
from nsbgan_infer.encoders.resize import shrink

Reducer = Callable[[Tensor], Tensor]  # (B, 3, H, W) in [0, 1] -> (B, 3, H / scale, W / scale)


def reducer_of(decoder: Decoder) -> Reducer:
    """The reduction that `decoder` reads, by its scale.

    An ordinary small picture (`bicubic`, `bilinear`) has 8 bits, so it is rounded to these.
    """
    info = decoder.info
    levels = info.scale.bit_length() - 1
    if info.reads == "wavelet":
        return WaveletEncoder(levels)
    if info.reads == "gaussian":
        return PixelEncoder(levels)
    return lambda picture: shrink(picture, info.scale, info.reduction.filter, eight_bits=True)

"""Which engine runs the decoders of an evaluation: pictures of many sizes, often hundreds of them."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from nsbgan_infer.datasets import ImageSource
from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.engines import place_for_any_size, place_part
from nsbgan_infer.errors import NsbError
from nsbgan_infer.storage.image_files import open_header

WORTH_OPENVINO = 1 << 23  # pixels: some 60 photos of 400 x 320; compiling takes 2 to 3 s, and saves a tenth with AVX2
LOOKED_AT = 8  # pictures whose sizes stand for all


def place_decoder(decoder: Decoder, name: str, device: torch.device, dtype: torch.dtype, pixels: int) -> Decoder:
    """The decoder on `device`, run by the engine called `name`, for pictures of `pixels` pixels in all.

    `auto`: on a CPU `openvino`, where it is installed, from 8 million pixels on, else `eager`. `openvino` compiles a
    network once for all sizes of pictures. Raises as `place_part` does.
    """
    if name == "auto":
        worth = device.type == "cpu" and pixels >= WORTH_OPENVINO and find_spec("openvino")
        name = "openvino" if worth else "eager"
    if name == "openvino":
        return place_for_any_size(decoder, device, dtype)
    return place_part(decoder, name, device, dtype)


def estimate_pixels(source: ImageSource) -> int:
    """About how many pixels all pictures have, from the headers of a few; one that cannot be read counts nothing."""
    few = source.spread(min(LOOKED_AT, len(source)))
    found = 0
    for i in range(len(few)):
        try:
            with open_header(few.read(i), few.names[i]) as image:
                found += image.width * image.height
        except NsbError:  # the evaluation says what is wrong with it
            continue
    return found * len(source) // len(few)

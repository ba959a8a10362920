"""Which engine enlarges photos: compiling pays from some size on, and a kept compilation always."""

from __future__ import annotations

from importlib.util import find_spec

import torch

from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.devices import computes_bf16
from nsbgan_infer.engines import EngineName, pick_engine
from nsbgan_infer.storage.components import Component

WORTH_OPENVINO = 1 << 20  # pixels of photos; compiling takes as long as plain torch needs for some 100,000
WORTH_COMPILING = 1 << 24  # on CUDA; torch.compile takes half a minute


def pick_photo_engine(name: str, device: torch.device, decoder: Decoder, pixels: int) -> EngineName:
    """The engine meant by `name` for photos of `pixels` pixels in all.

    `auto`: only for decoders that can be compiled; on a CPU `openvino` where it is installed, from a million pixels on,
    on CUDA `compile` from 16 million on, else `eager`. On a CPU that has no more than AVX2 both are equally fast
    (measured: 65 microseconds a pixel with `subband-w` on one core), so that `auto` stays with `eager` there. Raises
    UsageError as `pick_engine` does.
    """
    if name != "auto":
        return pick_engine(name, device, 0)[0]
    if not isinstance(decoder, Component):
        return "eager"
    if device.type == "cpu" and pixels >= WORTH_OPENVINO and computes_bf16(device) and find_spec("openvino"):
        return "openvino"
    return "compile" if device.type == "cuda" and pixels >= WORTH_COMPILING else "eager"

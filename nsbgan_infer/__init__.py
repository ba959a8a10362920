"""nsbgan_infer: class-conditional 512 x 512 pictures on small compute.

A class id becomes a latent, the sampler turns it into a small picture, an encoder may shrink it to a low band, a
decoder turns the low band into the big picture::

    from nsbgan_infer import NsbPipeline

    pipeline = NsbPipeline.from_pretrained("embedded")
    pipeline("golden retriever", num_images=4, seeds=0).images[0].save("dog.png")

Importing the package is quick: each public name is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nsbgan_infer.classes import find_class, parse_classes
    from nsbgan_infer.decoders.base import Decoder, DecoderInfo
    from nsbgan_infer.encoders import PixelEncoder, WaveletEncoder
    from nsbgan_infer.errors import NsbError
    from nsbgan_infer.latents import Latents, draw_latents, walk
    from nsbgan_infer.pipeline import Drawing, NsbPipeline, Output, Request, Stage
    from nsbgan_infer.registry import load_decoder, load_sampler
    from nsbgan_infer.samplers.base import Sampler, SamplerInfo
    from nsbgan_infer.storage.components import Component, load_component, save_component

__version__ = "0.1.0"

_HOME = {
    "Component": "storage.components",
    "Decoder": "decoders.base",
    "DecoderInfo": "decoders.base",
    "Drawing": "pipeline",
    "Latents": "latents",
    "NsbError": "errors",
    "NsbPipeline": "pipeline",
    "Output": "pipeline",
    "PixelEncoder": "encoders",
    "Request": "pipeline",
    "Sampler": "samplers.base",
    "SamplerInfo": "samplers.base",
    "Stage": "pipeline",
    "WaveletEncoder": "encoders",
    "draw_latents": "latents",
    "find_class": "classes",
    "load_component": "storage.components",
    "load_decoder": "registry",
    "load_sampler": "registry",
    "parse_classes": "classes",
    "save_component": "storage.components",
    "walk": "latents",
}

__all__ = [
    "Component",
    "Decoder",
    "DecoderInfo",
    "Drawing",
    "Latents",
    "NsbError",
    "NsbPipeline",
    "Output",
    "PixelEncoder",
    "Request",
    "Sampler",
    "SamplerInfo",
    "Stage",
    "WaveletEncoder",
    "__version__",
    "draw_latents",
    "find_class",
    "load_component",
    "load_decoder",
    "load_sampler",
    "parse_classes",
    "save_component",
    "walk",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nsbgan_infer' has no attribute '{name}'")
    return getattr(import_module(f"nsbgan_infer.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__

"""nsbgan_infer: class-conditional 512 x 512 pictures on small compute.

A class id becomes a latent, the sampler turns it into a small picture, an encoder may shrink it to a low band, a
decoder turns the low band into the big picture::

    from nsbgan_infer import NsbPipeline

    pipeline = NsbPipeline.from_pretrained("embedded")
    pipeline("golden retriever", num_images=4, seeds=0).save("dogs")

Importing the package is quick: each public name is loaded on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nsbgan_infer.bulk.plan import Plan
    from nsbgan_infer.bulk.run import run
    from nsbgan_infer.classes import find_class, list_classes, parse_classes
    from nsbgan_infer.decoders.base import Decoder, DecoderInfo
    from nsbgan_infer.encoders import PixelEncoder, Pyramid, WaveletEncoder
    from nsbgan_infer.errors import NsbError
    from nsbgan_infer.images import Recipe, grid, save_image
    from nsbgan_infer.inversion.run import invert
    from nsbgan_infer.latents import Latents, draw_latents, vary, walk
    from nsbgan_infer.latents.file import load_latents, save_latents
    from nsbgan_infer.outputs.inspect import inspect
    from nsbgan_infer.outputs.regenerate import from_recipe, regenerate
    from nsbgan_infer.outputs.writer import ImageWriter
    from nsbgan_infer.photos import enlarge, open_photo
    from nsbgan_infer.pipeline import NsbPipeline
    from nsbgan_infer.pretrained import list_models
    from nsbgan_infer.publishing.push import push_to_hub
    from nsbgan_infer.registry import load_classifier, load_decoder, load_inverter, load_sampler
    from nsbgan_infer.rejection import Rule, draw_accepted
    from nsbgan_infer.samplers.base import Sampler, SamplerInfo
    from nsbgan_infer.steps.calls import Drawing, Output, Request
    from nsbgan_infer.steps.joints import Stage
    from nsbgan_infer.steps.wrapping import as_decoder, as_sampler
    from nsbgan_infer.storage.architectures import Component
    from nsbgan_infer.storage.components import load_component, save_component

__version__ = "0.1.0"

_HOME = {
    "Component": "storage.architectures",
    "Decoder": "decoders.base",
    "DecoderInfo": "decoders.base",
    "Drawing": "steps.calls",
    "ImageWriter": "outputs.writer",
    "Latents": "latents",
    "NsbError": "errors",
    "NsbPipeline": "pipeline",
    "Output": "steps.calls",
    "PixelEncoder": "encoders",
    "Plan": "bulk.plan",
    "Pyramid": "encoders",
    "Recipe": "images",
    "Request": "steps.calls",
    "Rule": "rejection",
    "Sampler": "samplers.base",
    "SamplerInfo": "samplers.base",
    "Stage": "steps.joints",
    "WaveletEncoder": "encoders",
    "as_decoder": "steps.wrapping",
    "as_sampler": "steps.wrapping",
    "draw_accepted": "rejection",
    "draw_latents": "latents",
    "enlarge": "photos",
    "find_class": "classes",
    "from_recipe": "outputs.regenerate",
    "grid": "images",
    "inspect": "outputs.inspect",
    "invert": "inversion.run",
    "list_classes": "classes",
    "list_models": "pretrained",
    "load_classifier": "registry",
    "load_component": "storage.components",
    "load_decoder": "registry",
    "load_inverter": "registry",
    "load_latents": "latents.file",
    "load_sampler": "registry",
    "open_photo": "photos",
    "parse_classes": "classes",
    "push_to_hub": "publishing.push",
    "regenerate": "outputs.regenerate",
    "run": "bulk.run",
    "save_component": "storage.components",
    "save_image": "images",
    "save_latents": "latents.file",
    "vary": "latents",
    "walk": "latents",
}

__all__ = [
    "Component",
    "Decoder",
    "DecoderInfo",
    "Drawing",
    "ImageWriter",
    "Latents",
    "NsbError",
    "NsbPipeline",
    "Output",
    "PixelEncoder",
    "Plan",
    "Pyramid",
    "Recipe",
    "Request",
    "Rule",
    "Sampler",
    "SamplerInfo",
    "Stage",
    "WaveletEncoder",
    "__version__",
    "as_decoder",
    "as_sampler",
    "draw_accepted",
    "draw_latents",
    "enlarge",
    "find_class",
    "from_recipe",
    "grid",
    "inspect",
    "invert",
    "list_classes",
    "list_models",
    "load_classifier",
    "load_component",
    "load_decoder",
    "load_inverter",
    "load_latents",
    "load_sampler",
    "open_photo",
    "parse_classes",
    "push_to_hub",
    "regenerate",
    "run",
    "save_component",
    "save_image",
    "save_latents",
    "vary",
    "walk",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'nsbgan_infer' has no attribute '{name}'")
    return getattr(import_module(f"nsbgan_infer.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return __all__

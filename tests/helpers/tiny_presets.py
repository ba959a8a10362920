"""Every preset with narrow networks where its weights would be."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tiny import cache_tiny_biggan, ship_tiny_weights, tiny_published, tiny_sampler

from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.presets import PRESETS
from nsbgan_infer.storage.components import save_component


def tiny_preset(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch, decoder: str | None = None) -> NsbPipeline:
    """A preset loaded by its own code, with narrow networks where its weights would be."""
    ship_tiny_weights(folder / "weights", monkeypatch)
    sampler, wanted = None, PRESETS[name].sampler
    if wanted.startswith("biggan"):
        cache_tiny_biggan(int(wanted.rpartition("-")[2]))
    elif wanted.startswith("stylegan2"):
        from nsbgan_infer.samplers.stylegan2 import StyleGAN2, StyleGAN2Config

        torch.manual_seed(0)
        narrow = StyleGAN2Config((2,) * 9 if wanted == "stylegan2-ffhq" else (8,) * 7, style_dim=16, mapping_layers=2)
        sampler = str(save_component(StyleGAN2(narrow), folder / "stylegan2.safetensors"))
    elif wanted in ("r3gan-64", "bigbigan-128"):
        sampler = str(save_component(tiny_published(wanted), folder / "published.safetensors"))
    elif wanted.startswith("learned"):
        basis = PRESETS[name].stages[0].basis
        sampler = str(save_component(tiny_sampler(basis, name=wanted, resolution=64), folder / "own.safetensors"))
    return NsbPipeline.from_pretrained(name, sampler=sampler, decoder=decoder)

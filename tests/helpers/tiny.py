"""Tiny components with random weights, for tests of everything that is built out of samplers and decoders.

They are real architectures at narrow widths, so files, registries and pipelines treat them like the ones that ship.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from nsbgan_infer.classifiers.base import ClassifierInfo, Scores, to_8_bit
from nsbgan_infer.decoders.subband import SubbandConfig, SubbandDecoder
from nsbgan_infer.encoders import WaveletEncoder
from nsbgan_infer.pipeline import NsbPipeline, Stage
from nsbgan_infer.samplers.biggan import BigGANConfig, BigGANDeep
from nsbgan_infer.samplers.learned import LearnedConfig, LearnedSampler
from nsbgan_infer.storage.components import Component, save_component
from nsbgan_infer.storage.files import sha256_of

CLASSES = (1, 207, 217, 933)


def randomise(component: Component, seed: int = 0) -> Component:
    """Small random numbers in every parameter (zero ones included), so that nothing is flat by construction."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in component.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    return component.eval().requires_grad_(False)


def tiny_sampler(basis: str = "wavelet", *, name: str = "tiny", resolution: int = 16) -> LearnedSampler:
    """A learned sampler of `resolution` 16 that draws `CLASSES`."""
    stages = resolution.bit_length() - 2
    shift, scale = (3.0, 10.0) if basis == "wavelet" else (0.0, 1.0)
    torch.manual_seed(0)
    config = LearnedConfig(
        classes=CLASSES,
        form="lean",
        basis=basis,  # type: ignore[arg-type]
        resolution=resolution,
        z_dim=8,
        code_dim=4,
        choice_dim=4,
        centres=3,
        class_dim=4,
        widths=(8,) * stages,
        shift=shift,
        scale=scale,
        name=name,
        licence="tests only",
    )
    sampler = randomise(LearnedSampler(config))
    assert isinstance(sampler, LearnedSampler)
    return sampler


def tiny_decoder(name: str = "tiny-w") -> SubbandDecoder:
    """A wavelet decoder, x4."""
    torch.manual_seed(0)
    decoder = randomise(SubbandDecoder(SubbandConfig(name=name, blocks=1, channels=8)), seed=1)
    assert isinstance(decoder, SubbandDecoder)
    return decoder


def tiny_biggan(resolution: int = 128) -> BigGANDeep:
    """A BigGAN-deep at its real resolution, 1/16 as wide."""
    torch.manual_seed(0)
    sampler = randomise(BigGANDeep(BigGANConfig(resolution=resolution, channel_width=8)), seed=2)
    assert isinstance(sampler, BigGANDeep)
    return sampler


def tiny_published(name: str) -> Component:
    """R3GAN at 64 with 1000 classes, or BigBiGAN at 128, as narrow as they can be."""
    from nsbgan_infer.samplers.biggan_family import BigGANFamily, BigGANFamilyConfig
    from nsbgan_infer.samplers.r3gan import R3GAN, R3GANConfig

    torch.manual_seed(0)
    if name == "r3gan-64":
        return randomise(R3GAN(R3GANConfig((4,) * 5, (8,) * 5, (2,) * 5, (1,) * 5, z_dim=4, class_dim=4)))
    config = BigGANFamilyConfig(
        (8,) * 6, enlarging=(0, 1, 2, 3, 4), attention=(3,), z_dim=12, class_dim=0, num_classes=0
    )
    return randomise(BigGANFamily(config))


def tiny_pipeline() -> NsbPipeline:
    """16 -> 64 -> 32 -> 128, wavelet, like the embedded one."""
    decoder = tiny_decoder()
    return NsbPipeline(tiny_sampler(), [Stage(None, decoder), Stage(WaveletEncoder(1), decoder)], name="tiny")


class TinyClassifier(nn.Module):
    """12 features, the colours of a 2 x 2 grid, and 1000 logits that turn from picture to picture; `seen` counts."""

    info = ClassifierInfo("tiny-judge", 12, "area-2", "tests only")

    def __init__(self) -> None:
        super().__init__()
        self.mix = torch.randn(12, 1000, generator=torch.Generator().manual_seed(0))
        self.seen = 0

    def forward(self, pictures: Tensor) -> Scores:
        self.seen += len(pictures)
        features = nn.functional.adaptive_avg_pool2d(to_8_bit(pictures).float() / 255, 2).flatten(1)
        return Scores(features, 3 * torch.sin(30 * features @ self.mix))


def ship_tiny_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make `folder` the folder of the weights that ship, with tiny ones under the embedded names."""
    from nsbgan_infer import registry
    from nsbgan_infer.storage import shipped

    parts: dict[str, Component] = {
        "embedded-w-64": tiny_sampler("wavelet", name="embedded-w-64", resolution=64),
        "embedded-p-64": tiny_sampler("pixel", name="embedded-p-64", resolution=64),
        "subband-w": tiny_decoder("subband-w"),
    }
    rows = {}
    for name, part in parts.items():
        file = save_component(part, folder / f"{name}.safetensors")
        rows[name] = {"file": file.name, "sha256": sha256_of(file), "licence": "tests only"}
    defaults = {"generate": {"wavelet": "subband-w"}, "upscale": {"wavelet": "subband-w"}}
    (folder / "manifest.json").write_text(json.dumps({"components": rows, "defaults": defaults}))
    for module in (registry, shipped):
        monkeypatch.setattr(module, "weights_dir", lambda: folder)
    return folder


def cache_tiny_biggan(*resolutions: int) -> None:
    """Put narrow BigGANs where the conversions of the released ones are kept."""
    from nsbgan_infer.samplers.biggan_release import converted_folder

    for resolution in resolutions:
        save_component(tiny_biggan(resolution), converted_folder(f"biggan-deep-{resolution}"))

"""The ProGAN generator against a literal forward; fading, truncation, what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.latents import Latents, draw_latents
from nsbgan_infer.samplers.progan import ProGAN, ProGANConfig
from nsbgan_infer.storage.components import load_component, save_component


def made(**changes: Any) -> ProGAN:
    torch.manual_seed(0)
    return ProGAN(replace(ProGAN.tiny, **changes)).eval().requires_grad_(False)


def literal(sampler: ProGAN, z: Tensor, y: Tensor) -> Tensor:
    """The formulas of Karras et al. 2018, picture by picture, pixels by hand."""
    p, c = sampler.state_dict(), sampler.config
    pictures = []
    for i in range(len(z)):
        given = torch.cat([z[i] / z[i].norm() * len(z[i]) ** 0.5, y[i]])
        x = (p["start.weight"] @ given + p["start.bias"]).view(-1, 4, 4)

        def norm(x: Tensor) -> Tensor:
            x = torch.where(x > 0, x, 0.2 * x)
            return x / (x.square().sum(0) / len(x) + 1e-8).sqrt()

        def conv(x: Tensor, name: str) -> Tensor:
            return F.conv2d(
                x[None], p[f"{name}.weight"], p[f"{name}.bias"], padding=p[f"{name}.weight"].shape[-1] // 2
            )[0]

        x = before = norm(conv(norm(x), "first"))
        for s in range(len(c.widths) - 1):
            before = x
            x = x.repeat_interleave(2, 1).repeat_interleave(2, 2)
            x = norm(conv(norm(conv(x, f"stages.{s}.conv1")), f"stages.{s}.conv2"))
        out = conv(x, f"to_rgb.{len(c.widths) - 1}")
        if c.alpha < 1:
            old = conv(before, f"to_rgb.{len(c.widths) - 2}").repeat_interleave(2, 1).repeat_interleave(2, 2)
            out = (1 - c.alpha) * old + c.alpha * out
        level = 2.0**c.levels if c.basis == "wavelet" else 1.0
        pictures.append(((out + 1) / 2 * c.scale - c.shift) / level)
    return torch.stack(pictures)


@pytest.mark.parametrize(
    "changes",
    [{}, {"alpha": 0.25}, {"widths": (8,)}, {"basis": "pixel", "levels": 0, "shift": 0.0, "scale": 1.0}],
    ids=str,
)
def test_it_is_the_published_generator(changes: dict[str, Any]) -> None:
    sampler = made(**changes)
    z, y = torch.randn(2, 4), torch.eye(2)
    weights = torch.zeros(2, 1000)
    weights[:, [1, 207]] = y
    found = sampler(Latents(z, weights, (0, 1), 1.0, "scale"))
    torch.testing.assert_close(found, literal(sampler, z, y), atol=1e-5, rtol=1e-5)
    assert found.shape[-1] == sampler.info.resolution == 4 * 2 ** (len(sampler.config.widths) - 1)


def test_truncation_scales_the_direction_and_nothing_else_does() -> None:
    sampler = made()
    info = sampler.info
    whole, half = (
        sampler.graph_inputs(
            draw_latents([3], [207], z_dim=4, truncation=t, mode=info.truncation_mode, truncates=info.truncates)
        )["direction"]
        for t in (1.0, 0.5)
    )
    torch.testing.assert_close(half, 0.5 * whole)
    assert float(whole.norm()) == pytest.approx(2.0)  # sqrt(z_dim)


def test_saved_and_loaded_it_draws_the_same(tmp_path: Path) -> None:
    sampler = made(makes="wavelet", licence="MIT")
    save_component(sampler, tmp_path / "s")
    again: Any = load_component(tmp_path / "s", kind="sampler")
    latents = draw_latents([0, 1], [1, 207], z_dim=4, truncation=0.7, mode="scale", truncates="w")
    assert torch.equal(again(latents), sampler(latents)) and again.info.licence == "MIT"
    assert again.info.reduction.name == "wavelet"


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ()},
        {"classes": (1000,)},
        {"widths": ()},
        {"widths": (0,)},
        {"z_dim": 0},
        {"alpha": 1.5},
        {"widths": (4,), "alpha": 0.5},
        {"scale": 0.0},
        {"truncation": 0.0},
        {"basis": "jpeg"},
    ],
    ids=str,
)
def test_impossible_configurations_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        replace(ProGANConfig((1, 2)), **change)

"""StyleGAN2 against a slow reference written from the paper's definitions, on the public checkpoint layout."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stylegan2_weights import AVERAGE, DEPTH, DIM, WIDTHS, public_checkpoint
from torch import Tensor

from nsbgan_infer.errors import CheckpointError, UsageError
from nsbgan_infer.latents import draw_latents
from nsbgan_infer.samplers.stylegan2 import StyleGAN2, StyleGAN2Config, config_f
from nsbgan_infer.samplers.stylegan2_layouts import from_public_layout
from nsbgan_infer.storage.components import empty_weights, load_component, save_component


@pytest.fixture(scope="module")
def sampler() -> StyleGAN2:
    return from_public_layout(public_checkpoint(), AVERAGE)


class Reference:
    """One image, float64, plain loops; nothing shared with the package but the checkpoint."""

    def __init__(self, state: dict[str, Tensor], average: Tensor) -> None:
        self.p = {k: v.double().numpy() for k, v in state.items()}
        self.average = average.double().numpy()

    def picture(self, z: np.ndarray, psi: float, noise: list[np.ndarray]) -> np.ndarray:
        w = self.average + psi * (self.mapping(z) - self.average)
        x = self.layer("conv1", self.p["input.input"][0], w, noise[0], up=False)
        rgb = self.rgb("to_rgb1", x, w)
        for j in range(len(WIDTHS) - 1):
            x = self.layer(f"convs.{2 * j}", x, w, noise[2 * j + 1], up=True)
            x = self.layer(f"convs.{2 * j + 1}", x, w, noise[2 * j + 2], up=False)
            rgb = self.rgb(f"to_rgbs.{j}", x, w) + upfirdn(rgb, 2, (2, 1), self.p[f"to_rgbs.{j}.upsample.kernel"])
        return rgb / 2 + 0.5

    def mapping(self, z: np.ndarray) -> np.ndarray:
        x = z / np.sqrt(np.mean(z**2) + 1e-8)
        for i in range(1, DEPTH + 1):
            weight = self.p[f"style.{i}.weight"] * 0.01 / math.sqrt(DIM)
            x = act(weight @ x + 0.01 * self.p[f"style.{i}.bias"])
        return x

    def kernel(self, name: str, w: np.ndarray, demodulate: bool) -> np.ndarray:
        style = self.p[f"{name}.conv.modulation.weight"] @ w / math.sqrt(DIM) + self.p[f"{name}.conv.modulation.bias"]
        weight = self.p[f"{name}.conv.weight"][0]
        _, inputs, size, _ = weight.shape
        weight = weight / math.sqrt(inputs * size * size) * style[None, :, None, None]
        if demodulate:
            for o in range(len(weight)):
                weight[o] /= math.sqrt((weight[o] ** 2).sum() + 1e-8)
        return weight

    def layer(self, name: str, x: np.ndarray, w: np.ndarray, noise: np.ndarray, *, up: bool) -> np.ndarray:
        weight = self.kernel(name, w, True)
        if up:
            x = upfirdn(spread(x, weight), 1, (1, 1), self.p[f"{name}.conv.blur.kernel"])
        else:
            x = correlate(np.pad(x, ((0, 0), (1, 1), (1, 1))), weight)
        x = x + self.p[f"{name}.noise.weight"][0] * noise
        return act(x + self.p[f"{name}.activate.bias"][:, None, None])

    def rgb(self, name: str, x: np.ndarray, w: np.ndarray) -> np.ndarray:
        return correlate(x, self.kernel(name, w, False)) + self.p[f"{name}.bias"][0]


def act(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, 0.2 * x) * math.sqrt(2)


def correlate(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    outputs, _, k, _ = weight.shape
    h, w = x.shape[1] - k + 1, x.shape[2] - k + 1
    out = np.zeros((outputs, h, w))
    for o in range(outputs):
        for i in range(h):
            for j in range(w):
                out[o, i, j] = (weight[o] * x[:, i : i + k, j : j + k]).sum()
    return out


def spread(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Transposed convolution of stride 2: every pixel paints its kernel at twice its place."""
    _, h, w = x.shape
    out = np.zeros((weight.shape[0], 2 * h + 1, 2 * w + 1))
    for i in range(h):
        for j in range(w):
            out[:, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3] += np.einsum("oikl,i->okl", weight, x[:, i, j])
    return out


def upfirdn(x: np.ndarray, up: int, pad: tuple[int, int], kernel: np.ndarray) -> np.ndarray:
    channels, h, w = x.shape
    wide = np.zeros((channels, h * up, w * up))
    wide[:, ::up, ::up] = x
    wide = np.pad(wide, ((0, 0), pad, pad))
    flipped = kernel[::-1, ::-1]
    return np.stack([correlate(c[None], flipped[None, None])[0] for c in wide])


@pytest.mark.parametrize("psi", [1.0, 0.5])
def test_equals_the_reference_with_its_own_noise_and_truncation(sampler: StyleGAN2, psi: float) -> None:
    latents = draw_latents([3, 4], [None, None], z_dim=DIM, truncation=psi, mode="scale", truncates="w")
    noise = sampler.draw_noise(latents.seeds)
    reference = Reference(public_checkpoint(), AVERAGE)
    for i, picture in enumerate(sampler(latents).double().numpy()):
        want = reference.picture(latents.z[i].double().numpy(), psi, [n[i, 0].double().numpy() for n in noise])
        assert want.std() > 0.1
        assert np.abs(picture - want).max() < 2e-5


def test_every_part_of_the_checkpoint_reaches_the_picture() -> None:
    latents = draw_latents([3], [None], z_dim=DIM, truncation=0.5, mode="scale", truncates="w")
    base = from_public_layout(public_checkpoint(), AVERAGE)(latents)
    for name in public_checkpoint():
        if name.startswith("noises.") or name.endswith(".kernel"):
            continue
        state = public_checkpoint()
        state[name] = state[name] * 1.5 + 0.1
        assert (from_public_layout(state, AVERAGE)(latents) - base).abs().max() > 1e-6, name
    assert (from_public_layout(public_checkpoint(), AVERAGE + 1)(latents) - base).abs().max() > 1e-6


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=5, unique=True), st.integers(0, 5))
def test_a_picture_depends_on_its_own_seed_alone(seeds: list[int], cut: int) -> None:
    sampler = from_public_layout(public_checkpoint(), AVERAGE)
    latents = draw_latents(seeds, [None] * len(seeds), z_dim=DIM, truncation=0.7, mode="scale", truncates="w")
    whole = sampler(latents)
    parts = [sampler(p) for p in (latents[:cut], latents[cut:]) if len(p)]
    assert torch.allclose(whole, torch.cat(parts), atol=2e-5)
    for i, maps in enumerate(zip(*(n for n in sampler.draw_noise(seeds)), strict=True)):
        alone = sampler.draw_noise(seeds[i : i + 1])
        assert all(torch.equal(a, b[0]) for a, b in zip(maps, alone, strict=True))


def test_noise_is_normal_differs_by_layer_and_seed_and_is_not_the_stream_of_z(sampler: StyleGAN2) -> None:
    maps = sampler.draw_noise(range(200))
    assert [m.shape for m in maps] == [(200, 1, r, r) for r in (4, 8, 8, 16, 16)]
    for m in maps:
        assert abs(m.mean().item()) < 0.05 and abs(m.std().item() - 1) < 0.05
    assert not torch.equal(maps[1], maps[2])
    same_stream = torch.randn(1, 4, 4, generator=torch.Generator("cpu").manual_seed(7))
    assert not torch.equal(maps[0][7], same_stream)


def test_truncation_scales_w_and_leaves_z_whole(sampler: StyleGAN2) -> None:
    def draw(psi: float) -> tuple[Tensor, Tensor]:
        latents = draw_latents([1, 2], [None, None], z_dim=DIM, truncation=psi, mode="scale", truncates="w")
        return latents.z, sampler(latents)

    z1, full = draw(1.0)
    z2, near = draw(1e-6)
    assert torch.equal(z1, z2)
    mean = sampler.synthesise(AVERAGE.expand(2, -1), sampler.draw_noise([1, 2]))
    assert torch.allclose(near, mean, atol=1e-4) and not torch.allclose(full, mean, atol=1e-2)
    with pytest.raises(UsageError, match="use --truncation-mode scale"):
        draw_latents([1], [None], z_dim=DIM, truncation=0.5, mode="resample", truncates="w")
    assert (sampler.info.truncates, sampler.info.truncation_mode, sampler.info.classes) == ("w", "scale", None)


def test_without_latent_avg_the_mean_of_mapped_z_takes_its_place() -> None:
    sampler = from_public_layout(public_checkpoint(), None)
    z = torch.randn(20_000, DIM, generator=torch.Generator("cpu").manual_seed(9))
    assert torch.allclose(sampler.latent_avg, sampler.map(z).mean(0), atol=0.05)
    assert sampler.latent_avg.abs().max() > 0.1


def test_configuration_f_has_the_published_size() -> None:
    with empty_weights():
        model = StyleGAN2(config_f(1024))
    assert sum(p.numel() for p in model.parameters()) == 30_370_060  # as printed by the authors' code for FFHQ
    assert config_f(1024).channels == (512, 512, 512, 512, 512, 256, 128, 64, 32)
    assert config_f(256, channel_multiplier=1).channels == (512, 512, 512, 512, 256, 128, 64)
    with pytest.raises(ValueError, match="power of two"):
        config_f(96)


def test_saved_and_loaded_it_draws_the_same(sampler: StyleGAN2, tmp_path: Path) -> None:
    save_component(sampler, tmp_path / "s")
    latents = draw_latents([5], [None], z_dim=DIM, truncation=0.6, mode="scale", truncates="w")
    again = load_component(tmp_path / "s", kind="sampler")
    assert all(torch.equal(v, sampler.state_dict()[k]) for k, v in again.state_dict().items())
    assert torch.allclose(again(latents), sampler(latents), atol=1e-5)


def test_bf16_stays_near_fp32(sampler: StyleGAN2) -> None:
    latents = draw_latents(range(4), [None] * 4, z_dim=DIM, truncation=0.8, mode="scale", truncates="w")
    low = from_public_layout(public_checkpoint(), AVERAGE).bfloat16()(latents)
    assert low.dtype == torch.bfloat16
    full = sampler(latents)
    assert (low.float() - full).abs().mean() < 0.02 * full.std() + 0.01


def test_wrong_checkpoints_are_refused_with_what_differs() -> None:
    state = public_checkpoint()
    del state["convs.1.noise.weight"]
    state["convs.9.extra"] = torch.zeros(1)
    with pytest.raises(CheckpointError, match=r"missing convs\.1\.noise\.weight; unexpected convs\.9\.extra"):
        from_public_layout(state, AVERAGE)
    state = public_checkpoint()
    state["to_rgbs.0.upsample.kernel"] = torch.ones(4, 4) / 4
    with pytest.raises(CheckpointError, match=r"\[1, 3, 3, 1\]"):
        from_public_layout(state, AVERAGE)
    with pytest.raises(CheckpointError, match=r"latent_avg is \[4\] instead of \[8\]"):
        from_public_layout(public_checkpoint(), torch.zeros(4))
    with pytest.raises(CheckpointError, match="usual layout"):
        from_public_layout({"style.1.weight": torch.zeros(8, 8)}, None)


@pytest.mark.parametrize("change", [{"channels": ()}, {"channels": (4, 0)}, {"style_dim": 0}, {"truncation": 0.0}])
def test_impossible_configurations_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        replace(StyleGAN2Config(), **change)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_published_size_at_256(tmp_path: Path) -> None:
    """Random weights in the public layout at full width: converted, saved, loaded, drawn."""
    state = public_checkpoint(widths=config_f(256).channels, dim=512, depth=8)
    converted = from_public_layout(state, torch.zeros(512))
    assert converted.config == replace(config_f(256), stored_noise=True)
    save_component(converted, tmp_path / "s")
    sampler = load_component(tmp_path / "s", kind="sampler")
    latents = draw_latents([0], [None], z_dim=512, truncation=0.7, mode="scale", truncates="w")
    picture = sampler(latents)
    assert picture.shape == (1, 3, 256, 256) and torch.isfinite(picture).all() and picture.std() > 0.01

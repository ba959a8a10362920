"""Learned samplers: the contract for every form, the prior, the normalisation, and the weights that ship."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.latents import Latents, draw_latents
from nsbgan_infer.samplers.learned import CodePrior, LearnedConfig, LearnedSampler
from nsbgan_infer.samplers.resnets import Attention, ConditionalNorm, ResNetGenerator
from nsbgan_infer.samplers.span import denormalised, normalised
from nsbgan_infer.storage.components import (
    build_component,
    component_config,
    load_component,
    parse_config,
    save_component,
)

COVERS = ["samplers.base", "samplers.lean", "samplers.resnets", "samplers.span"]

CLASSES = (5, 207, 999)
FORMS: dict[str, dict[str, Any]] = {
    "lean": {
        "z_dim": 10,
        "code_dim": 6,
        "choice_dim": 4,
        "centres": 5,
        "class_dim": 4,
        "widths": (8, 8, 8, 8, 8),
        "resolution": 64,
    },
    "biggan": {"z_dim": 10, "class_dim": 4, "channels": 4},
    "biggan-deep": {"z_dim": 6, "class_dim": 4, "channels": 4, "depth": 2},
}
EMBEDDED = Path(__file__).parents[2] / "weights" / "embedded-w-64.safetensors"


def make(form: str, **overrides: Any) -> LearnedSampler:
    torch.manual_seed(0)
    sampler = LearnedSampler(LearnedConfig(classes=CLASSES, form=form, **{**FORMS[form], **overrides}))  # type: ignore[arg-type]
    for parameter in sampler.parameters():  # nothing zero by construction, running statistics included
        parameter.data += 0.1 * torch.randn_like(parameter)
    for name, buffer in sampler.named_buffers():
        if "running" in name:
            buffer += torch.rand_like(buffer)
    return sampler.eval().requires_grad_(False)


def latents(sampler: LearnedSampler, count: int = 4) -> Latents:
    ids = [CLASSES[i % len(CLASSES)] for i in range(count)]
    return draw_latents(range(count), ids, z_dim=sampler.info.z_dim, truncation=0.7, mode="std")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("basis", ["wavelet", "pixel"])
def test_every_form_keeps_the_contract(form: str, basis: str) -> None:
    sampler = make(form, basis=basis)
    info, drawn = sampler.info, sampler(latents(sampler))
    assert drawn.shape == (4, 3, info.resolution, info.resolution)
    assert drawn.dtype == torch.float32 and torch.isfinite(drawn).all()
    assert (info.basis, info.classes, info.truncation_mode) == (basis, CLASSES, "std")
    assert (drawn[0] - drawn[1]).abs().max() > 1e-3


@pytest.mark.parametrize("form", FORMS)
def test_an_image_depends_on_its_own_latent_alone(form: str) -> None:
    sampler = make(form)
    given = latents(sampler)
    alone = torch.cat([sampler(given[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(sampler(given), alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_classes_are_columns_of_y_and_may_be_mixed(form: str) -> None:
    sampler = make(form)
    z = latents(sampler, 2).z
    weights = torch.tensor([[0.25, 0.75, 0.0], [0.0, 0.0, 1.0]])
    y = torch.zeros(2, 1000)
    y[:, list(CLASSES)] = weights
    y[:, 42] = 9  # a class that this sampler cannot draw
    torch.testing.assert_close(sampler(Latents(z, y, (0, 1), 1.0, "std")), sampler.draw(z, weights))
    assert (sampler.draw(z, weights) - sampler.draw(z, weights.flip(1))).abs().max() > 1e-4


@pytest.mark.parametrize("form", FORMS)
def test_saved_and_loaded_it_draws_the_same(form: str, tmp_path: Path) -> None:
    sampler = make(form)
    save_component(sampler, tmp_path / "s.safetensors")
    torch.testing.assert_close(load_component(tmp_path / "s.safetensors")(latents(sampler)), sampler(latents(sampler)))


@pytest.mark.parametrize("form", FORMS)
def test_bf16_stays_near_fp32(form: str) -> None:
    sampler = make(form)
    given, exact = latents(sampler), sampler(latents(sampler))
    rough = sampler.to(torch.bfloat16)(given)
    assert rough.dtype == torch.float32
    assert (rough - exact).abs().mean() < 0.05 * max(1.0, float(exact.std()))


@pytest.mark.parametrize(
    "wrong",
    [
        {"form": "gan"},
        {"classes": []},
        {"classes": [1000]},
        {"form": "biggan", "z_dim": 128},
        {"resolution": 100},
        {"form": "lean"},
        {"scale": 0.0},
        {"chanels": 4},
    ],
)
def test_a_configuration_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError):
        parse_config(LearnedConfig, {"classes": [1, 2], **wrong}, where="config.json")


@settings(max_examples=30, deadline=None)
@given(st.floats(0, 5), st.floats(0.5, 20), st.sampled_from(["wavelet", "pixel"]), st.integers(1, 3))
def test_normalisation_is_undone(shift: float, scale: float, basis: str, levels: int) -> None:
    config = LearnedConfig(classes=(1,), basis=basis, levels=levels, shift=shift, scale=scale)  # type: ignore[arg-type]
    low = torch.linspace(-1, 2, 12).view(1, 3, 2, 2)
    torch.testing.assert_close(denormalised(normalised(low, config), config), low, atol=1e-4, rtol=1e-4)


def test_the_papers_constants_put_white_at_0_7() -> None:
    """Spec 1.7: TL-2 of white is 4, and (4 + 3) / 10 = 0.7; norm11 of it is 0.4."""
    config = LearnedConfig(classes=(1,), shift=3.0, scale=10.0)
    assert float(normalised(torch.ones(1), config)) == pytest.approx(0.4, abs=1e-6)


def test_the_prior_blends_codes_and_truncation_shrinks_the_rest() -> None:
    torch.manual_seed(0)
    prior = CodePrior(2, 5, 6, 4)
    prior.mean.data.normal_()
    prior.offset.data.normal_()
    z, weights = torch.randn(3, 10), F.one_hot(torch.tensor([0, 1, 1]), 2).float()
    code, half = prior(z, weights), prior(z * 0.5, weights)
    torch.testing.assert_close(code - half, 0.5 * z[:, :6])  # spread 1: the blend is that of the direction alone
    blend = code - z[:, :6] - weights @ prior.mean
    solved = torch.linalg.lstsq(prior.offset[1].t(), blend[1:].t()).solution.t()
    torch.testing.assert_close(solved.square().sum(1), torch.ones(2), atol=1e-3, rtol=1e-3)


def test_the_sharper_the_choice_the_nearer_a_blend_is_to_one_stored_code() -> None:
    plain, sharp = make("lean"), make("lean", sharpness=240.0)
    prior = sharp.prior
    assert plain.prior.sharpness == 24
    prior.offset.data.normal_()
    plain.prior.load_state_dict(prior.state_dict())
    z, weights = torch.randn(64, 10), torch.eye(3)[:1].expand(64, -1)
    z[:, :6] = 0
    stored = prior.mean[0] + prior.offset[0]
    near, blended = (torch.cdist(p(z, weights), stored).min(1).values.mean() for p in (prior, plain.prior))
    assert near < 0.6 * blended
    code = prior(z, weights)  # and a code is found again
    torch.testing.assert_close(prior(prior.find(code, weights), weights), code, atol=1e-4, rtol=1e-4)


def test_a_choice_without_sharpness_is_refused() -> None:
    with pytest.raises(ValueError, match="sharpness must be above 0"):
        make("lean", sharpness=0.0)


def test_batch_norm_gain_is_one_plus_a_linear_map() -> None:
    norm = ConditionalNorm(3, 2).eval()
    x, condition = torch.randn(2, 3, 4, 4), torch.randn(2, 2)
    norm.norm.running_mean.normal_()  # type: ignore[union-attr]
    norm.norm.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    mean, variance = (t.view(1, 3, 1, 1) for t in (norm.norm.running_mean, norm.norm.running_var))  # type: ignore[union-attr]
    gain = 1 + condition @ norm.gain.weight.t()
    bias = condition @ norm.bias.weight.t()
    expected = (x - mean) / (variance + 1e-5).sqrt() * gain[..., None, None] + bias[..., None, None]
    torch.testing.assert_close(norm(x, condition), expected)


def test_attention_is_the_formula() -> None:
    torch.manual_seed(1)
    attention, x = Attention(16), torch.randn(2, 16, 4, 6)
    torch.testing.assert_close(attention(x), x)  # its share starts at 0
    attention.gamma.data.fill_(0.7)
    theta, phi, g = (layer(x) for layer in (attention.theta, attention.phi, attention.g))
    phi, g = F.max_pool2d(phi, 2).flatten(2), F.max_pool2d(g, 2).flatten(2)
    beta = torch.softmax(theta.flatten(2).transpose(1, 2) @ phi, -1)  # (B, HW, HW/4)
    expected = x + 0.7 * attention.out((g @ beta.transpose(1, 2)).view(2, 8, 4, 6))
    torch.testing.assert_close(attention(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("resolution", "chunks"), [(64, 5), (128, 6), (256, 7)])
@pytest.mark.parametrize("deep", [True, False])
def test_bigger_generators_have_the_published_stages(resolution: int, chunks: int, deep: bool) -> None:
    generator = ResNetGenerator(2 * chunks, 4, 4, deep=deep, depth=1, resolution=resolution).eval()
    with torch.no_grad():
        assert generator(torch.randn(1, 2 * chunks), torch.randn(1, 4)).shape == (1, 3, resolution, resolution)


def test_the_embedded_sampler_is_small_and_varied() -> None:
    if not EMBEDDED.exists():
        pytest.skip("the embedded sampler is not in this checkout")
    sampler = load_component(EMBEDDED, kind="sampler")
    assert isinstance(sampler, LearnedSampler)
    assert sum(p.numel() for p in sampler.parameters()) <= 5_000_000
    info = sampler.info
    assert info.basis == "wavelet" and info.classes is not None and len(info.classes) == 20
    given = draw_latents(range(8), [207] * 8, z_dim=info.z_dim, truncation=info.truncation, mode=info.truncation_mode)
    low = sampler(given)
    assert float(low.quantile(0.01)) > -0.3 and float(low.quantile(0.99)) < 1.3
    assert float(low.std(0).mean()) > 0.08  # real golden retrievers: about 0.24


def test_the_configuration_describes_it_again() -> None:
    sampler = make("biggan-deep")
    again = build_component(component_config(sampler))
    assert {k: v.shape for k, v in again.state_dict().items()} == {k: v.shape for k, v in sampler.state_dict().items()}

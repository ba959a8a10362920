"""Progressive growing: where a run is in its growth, what the networks see there, resuming inside a fade."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from nsbgan_infer.encoders import WaveletEncoder
from nsbgan_infer.errors import UsageError
from nsbgan_infer.samplers.progan import ProGAN, ProGANConfig
from nsbgan_infer.storage.components import load_component
from nsbgan_infer.training.loop import make_accelerator
from nsbgan_infer.training.samplers.equalised import put_equalised_rate
from nsbgan_infer.training.samplers.lowbands import LowBandSet
from nsbgan_infer.training.samplers.presets import sampler_settings
from nsbgan_infer.training.samplers.progan import (
    Growth,
    ProGANDiscriminator,
    ProGANSettings,
    ProGANTask,
    growth_at,
    train_progan,
    with_deviation,
)
from nsbgan_infer.training.samplers.spectral import plain_state

COVERS = ["training.samplers.equalised"]


@pytest.fixture
def bands(monkeypatch: pytest.MonkeyPatch) -> None:
    """16 x 16 low bands of two classes, without a folder."""
    import numpy as np

    low = np.random.default_rng(0).random((12, 2, 3, 16, 16)).astype(np.float16)
    labels = torch.arange(12) % 2
    data = LowBandSet(low, labels, (0, 207), WaveletEncoder(2), 64, 0.0, 1.0, 0.5, 0.3)
    monkeypatch.setattr("nsbgan_infer.training.samplers.adversarial.open_lowbands", lambda _folder: data)


def tiny(out: Path, **overrides: Any) -> ProGANSettings:
    loop = {"quiet": True, "tensorboard": False, "device": "cpu", "log_every": 1, "save_every": 1, "steps": 10}
    loop |= overrides.pop("loop", {})
    given = {"widths": [6, 6, 4], "z_dim": 4, "growth": 0.8, **overrides, "loop": loop}
    settings = sampler_settings("tiny", form="progan", data="-", out=out, overrides=given)
    assert isinstance(settings, ProGANSettings)
    return settings


@given(stages=st.integers(1, 7), steps=st.integers(1, 5000), share=st.floats(0.05, 1))
def test_growth_never_shrinks_and_is_over_in_time(stages: int, steps: int, share: float) -> None:
    found = [growth_at(step, steps, stages, share) for step in range(0, steps, max(1, steps // 60))]
    places = [g.stages - (1 - g.alpha) for g in found]
    assert places == sorted(places) and found[0] == Growth(1, 1.0)
    assert growth_at(steps, steps, stages, share) == Growth(stages, 1.0)


def test_small_sizes_can_be_shown_more() -> None:
    """Of 100 steps 4 x 4 has 40, both phases of 8 x 8 have 20, the fade of 16 x 16 has 10, and 10 are left."""
    found = [growth_at(step, 100, 3, 0.9, 0.5) for step in range(100)]
    counts = [
        sum((g.stages, g.alpha < 1) == kind for g in found) for kind in ((1, False), (2, True), (2, False), (3, True))
    ]
    assert counts == [40, 20, 20, 10]


def test_networks_are_continuous_where_a_stage_begins() -> None:
    """At alpha 0 both networks do what they did at the smaller size."""
    torch.manual_seed(0)
    config = ProGANConfig((1, 2), (6, 6, 4), z_dim=4)
    sampler, discriminator = ProGAN(config), ProGANDiscriminator(config)
    z, y = torch.randn(4, 4), torch.eye(2).repeat(2, 1)
    small = sampler.draw(z, y, stages=2, alpha=1.0)
    large = sampler.draw(z, y, stages=3, alpha=0.0)
    torch.testing.assert_close(large, F.interpolate(small, scale_factor=2.0))
    discriminator.growth = Growth(2, 1.0)
    (before,) = discriminator(small, torch.tensor([0, 1, 0, 1]))
    discriminator.growth = Growth(3, 0.0)
    (after,) = discriminator(large, torch.tensor([0, 1, 0, 1]))
    torch.testing.assert_close(after, before)


def test_the_deviation_is_that_of_four_pictures() -> None:
    x = torch.randn(8, 2, 4, 4, dtype=torch.float64)
    found = with_deviation(x)
    assert found.shape == (8, 3, 4, 4) and torch.equal(found[:, :2], x)
    for group in range(2):
        pictures = x[group::2]
        expected = ((pictures - pictures.mean(0)).square().mean(0) + 1e-8).sqrt().mean()
        torch.testing.assert_close(found[group::2, 2], expected.expand(4, 4, 4), atol=1e-6, rtol=1e-6)
    assert with_deviation(x[:6])[:, 2].unique().numel() == 1  # no multiple of four: one group


def test_the_equalised_rate_scales_unit_weights() -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(8, 64, 3), nn.Linear(400, 300))
    put_equalised_rate(module, last=(module[1],))
    raw = dict(module.named_parameters())
    assert abs(float(raw["0.parametrizations.weight.original"].detach().std()) - 1) < 0.05
    state = plain_state(module)
    assert float(state["0.weight"].std()) == pytest.approx((2 / 72) ** 0.5, rel=0.05)
    assert float(state["1.weight"].std()) == pytest.approx((1 / 400) ** 0.5, rel=0.05)
    assert float(state["0.bias"].abs().max()) == 0 and set(state) == {"0.weight", "0.bias", "1.weight", "1.bias"}


def test_real_pictures_fade_as_the_drawn_ones_do(bands: None, tmp_path: Path) -> None:
    task = ProGANTask(tiny(tmp_path), make_accelerator("cpu"))
    real = torch.rand(2, 3, 16, 16)
    task.growth = Growth(3, 0.25)
    small = F.avg_pool2d(real, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(task._fitted(real), 0.75 * small + 0.25 * real)
    task.growth = Growth(1, 1.0)
    torch.testing.assert_close(task._fitted(real), F.avg_pool2d(real, 4))


@pytest.mark.parametrize("loss", ["wgan-gp", "lsgan"])
def test_a_run_that_is_cut_inside_a_fade_goes_on_to_the_same_numbers(bands: None, tmp_path: Path, loss: str) -> None:
    """Steps 2 and 3, and 6 and 7, of ten are fades."""
    whole = train_progan(tiny(tmp_path / "whole", loss=loss))
    train_progan(tiny(tmp_path / "cut", loss=loss, loop={"stop_after": 7}))
    growing: Any = load_component(tmp_path / "cut")
    assert growing.config.alpha == 0.0 and growing.info.resolution == 16
    again = train_progan(tiny(tmp_path / "cut", loss=loss))
    rows = [json.loads(line) for line in (tmp_path / "cut" / "log.jsonl").read_text().splitlines()]
    assert [(r["side"], r["alpha"]) for r in rows] == [
        (4, 1), (4, 1), (8, 0), (8, 0.5), (8, 1), (8, 1), (16, 0), (16, 0.5), (16, 1), (16, 1)
    ]  # fmt: skip
    assert all(("gp" in r) == (loss == "wgan-gp") for r in rows)
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, atol=0, rtol=0, msg=key)
    assert again.config.alpha == 1.0 and again.info.resolution == 16


def test_on_the_way_it_is_a_sampler_of_the_size_reached(bands: None, tmp_path: Path) -> None:
    sampler = train_progan(tiny(tmp_path, loop={"stop_after": 2}))
    assert sampler.info.resolution == 4 and len(sampler.stages) == 0


def test_the_papers_preset_shows_each_phase_600_000_pictures() -> None:
    settings: Any = sampler_settings("paper", form="progan", data="-", out=Path("x"))
    for phase in range(9):
        for pictures in (600_000 * phase + 16, 600_000 * (phase + 1) - 16):
            place = growth_at(pictures // settings.batch, settings.loop.steps, 5, settings.growth)
            assert (place.stages, place.alpha < 1) == (1 + (phase + 1) // 2, phase % 2 == 1)
    assert settings.loop.steps * settings.batch == 9 * 600_000


def test_what_cannot_work_is_refused(bands: None, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one width for each"):
        train_progan(tiny(tmp_path, widths=[4, 4]))
    with pytest.raises(UsageError, match="growth"):
        tiny(tmp_path, growth=0)
    with pytest.raises(UsageError, match="no preset 'paper64': use paper or small or tiny"):
        sampler_settings("paper64", form="progan", data="-", out=tmp_path)

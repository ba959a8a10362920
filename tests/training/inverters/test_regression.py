"""Inverters trained on a tiny sampler: the linear start, learning, and a run that is stopped and resumed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import tiny_published, tiny_sampler

from nsbgan_infer.errors import UsageError
from nsbgan_infer.inverters.conv_inverter import ConvInverter, ConvInverterConfig
from nsbgan_infer.latents import draw_latents
from nsbgan_infer.registry import load_sampler
from nsbgan_infer.samplers.vectors import vectors
from nsbgan_infer.storage.components import save_component
from nsbgan_infer.training.inverters.regression import InverterSettings, inverter_settings, train_inverter
from nsbgan_infer.training.inverters.start import ridge, solve_linear, start_linear

COVERS = ["training.inverters.start"]


@pytest.fixture
def sampler(tmp_path: Path) -> Path:
    return save_component(tiny_sampler(), tmp_path / "sampler.safetensors")


def settings(sampler: Path, out: Path, steps: int = 30) -> InverterSettings:
    loop = {"steps": steps, "save_every": 10, "log_every": 5, "quiet": True, "tensorboard": False, "device": "cpu"}
    return inverter_settings("tiny", sampler=str(sampler), out=out, overrides={"loop": loop})


def test_it_learns_and_a_stopped_run_ends_as_an_unbroken_one(sampler: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    whole = train_inverter(settings(sampler, tmp_path / "whole"))
    stopped = settings(sampler, tmp_path / "stopped")
    train_inverter(replace(stopped, loop=replace(stopped.loop, stop_after=10)))
    resumed = train_inverter(stopped)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name])
    drawer = load_sampler(str(sampler))
    latents = draw_latents(list(range(40)), [1, 207, 217, 933] * 10, z_dim=8, truncation=0.8, mode="std")
    vector = vectors(drawer).vector_of(latents)
    with torch.no_grad():
        guess = whole(drawer(latents), latents.y)
    assert (guess - vector).square().mean() < 0.5 * vector.var()
    info = whole.info
    assert (info.sampler, info.makes, info.resolution, info.length) == ("tiny", "wavelet", 16, 4)
    assert len(info.weights) == 64 and info.name == "whole"


def test_a_sampler_without_classes_is_inverted_too(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    file = save_component(tiny_published("bigbigan-128"), tmp_path / "big.safetensors")
    run = settings(file, tmp_path / "run", steps=2)
    made = train_inverter(replace(run, first=4, fresh=2, kept=8, batch=4, pictures=2))
    assert made.info.classes is None and made.info.length == 12
    assert made(torch.rand(2, 3, 128, 128), torch.zeros(2, 1000)).shape == (2, 12)


@pytest.mark.parametrize("pairs", [6, 20])
def test_ridge_is_the_usual_one(pairs: int) -> None:
    rng = np.random.default_rng(0)
    x, target = rng.normal(size=(pairs, 9)), rng.normal(size=(pairs, 2))
    mine = ridge(torch.from_numpy(x), torch.from_numpy(target), 0.3).numpy()
    held = pairs * 0.3 * np.mean(x**2) * np.eye(9)
    assert np.allclose(mine, np.linalg.solve(x.T @ x + held, x.T @ target))


def test_the_start_finds_what_is_linear() -> None:
    config = ConvInverterConfig("s", "", "pixel", "bicubic", 16, 5, (1, 207), (8, 8), 8)
    torch.manual_seed(0)
    network = ConvInverter(config)
    truth = torch.randn(3 * 16 * 16, 5) / 20
    sample, y = torch.rand(400, 3, 16, 16), torch.zeros(400, 1000)
    y[::2, 1] = y[1::2, 207] = 1
    smooth = torch.nn.functional.interpolate(torch.nn.functional.avg_pool2d(sample, 4), scale_factor=4.0)
    vector = (smooth * 2 - 1).flatten(1) @ truth + y[:, [1, 207]] @ torch.tensor([[3.0] * 5, [-3.0] * 5])
    start_linear(network, smooth[:300], y[:300], vector[:300])
    with torch.no_grad():
        guess = network(smooth[300:], y[300:])
    assert (guess - vector[300:]).square().mean() < 0.02 * vector.var()
    assert not network.last.weight.any()
    with torch.no_grad():
        network.last.weight.normal_(std=0.05)
    solve_linear(network, smooth[:300], y[:300], vector[:300])  # takes off again what the convolutions now add
    with torch.no_grad():
        better = network(smooth[300:], y[300:])
    assert (better - vector[300:]).square().mean() < 0.05 * vector.var()


@pytest.mark.parametrize(
    ("change", "message"),
    [({"kept": 2}, "kept is at least"), ({"least": 0.0}, "least is above 0"), ({"fresh": 0}, "at least 1")],
)
def test_settings_that_cannot_be(change: dict[str, float], message: str, sampler: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        replace(settings(sampler, tmp_path / "run"), **change)  # type: ignore[arg-type]


def test_widths_that_lead_elsewhere_are_refused(sampler: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    with pytest.raises(UsageError, match="describe no inverter of tiny: 1 halvings do not lead from 16 to 4"):
        train_inverter(replace(settings(sampler, tmp_path / "run"), widths=(8,)))

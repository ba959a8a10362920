"""R3GAN against its own program's output and against a literal forward, at several sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from peer_files import whole_network
from safetensors.torch import load_file
from torch import Tensor

from nsbgan_infer.convert import convert_checkpoint
from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.latents import Latents
from nsbgan_infer.samplers.r3gan import R3GAN, R3GANConfig, enlarge, from_peer_state
from nsbgan_infer.storage.components import load_component, save_component

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0])
KERNEL = torch.outer(TAPS, TAPS) / 64


def peer_state(
    widths: tuple[int, ...] = (12, 12, 8), depths: tuple[int, ...] = (2, 1, 2), *, z: int = 5, classes: int = 7
) -> dict[str, Tensor]:
    """A state dict of R3GAN's program with random numbers: expansion 2, groups of 4 channels, embedding 3."""
    random = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random) * (0.7 / max(1, torch.Size(shape[1:]).numel()) ** 0.5)

    state = {"Model.EmbeddingLayer.weight": rand(3, classes)} if classes else {}
    first = "Model.MainLayers.0.Layers.0"
    state |= {f"{first}.Basis": torch.randn(widths[0], 4, 4, generator=random)}
    state |= {f"{first}.LinearLayer.weight": rand(widths[0], z + (3 if classes else 0))}
    for s, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        if s:
            state[f"Model.MainLayers.{s}.Layers.0.Resampler.Kernel"] = KERNEL.clone()
            if widths[s - 1] != width:
                state[f"Model.MainLayers.{s}.Layers.0.LinearLayer.Layer.weight"] = rand(width, widths[s - 1], 1, 1)
        for b in range(1, depth + 1):
            block, hidden = f"Model.MainLayers.{s}.Layers.{b}", 2 * width
            state[f"{block}.LinearLayer1.Layer.weight"] = rand(hidden, width, 1, 1)
            state[f"{block}.LinearLayer2.Layer.weight"] = rand(hidden, 4, 3, 3)
            state[f"{block}.LinearLayer3.Layer.weight"] = rand(width, hidden, 1, 1)
            state |= {f"{block}.NonLinearity{n}.Bias": torch.randn(hidden, generator=random) for n in (1, 2)}
    return state | {"Model.AggregationLayer.Layer.weight": rand(3, widths[-1], 1, 1)}


def literal(state: dict[str, Tensor], z: Tensor, y: Tensor | None) -> Tensor:
    """The forward of the facts, step by step."""
    p = {k.removeprefix("Model."): v for k, v in state.items()}
    x = z if y is None else torch.cat([z, y @ p["EmbeddingLayer.weight"].T], 1)
    x = p["MainLayers.0.Layers.0.Basis"] * (x @ p["MainLayers.0.Layers.0.LinearLayer.weight"].T)[..., None, None]
    stage = 0
    while any(k.startswith(f"MainLayers.{stage}.") for k in p):
        start = f"MainLayers.{stage}.Layers"
        if stage:
            if f"{start}.0.LinearLayer.Layer.weight" in p:
                x = F.conv2d(x, p[f"{start}.0.LinearLayer.Layer.weight"])
            kernel = (4 * p[f"{start}.0.Resampler.Kernel"]).expand(x.shape[1], 1, 4, 4)
            x = F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=x.shape[1])
        b = 1
        while f"{start}.{b}.NonLinearity1.Bias" in p:
            h = F.conv2d(x, p[f"{start}.{b}.LinearLayer1.Layer.weight"])
            h = F.leaky_relu(h + p[f"{start}.{b}.NonLinearity1.Bias"][:, None, None], 0.2)
            weight = p[f"{start}.{b}.LinearLayer2.Layer.weight"]
            h = F.conv2d(h, weight, padding=1, groups=len(weight) // weight.shape[1])
            h = F.leaky_relu(h + p[f"{start}.{b}.NonLinearity2.Bias"][:, None, None], 0.2)
            x = x + F.conv2d(h, p[f"{start}.{b}.LinearLayer3.Layer.weight"])
            b += 1
        stage += 1
    return F.conv2d(x, p["AggregationLayer.Layer.weight"])


def draw(sampler: Any, z: Tensor, y: Tensor | None = None) -> Tensor:
    weights = torch.zeros(len(z), 1000)
    if y is not None:
        weights[:, : y.shape[1]] = y
    with torch.no_grad():
        out: Tensor = sampler(Latents(z, weights, tuple(range(len(z))), 1.0, "std")) * 2 - 1
    return out


def test_the_fixture_of_the_program_itself(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "parity" / "r3gan-imagenet64"
    if not folder.is_dir():
        pytest.skip(f"no {folder}")
    expected = load_file(folder / "expected.safetensors")
    for source in ("snapshot_small.pkl", "weights.safetensors"):
        convert_checkpoint(folder / source, tmp_path / source)
        sampler = load_component(tmp_path / source, kind="sampler")
        assert isinstance(sampler, R3GAN) and sampler.info.classes == tuple(range(7))
        assert (draw(sampler, expected["z"], expected["c"]) - expected["output"]).abs().max() < 1e-4


@pytest.mark.parametrize(
    ("widths", "depths", "classes"),
    [((12, 12, 8), (2, 1, 2), 7), ((8,), (1,), 0), ((16, 12, 8, 8, 4), (1, 2, 1, 1, 3), 1000), ((8, 16), (2, 2), 3)],
)
def test_sizes_are_told_from_shapes(widths: tuple[int, ...], depths: tuple[int, ...], classes: int) -> None:
    state = peer_state(widths, depths, classes=classes)
    sampler = from_peer_state(state)
    z = torch.randn(2, 5, generator=torch.Generator().manual_seed(1))
    y = torch.eye(classes)[[0, 2]] if classes else None
    wanted = literal(state, z, y)
    assert wanted.std() > 0.05 and (draw(sampler, z, y) - wanted).abs().max() < 1e-4
    assert sampler.config.depths == depths and sampler.config.widths == widths
    assert sampler.info.resolution == 4 << (len(widths) - 1) and sampler.info.z_dim == 5
    assert (sampler.info.classes is None) == (classes == 0)
    assert sampler.info.labels == ("imagenet" if classes == 1000 else "numbers")


def test_a_snapshot_as_the_program_writes_it(tmp_path: Path) -> None:
    state = peer_state()
    (tmp_path / "network-snapshot-000100.pkl").write_bytes(whole_network(state, persistent=False))
    convert_checkpoint(tmp_path / "network-snapshot-000100.pkl", tmp_path / "out")
    sampler: Any = load_component(tmp_path / "out")
    z, y = torch.randn(1, 5), torch.eye(7)[:1]
    assert (draw(sampler, z, y) - literal(state, z, y)).abs().max() < 1e-4
    assert sampler.info.name == "network-snapshot-000100"


def test_enlarging_is_the_filter_with_zeros_beyond_the_border() -> None:
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    kernel = (4 * KERNEL).double().expand(3, 1, 4, 4)
    assert torch.allclose(enlarge(x), F.conv_transpose2d(x, kernel, stride=2, padding=1, groups=3), atol=1e-12)


def test_saved_and_loaded_it_draws_the_same(tmp_path: Path) -> None:
    sampler = from_peer_state(peer_state(), name="mine", licence="MIT")
    save_component(sampler, tmp_path / "s")
    again: Any = load_component(tmp_path / "s", kind="sampler")
    z, y = torch.randn(2, 5), torch.eye(7)[:2]
    assert torch.equal(draw(again, z, y), draw(sampler, z, y)) and again.info.licence == "MIT"


def test_checkpoints_that_do_not_fit_say_what_differs() -> None:
    state = peer_state()
    for change, message in (
        ({"Model.AggregationLayer.Layer.bias": torch.zeros(3)}, r"unexpected AggregationLayer\.Layer\.bias"),
        ({"Model.MainLayers.1.Layers.0.Resampler.Kernel": torch.ones(4, 4)}, r"\[1, 3, 3, 1\]"),
        ({"Model.MainLayers.1.Layers.1.NonLinearity2.Bias": torch.zeros(2)}, r"is \[2\] instead of \[24\]"),
        ({"Model.EmbeddingLayer.weight": torch.zeros(3, 1001)}, "1001 classes"),
    ):
        with pytest.raises(CheckpointError, match=message):
            from_peer_state(state | change)
    del state["Model.MainLayers.2.Layers.1.LinearLayer1.Layer.weight"]
    with pytest.raises(CheckpointError, match="does not describe"):
        from_peer_state(state)


@pytest.mark.parametrize(
    "change",
    [
        {"widths": ()},
        {"widths": (4, 4)},
        {"groups": (5,) * 5},
        {"z_dim": 0},
        {"num_classes": 0},
        {"num_classes": 1001},
        {"depths": (-1,) * 5},
        {"truncation": 2.0},
    ],
)
def test_impossible_configurations_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        replace(R3GANConfig(), **change)


@pytest.mark.slow
def test_the_published_size() -> None:
    state = peer_state((1536,) * 5, (2,) * 5, z=64, classes=1000)  # groups of 4 channels instead of 32
    z, y = torch.randn(1, 64), torch.eye(1000)[207:208]
    assert (draw(from_peer_state(state), z, y) - literal(state, z, y)).abs().max() < 1e-3

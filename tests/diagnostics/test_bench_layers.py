"""Layers: each one's own time and work, that they add up, and the table."""

from __future__ import annotations

import itertools
import json

import pytest
import torch
from tiny import tiny_biggan, tiny_decoder
from torch import Tensor, nn

from nsbgan_infer.cli.bench import _layers_text
from nsbgan_infer.cli.main import cli, exit_code
from nsbgan_infer.diagnostics import bench_layers
from nsbgan_infer.diagnostics.bench_layers import Layer, own, report, time_layers
from nsbgan_infer.latents import draw_latents

CPU = torch.device("cpu")


class Block(nn.Module):
    """Two convolutions, the second used twice, and a product of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.again(self.again(self.first(x)))
        return x @ x.transpose(-1, -2)


def test_a_modules_own_share_is_without_its_parts() -> None:
    ticks = itertools.count()
    found = own(Block(), torch.rand(1, 3, 8, 8), lambda: float(next(ticks)))
    # a part takes one tick from its reading at the start to that at the end; the block sees those between
    assert found == {"first": 1.0, "again": 2.0, "": 4.0}


def test_work_is_counted_where_it_is_done() -> None:
    layers = {layer.name: layer for layer in time_layers(Block().eval(), torch.rand(1, 3, 8, 8), CPU, rounds=2)}
    assert {name: layer.multiply_adds for name, layer in layers.items()} == {
        "first": 3 * 4 * 9 * 64, "again": 2 * 4 * 4 * 64, "(whole)": 4 * 8 * 8 * 8,
    }  # fmt: skip
    assert layers["first"].kind == "Conv2d" and layers["(whole)"].kind == "Block"
    assert all(layer.ms > 0 for layer in layers.values())


def test_hooks_are_gone_afterwards_also_after_an_error() -> None:
    block = Block()
    with pytest.raises(RuntimeError):
        own(block, torch.rand(1, 5, 8, 8), lambda: 0.0)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in block.modules())


def test_a_biggan_is_taken_apart_whole() -> None:
    sampler = tiny_biggan(128)
    info = sampler.info
    latents = draw_latents([0], [207], z_dim=info.z_dim, truncation=0.4, mode=info.truncation_mode)
    layers = time_layers(sampler, latents, CPU, rounds=1)
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        sampler(latents)
    assert sum(layer.multiply_adds for layer in layers) == counter.get_total_flops() / 2 > 0


def test_the_report_sorts_and_knows_the_floor() -> None:
    found = report([Layer("a", "Conv2d", 1.0, 2e6), Layer("b", "Block", 3.0, 0.0)], rate=1e9)
    assert (found["ms"], found["floor_ms"], found["multiply_adds"]) == (4.0, 2.0, 2_000_000)
    assert [(r["layer"], r["gmac_per_s"]) for r in found["layers"]] == [("b", 0.0), ("a", 2.0)]


def test_typed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    networks = {"subband-w-fast": lambda: (tiny_decoder(), torch.rand(1, 3, 16, 16))}
    monkeypatch.setattr(bench_layers, "networks_of_interest", lambda: networks)
    monkeypatch.setattr(bench_layers, "matrix_rate", lambda *_: 1e9)
    arguments = ["bench", "--table", "layers", "--quick", "--device", "cpu"]
    assert exit_code(lambda: cli.main([*arguments, "--json"], standalone_mode=False)) == 0
    found = json.loads(capsys.readouterr().out)
    network = found["networks"]["subband-w-fast"]
    assert network["multiply_adds"] == sum(r["multiply_adds"] for r in network["layers"]) > 0
    text = _layers_text(found)
    assert "times its floor" in text and network["layers"][0]["layer"] in text

"""The rule of --engine auto: a pure function, and what it is told of a pipeline."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import tiny_pipeline
from torch.utils.flop_counter import FlopCounterMode

from nsbgan_infer.engines import pick_for, place, rule
from nsbgan_infer.engines.needs import needed_networks
from nsbgan_infer.engines.rule import COSTS, Costs, NetworkWork, costs_here, weigh, worth_compiling
from nsbgan_infer.pipeline import Drawing, NsbPipeline, Stage
from nsbgan_infer.registry import load_decoder
from nsbgan_infer.samplers.base import SamplerInfo

COVERS = ["engines.needs"]

networks = st.lists(
    st.builds(NetworkWork, st.floats(0, 100), st.floats(0, 1000), st.booleans()), min_size=1, max_size=4
)
costs = st.sampled_from(list(COSTS.values())) | st.builds(Costs, st.floats(0.001, 1), st.floats(0.001, 1))


@given(st.integers(1, 10**6), networks, costs, st.integers(1, 64))
def test_the_engine_taken_is_never_predicted_to_be_slower(
    images: int, needed: list[NetworkWork], here: Costs, threads: int
) -> None:
    found = weigh(images, needed, here, threads)
    times = {"eager": found.eager, "openvino": found.openvino}
    assert times[found.engine] == min(times.values())
    kept = weigh(images, [replace(n, kept=True) for n in needed], here, threads)
    compiled = weigh(images, [replace(n, kept=False) for n in needed], here, threads)
    assert kept.eager == found.eager == compiled.eager
    assert compiled.engine == "eager" or kept.engine == "openvino"


@given(networks, costs, st.integers(1, 64))
def test_from_the_number_told_on_compiling_pays(needed: list[NetworkWork], here: Costs, threads: int) -> None:
    pays = worth_compiling(needed, here, threads)
    if pays is None:
        assert weigh(10**6, needed, here, threads).engine == "eager"
    else:
        assert weigh(pays + 1, needed, here, threads).engine == "openvino"
        assert pays < 3 or weigh(pays - 2, needed, here, threads).engine == "eager"


def test_the_reason_names_both_times_and_what_is_compiled() -> None:
    one = NetworkWork(20, 5, False)
    assert weigh(8, [one, one], COSTS[False, torch.float32], 2).why == (
        "OpenVINO compiles 2 networks and takes about 8.2 s, plain torch 6.6 s; it pays from 29 pictures on"
    )
    assert "loads compiled networks" in weigh(8, [replace(one, kept=True)], Costs(1, 0.5), 2).why


def test_costs_follow_the_processor_and_the_dtype(monkeypatch: pytest.MonkeyPatch) -> None:
    for capability, wide in (("AVX2", False), ("AVX512", True), ("DEFAULT", False)):
        monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda told=capability: told)
        assert costs_here(torch.float32) is COSTS[wide, torch.float32]
        assert costs_here(torch.bfloat16) is COSTS[wide, torch.bfloat16]
        assert costs_here(torch.float16) is COSTS[wide, torch.float32]


def test_what_a_run_leaves_in_the_cache_is_what_the_next_one_asks_for(private_cache: Path) -> None:
    def needed(images: int, batch: int = 1, dtype: torch.dtype = torch.float32, side: int | None = None) -> list[bool]:
        rows = needed_networks(tiny_pipeline(), images, dtype, batch_size=batch, drawing=Drawing(resolution=side))
        return [row.kept for row in rows]

    assert needed(1) == [False] * 3  # the sampler, and the decoder at two sizes
    place(tiny_pipeline(), "openvino")([207, 1], 2, batch_size=3)  # a batch of three, and one
    assert len(list((private_cache / "openvino").glob("*.blob"))) == 6
    assert needed(1) == needed(9, 3) == [True] * 3
    assert needed(4, 3) == [True] * 6
    assert needed(5, 3) == [True] * 3 + [False] * 3
    assert needed(1, dtype=torch.bfloat16) == [False] * 3
    sides = tiny_pipeline().resolutions
    assert needed(1, side=sides[0]) == [True] * 2


def test_auto_takes_what_the_rule_says(private_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    slow_torch = Costs(1000, 1)
    monkeypatch.setattr(rule, "costs_here", lambda _dtype: slow_torch)
    assert pick_for(tiny_pipeline(), images=1) == pick_for(tiny_pipeline(), "eager", images=1000)  # nothing to weigh
    made = place(tiny_pipeline(), images=10**6)
    assert made.engine == "openvino" and made([207], 1).recipes[0].engine == "openvino"
    monkeypatch.setattr(rule, "costs_here", lambda _dtype: Costs(1, 1))
    pick = pick_for(tiny_pipeline(), images=10**6)
    assert pick.engine == "eager" and pick.why and "loads compiled networks" in pick.why
    assert pick_for(tiny_pipeline(), dtype=torch.float16, images=10**6).why is None  # not OpenVINO's


def test_a_plug_in_sampler_stays_in_plain_torch() -> None:
    class Foreign:
        info = SamplerInfo("foreign", "pixel", 16, 4, (207,), "std", 1.0, "none")

        def __call__(self, latents: object) -> torch.Tensor:
            return torch.zeros(1, 3, 16, 16)

    assert pick_for(NsbPipeline(Foreign()), images=10**6).engine == "eager"


@pytest.mark.parametrize("name", ["subband-w-fast", "unet-w"])
def test_the_work_of_a_decoder_is_told_without_a_picture(name: str) -> None:
    decoder = load_decoder(name)
    pipeline = NsbPipeline(tiny_pipeline().sampler, [Stage(None, decoder)])
    side = pipeline.sampler.info.resolution
    with FlopCounterMode(display=False) as counter:
        decoder(torch.rand(1, 3, side, side))
    exact = counter.get_total_flops() / 2e9
    assert needed_networks(pipeline, 1, torch.float32)[-1].work == pytest.approx(exact, rel=0.1)

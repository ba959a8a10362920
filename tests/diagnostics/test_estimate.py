"""Plans: counts against closed forms and against what was measured, memory against what torch allocates."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import cache_tiny_biggan, ship_tiny_weights, tiny_decoder, tiny_pipeline, tiny_sampler
from torch import nn

from nsbgan_infer.diagnostics.estimate import (
    META,
    LiveBytes,
    outline_decoder,
    outline_pipeline,
    outline_sampler,
    plan_pipeline,
)
from nsbgan_infer.errors import CheckpointError, UsageError
from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.presets import PRESETS
from nsbgan_infer.storage.components import save_component

# multiply-adds of one sample in G, from exact layer lists (folded, 3 RGB channels, up-sampling convolutions merged)
MEASURED = {"biggan-128": 7.5, "biggan-256": 24.6, "biggan-512": 31.9}


@pytest.mark.parametrize(("preset", "expected"), MEASURED.items())
def test_multiply_adds_of_biggan_are_those_of_its_layer_list(preset: str, expected: float) -> None:
    plan = plan_pipeline(outline_pipeline(preset))
    assert plan.multiply_adds / 1e9 == pytest.approx(expected, abs=0.06)
    side = int(preset.rpartition("-")[2])
    assert plan.steps[0].shape == (1, 3, side, side)
    assert plan.download > 200e6 and "DeepMind" in plan.parts[0].licence


def written_plans() -> list[tuple[str, str | None, float, int]]:
    """Preset, decoder, G multiply-adds and MB of each row of the table of work in docs/numbers.md."""
    text = (Path(__file__).parents[2] / "docs" / "numbers.md").read_text("utf-8")
    rows, preset = [], ""
    for line in text.partition("## Work")[2].partition("\n## ")[0].splitlines():
        cells = [c.strip() for c in line.split("|")]
        if len(cells) == 8 and cells[5].endswith(" MB"):
            decoder = re.search(r"--decoder ([\w-]+)", cells[1])
            preset = preset if decoder else cells[1].strip("`")
            rows.append((preset, decoder and decoder[1], float(cells[4]), int(cells[5].removesuffix(" MB"))))
    return rows


@pytest.mark.parametrize(("preset", "decoder", "work", "memory"), written_plans())
def test_the_written_table_of_work_is_what_plan_says(
    preset: str, decoder: str | None, work: float, memory: int
) -> None:
    plan = plan_pipeline(outline_pipeline(preset, decoder=decoder))
    assert plan.multiply_adds / 1e9 == pytest.approx(work, abs=0.051)
    assert plan.memory / 1e6 == pytest.approx(memory, rel=0.02)


def test_the_table_of_work_is_found() -> None:
    assert len(written_plans()) == 6


def test_multiply_adds_of_a_decoder_are_those_of_its_convolutions() -> None:
    decoder = tiny_decoder()
    convolutions = [m for m in decoder.modules() if isinstance(m, nn.Conv2d)]
    wanted = sum(c.weight.numel() for c in convolutions)
    plan = plan_pipeline(tiny_meta())
    first, second = (s for s in plan.steps if s.step == "4 decoders")
    assert first.multiply_adds == wanted * 16 * 16
    assert second.multiply_adds == wanted * 32 * 32


def tiny_meta() -> NsbPipeline:
    pipeline = tiny_pipeline()
    part: Any
    for part in (pipeline.sampler, pipeline.stages[0].decoder):
        part.to(META)
    return pipeline


def test_batches_share_weights_but_not_memory() -> None:
    one, eight = (plan_pipeline(tiny_meta(), batch_size=b) for b in (1, 8))
    assert one.multiply_adds == eight.multiply_adds  # an image
    assert [p.memory for p in one.parts] == [p.memory for p in eight.parts]
    assert eight.steps[-1].memory == pytest.approx(8 * one.steps[-1].memory, rel=0.05)
    half = plan_pipeline(tiny_meta(), dtype=torch.bfloat16)
    assert half.memory == pytest.approx(one.memory / 2, rel=0.01)


def test_a_resolution_ends_the_plan_there() -> None:
    plan = plan_pipeline(tiny_meta(), resolution=64)
    assert [s.step for s in plan.steps] == ["2 samplers", "4 decoders"]
    with pytest.raises(UsageError, match="it makes 64, 128"):
        plan_pipeline(tiny_meta(), resolution=65)


def test_live_bytes_are_the_largest_sum_alive() -> None:
    with LiveBytes() as live:
        a = torch.zeros(1000)  # 4,000
        b = a + 1  # 8,000
        c = b.view(10, 100)[2:]  # a view
        del a, b  # 4,000: the view keeps it
        d = torch.zeros(500)  # 6,000
        d.add_(1)
        e = torch.cat([d, d, d, d])  # 14,000
    assert live.peak == 14_000
    del c, d, e
    assert live.now == 0


def test_weights_and_inputs_of_a_step_are_not_intermediates() -> None:
    linear = nn.Linear(100, 50)
    x = torch.zeros(7, 100)
    with torch.no_grad(), LiveBytes() as live:
        linear(x).relu_()
    assert live.peak == 7 * 50 * 4


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_can_be_planned(
    preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, private_cache: Path
) -> None:
    ship_tiny_weights(tmp_path, monkeypatch)
    plan = plan_pipeline(outline_pipeline(preset))
    assert plan.multiply_adds > 0 and plan.memory > 0
    assert plan.steps[-1].shape[-1] in (128, 256, 512, 1024)
    assert not list(private_cache.iterdir())


def test_what_is_cached_is_not_downloaded() -> None:
    cache_tiny_biggan(128)
    assert plan_pipeline(outline_pipeline("biggan-128")).download == 0


def test_files_are_outlined_with_their_checks(tmp_path: Path) -> None:
    file = save_component(tiny_sampler(), tmp_path / "s.safetensors")
    outline = outline_sampler(str(file))
    assert outline.info == tiny_sampler().info
    assert all(p.is_meta for p in outline.parameters())  # type: ignore[attr-defined]
    with pytest.raises(CheckpointError, match="is a sampler, but a decoder is wanted"):
        outline_decoder(str(file))
    with pytest.raises(CheckpointError, match="A plan fetches nothing"):
        outline_pipeline("embedded", decoder="hf://some/where")

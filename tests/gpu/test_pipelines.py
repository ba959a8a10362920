"""Whole pipelines on the device: every preset with tiny weights, precisions, batches, engines, rejection and bulk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from near import LIMITS, error
from PIL import Image
from tiny import TinyClassifier, tiny_biggan, tiny_decoder, tiny_pipeline
from tiny_presets import tiny_preset

from nsbgan_infer.bulk.pipelines import pipeline_maker, plan_images
from nsbgan_infer.bulk.run import run
from nsbgan_infer.classifiers.base import Scores
from nsbgan_infer.devices import DTYPES
from nsbgan_infer.encoders import WaveletEncoder
from nsbgan_infer.engines import place, place_part, with_engine
from nsbgan_infer.pipeline import NsbPipeline, Stage
from nsbgan_infer.presets import PRESETS
from nsbgan_infer.rejection import Rule, draw_accepted


def biggan_pipeline() -> NsbPipeline:
    """128 -> 64 -> 256."""
    return NsbPipeline(tiny_biggan(128), [Stage(WaveletEncoder(1), tiny_decoder())], name="tiny biggan")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_in_every_precision(
    name: str, device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the recipe says is what was done, and the picture is the CPU's."""
    pipeline = tiny_preset(name, tmp_path, monkeypatch)
    classes = None if pipeline.sampler.info.classes is None else 207
    wanted = pipeline(classes, seeds=3).tensors
    for label, dtype in DTYPES.items():
        output = pipeline.to(device, dtype)(classes, seeds=3)
        assert (output.recipes[0].device, output.recipes[0].dtype) == (device.type, label)
        assert error(output.tensors, wanted) < LIMITS[dtype], label
        pipeline.to("cpu", torch.float32)
        pipeline = tiny_preset(name, tmp_path, monkeypatch)  # its weights have been rounded


def test_what_torch_does_by_itself_stays_near(device: torch.device) -> None:
    """With TF32, as everybody runs it."""
    wanted = biggan_pipeline()([207, 1]).tensors
    with torch.backends.cudnn.flags(allow_tf32=True):
        found = biggan_pipeline().to(device)([207, 1]).tensors
    assert error(found, wanted) < LIMITS[torch.float16]


def test_batches_change_no_picture(device: torch.device) -> None:
    pipeline = tiny_pipeline().to(device)
    wanted = tiny_pipeline()([207, 1], 3, seeds=5, batch_size=1).tensors
    for batch in (1, 4):
        assert error(pipeline([207, 1], 3, seeds=5, batch_size=batch).tensors, wanted) < LIMITS[torch.float32]


def test_an_image_is_made_again_from_its_recipe(device: torch.device) -> None:
    pipeline = biggan_pipeline().to(device)
    output = pipeline(207, seeds=9)
    again = pipeline(207, seeds=output.recipes[0].seed, truncation=output.recipes[0].truncation)
    assert torch.equal(again.tensors, output.tensors)


def test_a_compiled_decoder_does_as_before(device: torch.device) -> None:
    """The smallest one: a compiler for CPUs takes half a minute for it."""
    decoder = place_part(tiny_decoder(), "compile", device, torch.float32)
    low = torch.rand(2, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    assert error(decoder(low.to(device)), tiny_decoder()(low)) < LIMITS[torch.float32]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_compiled_pipelines(precision: str, cuda: torch.device) -> None:
    """A whole batch, and one that is not. On a CPU each takes minutes of a compiler's time."""
    wanted = biggan_pipeline()(207, 3, seeds=5).tensors
    compiled = with_engine(biggan_pipeline().to(cuda), "compile", dtype=DTYPES[precision])
    output = compiled(207, 3, seeds=5, batch_size=2)
    assert (output.recipes[0].engine, output.recipes[0].dtype) == ("compile", precision)
    assert error(output.tensors, wanted) < LIMITS[DTYPES[precision]]


def test_many_images_are_compiled_in_bf16_by_themselves(cuda: torch.device) -> None:
    placed = place(tiny_pipeline(), "auto", device=cuda, images=1000)
    assert (placed.engine, placed.computes_in) == ("compile", torch.bfloat16)


class Calm:
    """As sure of class 207 as a picture is bright: no score lies near the threshold."""

    info = TinyClassifier.info

    def __call__(self, pictures: torch.Tensor) -> Scores:
        level = pictures.clamp(0, 1).mean((1, 2, 3))
        logits = torch.full((len(level), 1000), -1e9, device=level.device)
        logits[:, 207], logits[:, 1] = 40 * level, 40 * self.middle
        return Scores(pictures.flatten(1)[:, :12], logits)

    def __init__(self, middle: float) -> None:
        self.middle = middle


def test_rejection_keeps_what_the_cpu_keeps(device: torch.device) -> None:
    """The classifier sees the device's pictures."""
    drawn = tiny_pipeline()(207, 6, resolution=64).tensors.clamp(0, 1).mean((1, 2, 3)).sort().values
    gaps = drawn.diff()
    judge = Calm(float(drawn[gaps.argmax()] + gaps.max() / 2))  # half way across the widest gap
    found = []
    for pipeline in (tiny_pipeline(), tiny_pipeline().to(device)):
        rule = Rule(0.5, max_tries=1)
        found.append(draw_accepted(pipeline, 207, 6, rule=rule, classifier=judge, resolution=64, batch_size=4))
    cpu, other = found
    assert 0 < len(cpu.accepted.requests) < 6
    assert other.accepted.requests == cpu.accepted.requests and other.below.requests == cpu.below.requests
    assert error(other.accepted.tensors, cpu.accepted.tensors) < LIMITS[torch.float32]


def test_bulk_writes_the_cpus_pictures(device: torch.device, tmp_path: Path) -> None:
    written = {}
    for place_name, pipeline in (("cpu", tiny_pipeline()), ("device", tiny_pipeline().to(device))):
        plan = plan_images(pipeline, "all", per_class=2, batch_size=3)
        assert plan.settings["device"] == (device.type if place_name == "device" else "cpu")
        run(plan, tmp_path / place_name, pipeline_maker(pipeline))
        files = sorted((tmp_path / place_name).rglob("*.png"))
        written[place_name] = {f.name: np.asarray(Image.open(f)).astype(int) for f in files}
    assert len(written["cpu"]) == 8 and written["cpu"].keys() == written["device"].keys()
    for name, pixels in written["cpu"].items():
        assert pixels.std() > 1
        assert abs(pixels - written["device"][name]).max() <= 1

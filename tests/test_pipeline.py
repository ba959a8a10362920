"""The pipeline: presets, joints, batches, decoders that are exchanged, folders on disk."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import CLASSES, ship_tiny_weights, tiny_biggan, tiny_pipeline, tiny_sampler
from tiny_presets import tiny_preset
from torch import Tensor

from nsbgan_infer.decoders.base import DecoderInfo
from nsbgan_infer.decoders.interpolate import make_bicubic, make_iwt
from nsbgan_infer.decoders.photo import PhotoConfig, PhotoDecoder
from nsbgan_infer.encoders import PixelEncoder, WaveletEncoder
from nsbgan_infer.errors import CheckpointError, JointError, NonFiniteError, UnknownNameError, UsageError
from nsbgan_infer.latents import Latents
from nsbgan_infer.pipeline import Drawing, NsbPipeline, Request, Stage
from nsbgan_infer.presets import PRESETS
from nsbgan_infer.samplers.base import SamplerInfo
from nsbgan_infer.storage import shipped
from nsbgan_infer.storage.components import save_component
from nsbgan_infer.storage.files import sha256_of
from nsbgan_infer.storage.shipped import default_upscaler

COVERS = ["presets", "pretrained", "storage.shipped"]

SIDES = {  # preset -> every resolution that it makes
    "biggan-128": (128,),
    "biggan-256": (256,),
    "biggan-512": (512,),
    "pretrained-128-64": (128, 256),
    "pretrained-256-128": (256, 512),
    "pretrained-256-64": (256, 256),
    "pretrained-128": (128, 512),
    "learned-w-64": (256,),
    "learned-p-64": (64, 256),
    "stylegan2-256-64": (256, 256),
    "r3gan-64": (64, 256, 512),
    "stylegan2-ffhq": (1024,),
    "stylegan2-ffhq-256": (256, 512),
    "bigbigan-128": (128, 512),
    "embedded": (256, 512),
    "embedded-p": (64, 256, 512),
}


class Counting:
    """A sampler that notes how often it is called and paints each picture with its seed."""

    info = SamplerInfo("counting", "pixel", 16, 4, (0, 1, 2), "scale", 1.0, "none")

    def __init__(self) -> None:
        self.batches: list[int] = []

    def __call__(self, latents: Latents) -> Tensor:
        self.batches.append(len(latents))
        value = torch.tensor(latents.seeds, dtype=torch.float32).view(-1, 1, 1, 1) / 255
        return value.expand(-1, 3, 16, 16)


def test_the_table_of_sides_names_every_preset() -> None:
    assert SIDES.keys() == PRESETS.keys()


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_runs_end_to_end(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = tiny_preset(name, tmp_path, monkeypatch)
    assert pipeline.resolutions == SIDES[name]
    unconditional = pipeline.sampler.info.classes is None
    output = pipeline(None if unconditional else 207, seeds=3, keep_steps=True)
    assert output.tensors.shape == (1, 3, SIDES[name][-1], SIDES[name][-1])
    assert output.tensors.std() > 0
    assert output.images[0].size == (SIDES[name][-1],) * 2
    assert output.recipes[0].resolution == SIDES[name][-1]
    assert output.recipes[0].class_id == (None if unconditional else 207)
    torch.testing.assert_close(list(output.steps.values())[-1].float(), output.tensors)


@pytest.mark.parametrize(("name", "sampler"), [("embedded", "embedded-p-64")])
def test_another_sampler_sets_the_basis_of_the_stages(
    name: str, sampler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship_tiny_weights(tmp_path, monkeypatch)
    pipeline = NsbPipeline.from_pretrained(name, sampler=sampler)
    assert [s.decoder.info.basis for s in pipeline.stages] == ["pixel", "pixel"]
    assert pipeline.resolutions == (64, 256, 512)


def test_another_decoder_takes_the_encoders_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = tiny_preset("pretrained-128-64", tmp_path, monkeypatch, decoder="bicubic")
    assert pipeline.stages[0].encoder == PixelEncoder(1)
    back = pipeline.with_decoder("iwt")
    assert back.stages[0].encoder == WaveletEncoder(1)
    assert pipeline(5, decoder="iwt").recipes[0].decoders == ("iwt",)


def test_an_ordinary_picture_gets_a_decoder_that_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sample of 128 pixels is not a Gaussian low band: `photo` if it ships, else plain interpolation on its grid."""
    assert tiny_preset("pretrained-128", tmp_path, monkeypatch).stages[0].decoder.info.name == "bicubic"
    assert default_upscaler() == "subband-w"
    manifest = json.loads((tmp_path / "weights" / "manifest.json").read_text())
    file = save_component(PhotoDecoder(PhotoConfig(blocks=1, channels=4)), tmp_path / "weights" / "photo.safetensors")
    manifest["components"]["photo"] = {"file": file.name, "sha256": sha256_of(file), "licence": "tests only"}
    (tmp_path / "more").mkdir()
    for part in (tmp_path / "weights").iterdir():
        (tmp_path / "more" / part.name).write_bytes(part.read_bytes())
    (tmp_path / "more" / "manifest.json").write_text(json.dumps(manifest))
    monkeypatch.setattr(shipped, "weights_dir", lambda: tmp_path / "more")
    pipeline = NsbPipeline.from_pretrained("pretrained-128")
    assert pipeline.stages[0].decoder.info.name == "photo" == default_upscaler()
    assert pipeline.sampler.info.makes == pipeline.stages[0].decoder.info.reads == "bicubic"
    assert pipeline(207, seeds=1).tensors.shape == (1, 3, 512, 512)


def test_an_unknown_decoder_is_told_before_the_sampler_is_fetched() -> None:
    with pytest.raises(UnknownNameError, match="subband-w"):
        NsbPipeline.from_pretrained("pretrained-256-128", decoder="subbund-w")


@pytest.mark.parametrize(
    ("sampler_basis", "stages", "left", "right"),
    [
        ("wavelet", [Stage(None, make_bicubic())], "the sampler tiny", "bicubic"),
        ("pixel", [Stage(None, make_iwt())], "the sampler tiny", "iwt"),
        ("pixel", [Stage(PixelEncoder(1), make_iwt())], "the pixel encoder", "iwt"),
        ("wavelet", [Stage(None, make_iwt()), Stage(None, make_iwt())], "the decoder iwt", "iwt"),
        ("wavelet", [Stage(WaveletEncoder(1), make_iwt())], "the sampler tiny", "no encoder"),
        ("pixel", [Stage(WaveletEncoder(5), make_iwt())], "the sampler tiny", "4 levels at most"),
        ("wavelet", [], "the sampler tiny", "add a stage"),
    ],
)
def test_parts_that_do_not_fit_are_named(sampler_basis: str, stages: list[Stage], left: str, right: str) -> None:
    with pytest.raises(JointError) as error:
        NsbPipeline(tiny_sampler(sampler_basis), stages)
    assert left in str(error.value) and right in str(error.value)


def test_a_batch_of_eight_equals_eight_singles() -> None:
    pipeline = tiny_pipeline()
    together = pipeline(CLASSES[:2], 4, seeds=7, batch_size=8, keep_steps=True)
    single = pipeline(CLASSES[:2], 4, seeds=7, batch_size=1)
    assert together.requests == single.requests
    assert (together.tensors - single.tensors).abs().max() <= 1 / 255
    for a, b in zip(together.images, single.images, strict=True):
        assert max(high for _, high in _difference(a, b)) <= 1
    recipes = [replace(r, batch_size=1) for r in together.recipes]
    assert tuple(recipes) == single.recipes


def _difference(a: object, b: object) -> list[tuple[int, int]]:
    from PIL import ImageChops

    extrema = ImageChops.difference(a, b).getextrema()  # type: ignore[arg-type]
    return list(extrema)  # type: ignore[arg-type]


def test_classes_share_seeds_and_the_order_is_class_by_class() -> None:
    requests = tiny_pipeline().requests(["207", "goldfish"], 2, seeds=5)
    assert requests == [Request(207, 5), Request(207, 6), Request(1, 5), Request(1, 6)]
    assert tiny_pipeline().requests("all", seeds=[9])[-1] == Request(CLASSES[-1], 9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": 207, "num_images": 0}, "at least 1"),
        ({"classes": 207, "num_images": 2, "seeds": [1]}, "1 seeds for 2 images"),
        ({"classes": 207, "seeds": -1}, "Seed -1 is out of range"),
        ({"classes": 207, "truncation": 0.0}, "Truncation 0 is out of range"),
        ({"classes": 207, "truncation_mode": "sclae"}, "Unknown truncation mode"),
        ({"classes": 207, "batch_size": 0}, "Batch size 0"),
        ({"classes": 207, "resolution": 256}, "makes 256 x 256 pictures: it makes 64, 128"),
        ({"classes": None}, "Which class"),
        ({"classes": 208}, "cannot draw class 208 .Labrador retriever.*207 golden retriever.*pretrained-256-128"),
    ],
)
def test_wrong_arguments_are_one_sentence_before_any_work(arguments: dict[str, object], message: str) -> None:
    pipeline = tiny_pipeline()
    pipeline.sampler = _never
    with pytest.raises(UsageError, match=message):
        pipeline(**arguments)  # type: ignore[arg-type]


class _Never:
    info = tiny_sampler().info

    def __call__(self, latents: Latents) -> Tensor:
        raise AssertionError("work began")


_never = _Never()


def test_resolution_stops_after_the_stage_that_makes_it() -> None:
    pipeline = tiny_pipeline()
    output = pipeline(207, resolution=64, keep_steps=True)
    assert list(output.steps) == ["sample", "decoded 1"]
    assert output.recipes[0].decoders == ("tiny-w",)
    full = pipeline(207, keep_steps=True)
    assert list(full.steps) == ["sample", "decoded 1", "low band 2", "decoded 2"]
    torch.testing.assert_close(full.steps["decoded 1"], output.tensors)


def test_a_stream_makes_one_batch_at_a_time() -> None:
    sampler = Counting()
    pipeline = NsbPipeline(sampler, [])
    told: list[tuple[str, int, int]] = []
    stream = pipeline.stream([Request(0, s) for s in range(5)], batch_size=2, progress=lambda *step: told.append(step))
    assert sampler.batches == []
    first = next(stream)
    assert sampler.batches == [2] and told == [("sample", 2, 5)]
    assert [int(i.getpixel((0, 0))[0]) for i in first.images] == [0, 1]  # type: ignore[index]
    assert [len(o.requests) for o in stream] == [2, 1]


def test_tensors_of_an_output_are_ordinary_ones() -> None:
    output = next(tiny_pipeline().stream([Request(207, 0)]))
    assert not output.tensors.is_inference() and output.tensors.dtype == torch.float32
    output.tensors.mul_(0.5)


def test_numbers_that_are_not_finite_name_the_step() -> None:
    pipeline = tiny_pipeline()
    with torch.no_grad():
        next(pipeline.sampler.parameters()).fill_(float("nan"))  # type: ignore[attr-defined]
    with pytest.raises(NonFiniteError, match=r"sampler tiny.*--dtype fp32"):
        pipeline(207)


def test_an_unconditional_sampler_takes_no_class() -> None:
    sampler = Counting()
    sampler.info = replace(Counting.info, classes=None)
    pipeline = NsbPipeline(sampler, [])
    assert pipeline.requests(None, 2, seeds=3) == [Request(None, 3), Request(None, 4)]
    with pytest.raises(UsageError, match="without classes"):
        pipeline.requests(207)


def test_bf16_runs_and_stays_near_fp32() -> None:
    pipeline = tiny_pipeline()
    exact = pipeline(207).tensors
    rough = pipeline.to(dtype=torch.bfloat16)(207)
    assert rough.recipes[0].dtype == "bf16"
    assert (rough.tensors - exact).abs().mean() < 0.02


def test_a_saved_pipeline_draws_the_same(tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    pipeline.save_pretrained(tmp_path / "pipeline")
    loaded = NsbPipeline.from_pretrained(tmp_path / "pipeline")
    assert loaded.name == "tiny" and loaded.resolutions == pipeline.resolutions
    assert loaded.stages[0].decoder is loaded.stages[1].decoder  # one decoder, saved and loaded once
    torch.testing.assert_close(loaded(207, 2).tensors, pipeline(207, 2).tensors, atol=1e-5, rtol=0)
    weights = loaded(207).recipes[0].weights
    assert weights.keys() == {"tiny", "tiny-w"} and all(len(h) == 64 for h in weights.values())


def test_parts_without_weights_are_saved_by_name(tmp_path: Path) -> None:
    stages = [Stage(WaveletEncoder(1, "zero"), make_iwt())]
    NsbPipeline(tiny_biggan(), stages, name="by-name").save_pretrained(tmp_path)
    loaded = NsbPipeline.from_pretrained(tmp_path)
    assert loaded.stages == tuple(stages)
    with pytest.raises(UsageError, match="iwt cannot be saved"):
        NsbPipeline(tiny_sampler(), [Stage(None, make_iwt(2))]).save_pretrained(tmp_path / "x2")
    with pytest.raises(UsageError, match=r"counting cannot be saved.*torch module"):
        NsbPipeline(Counting(), []).save_pretrained(tmp_path / "foreign")


HOSTILE = ("../sampler", "/etc", "C:\\weights", "\\\\host\\share", "a\x00b", "", "..", "sub/folder", 7, None, ["x"])


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("place", ["sampler", "decoder"])
def test_an_index_that_points_elsewhere_is_refused(tmp_path: Path, place: str, name: object) -> None:
    tiny_pipeline().save_pretrained(tmp_path / "p")
    file = tmp_path / "p" / "model_index.json"
    index = json.loads(file.read_text())
    if place == "sampler":
        index["sampler"] = name
    else:
        index["stages"][0]["decoder"]["folder"] = name
    file.write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match="plain file name"):
        NsbPipeline.from_pretrained(tmp_path / "p")


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "[]",
        '{"stages": 3}',
        '{"stages": [[]], "sampler": "sampler"}',
        '{"stages": [{"decoder": {}, "encoder": null}], "sampler": "sampler"}',
        '{"stages": [{"decoder": {"name": "iwt"}, "encoder": "wavelet"}], "sampler": "sampler"}',
        '{"stages": [{"decoder": {"name": "iwt"}, "encoder": {"basis": "wavelet", "levels": 1000000000}}]}',
        '{"stages": [{"decoder": {"name": "iwt"}, "encoder": {"basis": ["wavelet"]}}], "sampler": "sampler"}',
        '{"stages": [',
        '{"stages": ' + "[" * 100_000,
    ],
)
def test_a_damaged_index_is_one_sentence(tmp_path: Path, text: str) -> None:
    tiny_pipeline().save_pretrained(tmp_path)
    (tmp_path / "model_index.json").write_text(text)
    with pytest.raises(UsageError) as error:
        NsbPipeline.from_pretrained(tmp_path)
    assert "\n" not in str(error.value)


def test_an_unknown_pipeline_lists_presets() -> None:
    with pytest.raises(UnknownNameError, match="did you mean embedded"):
        NsbPipeline.from_pretrained("embeded")


def test_a_decoder_scale_of_two_is_counted() -> None:
    class Twice:
        info = DecoderInfo("twice", "pixel", 2, "none")

        def __call__(self, low_band: Tensor) -> Tensor:
            return low_band.repeat_interleave(2, -1).repeat_interleave(2, -2)

    pipeline = NsbPipeline(Counting(), [Stage(None, Twice()), Stage(PixelEncoder(1), Twice())])
    assert pipeline.resolutions == (16, 32, 32)
    assert pipeline(1, resolution=32, keep_steps=True).steps.keys() == {
        "sample",
        "decoded 1",
        "low band 2",
        "decoded 2",
    }


@pytest.mark.slow
@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_runs_at_its_real_size(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random weights of the real sizes, built as `nsbgan plan` builds them."""
    from nsbgan_infer.diagnostics.estimate import outline_pipeline

    torch.manual_seed(0)
    try:
        outline = outline_pipeline(name)
    except CheckpointError as error:
        pytest.skip(str(error))  # of what ships, the real sizes are in the files
    pipeline = NsbPipeline(
        _filled(outline.sampler), [replace(s, decoder=_filled(s.decoder)) for s in outline.stages], name=name
    )
    unconditional = pipeline.sampler.info.classes is None
    output = pipeline(None if unconditional else 207)
    assert output.tensors.shape[-1] == SIDES[name][-1]
    assert torch.isfinite(output.tensors).all()


def _filled(part: Any) -> Any:
    """A network on the `meta` device -> the same with small random weights in memory."""
    if not isinstance(part, torch.nn.Module):
        return part
    part = part.to_empty(device="cpu")
    for key, tensor in part.state_dict().items():
        if tensor.is_floating_point():
            tensor.normal_(std=0.02)
            if "var" in key.rpartition(".")[2]:
                tensor.abs_().add_(1)
    return part


def test_the_latents_of_requests_are_those_that_a_call_draws() -> None:
    pipeline = tiny_pipeline()
    latents = pipeline.latents(pipeline.requests([207, 1], 2, seeds=5), Drawing(0.7))
    assert latents.seeds == (5, 6, 5, 6) and (latents.truncation, latents.mode) == (0.7, "std")
    *_, (_name, pictures) = pipeline.steps(latents)
    assert torch.equal(pictures, pipeline([207, 1], 2, seeds=5, truncation=0.7, batch_size=4).tensors)
    assert pipeline.latents([Request(1, 0)]).truncation == pipeline.sampler.info.truncation
    with pytest.raises(UsageError, match="Truncation 2 is out of range"):
        pipeline.latents([Request(1, 0)], Drawing(2))


def test_the_recipe_is_the_identity_and_what_is_each_images_own() -> None:
    pipeline = tiny_pipeline()
    drawing = Drawing(0.7, resolution=64)
    assert pipeline.settle(drawing) == Drawing(0.7, pipeline.sampler.info.truncation_mode, 64)
    assert pipeline.settle() == Drawing(pipeline.sampler.info.truncation, pipeline.sampler.info.truncation_mode, 128)
    identity = pipeline.identity(drawing)
    assert identity["weights"] == {"tiny": None, "tiny-w": None}  # they came from no file
    recipe = asdict(next(pipeline.stream([Request(207, 3)], drawing)).recipes[0])
    own = {"class_id", "seed", "batch_size", "attempt", "rejection", "labels", "latents"}
    assert recipe.keys() - own == identity.keys()
    same = identity.keys() - {"weights", "decoders"}
    assert {k: recipe[k] for k in same} == {k: identity[k] for k in same}
    assert (recipe["decoders"], recipe["weights"]) == (("tiny-w",), {})
    for wrong in (Drawing(2), Drawing(mode="most"), Drawing(resolution=65)):  # type: ignore[arg-type]
        with pytest.raises(UsageError):
            pipeline.settle(wrong)

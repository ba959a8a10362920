"""From a photo to latents and back, on tiny random parts; the inverter that ships is tried on one picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TinyClassifier, randomise, tiny_decoder, tiny_published, tiny_sampler
from tiny_trunk import use_tiny_trunks

from nsbgan_infer import NsbPipeline, Stage, invert, load_inverter, vary, walk
from nsbgan_infer.errors import ImageFileError, UsageError
from nsbgan_infer.inversion import invert_in_steps, late_steps, redraw_as
from nsbgan_infer.inversion import run as module
from nsbgan_infer.inversion.photo import read_square, reduce_to_sample, working_side
from nsbgan_infer.inverters.conv_inverter import ConvInverter, ConvInverterConfig
from nsbgan_infer.pipeline import Request
from nsbgan_infer.samplers.vectors import vectors
from nsbgan_infer.storage.shipped import manifest

COVERS = ["inversion", "inversion.photo", "inversion.search", "samplers.vectors", "classifiers.lite_trunk"]


@pytest.fixture(autouse=True)
def tiny_trunks(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny_trunks(monkeypatch)


def small_pipeline() -> NsbPipeline:
    """16 -> 64 with one decoder."""
    return NsbPipeline(tiny_sampler(), [Stage(None, tiny_decoder())], name="small")


def small_inverter(**changes: Any) -> ConvInverter:
    """An inverter for the tiny sampler, with random weights."""
    fields = {"sampler": "tiny", "weights": "", "basis": "wavelet", "makes": "wavelet", "resolution": 16, "length": 4}
    config = ConvInverterConfig(**{**fields, "classes": (1, 207, 217, 933), "widths": (8, 8), "hidden": 8, **changes})
    torch.manual_seed(0)
    made = randomise(ConvInverter(config))
    assert isinstance(made, ConvInverter)
    return made


def noise_photo(side: int = 80) -> Image.Image:
    """Coloured blots."""
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 255, (8, 10, 3), dtype=np.uint8)).resize((side * 5 // 4, side), 3)


@pytest.mark.parametrize("freedom", ["vector", "layers", "pixels"])
def test_steps_bring_the_picture_nearer_and_the_latents_draw_it(freedom: Any) -> None:
    pipeline, told = small_pipeline(), []
    found = invert(
        noise_photo(), pipeline, class_id=207, steps=20, freedom=freedom, progress=lambda *at: told.append(at)
    )
    assert found.after.psnr > found.before.psnr + {"vector": -0.5, "layers": 0.5, "pixels": 4.0}[freedom]
    assert found.after.features < found.before.features
    assert told == [(i + 1, 20) for i in range(20)]
    assert (found.latents.offsets is None) == (freedom == "vector")
    again = pipeline(latents=found.latents, resolution=64)
    assert torch.allclose(again.tensors, found.picture, atol=1e-5)
    assert found.latents.y[0, 207] == 1 and (found.class_id, found.certainty, found.inverter) == (207, None, None)
    if freedom == "layers":
        inside, added = pipeline.sampler.info.offsets
        assert found.latents.offsets is not None
        assert found.latents.offsets.shape == (1, inside + added) and not found.latents.offsets[:, inside:].any()


def test_an_inversion_can_be_stopped_between_steps_and_tells_each() -> None:
    pipeline = small_pipeline()
    work = invert_in_steps(noise_photo(), pipeline, class_id=207, steps=10)
    told = [next(work) for _ in range(4)]
    work.close()
    assert told == [1, 2, 3, 4] and next(work, "over") == "over"
    assert late_steps(pipeline, 80) == 16


def test_a_photo_is_redrawn_as_another_class_without_what_belongs_to_the_old_one() -> None:
    pipeline = small_pipeline()
    found = invert(noise_photo(), pipeline, class_id=207, steps=3).latents
    other = redraw_as(pipeline, found, 1)
    assert other.offsets is None and other.y.argmax() == 1 and not torch.equal(other.z, found.z)
    assert found.y.argmax() == 207 and found.offsets is not None  # as it was
    with pytest.raises(UsageError, match="cannot draw class 2"):
        redraw_as(pipeline, found, 2)


def test_more_freedom_comes_nearer() -> None:
    far = [invert(noise_photo(), small_pipeline(), class_id=1, steps=15, freedom=f).after.psnr for f in
           ("vector", "pixels")]  # fmt: skip
    assert far[1] > far[0]


def test_the_class_is_guessed_among_the_samplers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_classifier", lambda name: TinyClassifier())
    found = invert(noise_photo(), small_pipeline(), steps=0)
    assert found.class_id in (1, 207, 217, 933) and 0.25 <= (found.certainty or 0) <= 1
    assert found.before == found.after and found.latents.offsets is None


def test_an_inverter_makes_the_first_guess_if_it_is_for_this_sampler() -> None:
    pipeline, inverter = small_pipeline(), small_inverter()
    found = invert(noise_photo(), pipeline, class_id=207, inverter=inverter, steps=0)
    sample = reduce_to_sample(pipeline, read_square(noise_photo(), 64))
    guess = inverter(sample, found.latents.y)
    assert torch.allclose(vectors(pipeline.sampler).vector_of(found.latents), guess, atol=1e-4)
    assert found.inverter == "inverter"
    with pytest.raises(UsageError, match="was trained for other"):
        invert(noise_photo(), pipeline, class_id=207, inverter=small_inverter(sampler="other"), steps=0)


def test_other_samplers_find_z() -> None:
    pipeline = NsbPipeline(tiny_published("bigbigan-128"), name="without classes")  # type: ignore[arg-type]
    found = invert(noise_photo(), pipeline, steps=3)
    assert found.class_id is None and found.latents.offsets is None and found.latents.z.shape == (1, 12)
    assert working_side(pipeline) == 128 and late_steps(pipeline, 80) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"class_id": 2}, "cannot draw class 2"),
        ({"class_id": 1, "steps": -1}, "steps is at least 0"),
        ({"class_id": 1, "freedom": "all"}, "freedom one of vector, layers, pixels"),
    ],
)
def test_what_cannot_be_is_refused_before_the_work(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        invert(noise_photo(), small_pipeline(), **arguments)


def test_a_photo_becomes_an_upright_square_on_white(tmp_path: Path) -> None:
    lying = Image.new("RGB", (40, 20), "red")
    lying.paste("blue", (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter clockwise: blue comes to the top
    lying.save(tmp_path / "lying.jpg", exif=exif, quality=100, subsampling=0)
    square = read_square(tmp_path / "lying.jpg", 20)
    assert square.shape == (1, 3, 20, 20) and square[0, 2, 2].mean() > 0.9 > square[0, 2, 17].mean()
    Image.new("RGBA", (30, 30), (0, 0, 0, 0)).save(tmp_path / "clear.png")
    assert read_square(tmp_path / "clear.png", 32).min() == 1
    with pytest.raises(ImageFileError, match="at least 16 a side"):
        read_square(Image.new("RGB", (200, 15)), 32)
    with pytest.raises(ImageFileError):
        read_square(Path(__file__), 32)


def test_a_code_has_a_z_and_another_class_keeps_what_is_its_own() -> None:
    sampler, pipeline = tiny_sampler(), small_pipeline()
    latents = pipeline.latents([Request(207, 5), Request(1, 6)])
    code = vectors(sampler).vector_of(latents)
    back = vectors(sampler).at_vector(code, latents)
    assert torch.allclose(vectors(sampler).vector_of(back), code, atol=1e-5)
    assert torch.allclose(sampler(back), sampler(latents), atol=1e-4)
    y = torch.roll(latents.y, 1, 0)
    inside, added = sampler.info.offsets
    moved = vectors(sampler).as_class(replace(latents, offsets=torch.ones(2, inside + added)), y)
    shift = sampler.prior.mean[[0, 1]] - sampler.prior.mean[[1, 0]]
    assert torch.equal(moved.y, y) and moved.offsets is None
    short = moved.z[:, :4].norm(dim=1) < 2 - 1e-4  # truncation 1 times the root of 4
    assert short.any() and (moved.z[:, :4].norm(dim=1) < 2 + 1e-4).all()
    assert torch.allclose((vectors(sampler).vector_of(moved) - code)[short], shift[short], atol=1e-5)


def test_variations_and_walks_keep_offsets() -> None:
    pipeline = small_pipeline()
    latents = replace(pipeline.latents([Request(207, 5)]), offsets=torch.ones(1, sum(pipeline.sampler.info.offsets)))
    varied = vary(latents, 0.3, [7, 8])
    assert varied.seeds == (7, 8) and varied.offsets is not None and varied.offsets.eq(1).all()
    assert torch.equal(varied.z, vary(latents, 0.3, [7, 8]).z) and not torch.equal(varied.z[0], varied.z[1])
    assert torch.allclose((varied.z - latents.z) * 2, vary(latents, 0.6, [7, 8]).z - latents.z, atol=1e-5)
    way = walk(latents, pipeline.latents([Request(1, 6)]), 3)
    assert way.offsets is not None and way.offsets.mean(1).tolist() == [1.0, 0.5, 0.0]
    with pytest.raises(UsageError, match="one image's latents"):
        vary(varied, 0.3, [1])


def test_the_inverter_that_ships_beats_the_mean() -> None:
    if "invert-embedded-w-64" not in manifest()["components"]:
        pytest.skip("no inverter ships in this checkout")
    pipeline, inverter = NsbPipeline.from_pretrained("embedded"), load_inverter("invert-embedded-w-64")
    latents = pipeline.latents(pipeline.requests([207, 497], seeds=11))
    with torch.no_grad():
        code, sample = vectors(pipeline.sampler).vector_of(latents), pipeline.sampler(latents)
        guess = inverter(sample, latents.y)
    mean = pipeline.sampler.prior.mean[[pipeline.sampler.info.classes.index(c) for c in (207, 497)]]  # type: ignore
    assert (guess - code).square().mean() < 0.9 * (mean - code).square().mean()

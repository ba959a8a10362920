"""Outputs as sequences, in notebooks and on disk."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import tiny_pipeline

from nsbgan_infer import Output, regenerate
from nsbgan_infer.errors import UsageError
from nsbgan_infer.frame.calls import SHOWN, join_outputs, with_recipe
from nsbgan_infer.images import read_recipe


@pytest.fixture(scope="module")
def output() -> Output:
    return tiny_pipeline()([207, 1], 2, seeds=5, resolution=64, keep_steps=True, progress=False)


def test_an_output_is_a_sequence_of_pictures(output: Output) -> None:
    assert len(output) == 4 and [i.size for i in output] == [(64, 64)] * 4
    assert output[1].tobytes() == output.images[1].tobytes() == output[-3].tobytes()
    with pytest.raises(IndexError):
        output[4]


def test_a_slice_keeps_what_belongs_to_its_pictures(output: Output) -> None:
    part = output[2:0:-1]
    assert [r.seed for r in part.requests] == [5, 6] and [r.class_id for r in part.recipes] == [1, 207]
    assert torch.equal(part.tensors, output.tensors[[2, 1]])
    assert part.steps["sample"].shape == (2, 3, 16, 16)
    assert part.latents is not None and output.latents is not None
    assert torch.equal(part.latents.z, output.latents.z[[2, 1]]) and part.latents.seeds == (5, 6)
    assert len(output[9:]) == 0 and repr(output[9:]) == "<Output: no pictures>" and output[9:]._repr_png_() is None


def test_the_latents_make_the_same_pictures_again(output: Output) -> None:
    again = tiny_pipeline()(latents=output.latents, resolution=64, progress=False)
    assert torch.equal(again.tensors, output.tensors)


def test_it_is_shown_in_words_and_pictures(output: Output) -> None:
    assert repr(output[:1]) == "<Output: 1 picture of 64 x 64: golden retriever seed 5>"
    assert repr(output).startswith("<Output: 4 pictures of 64 x 64: golden retriever seed 5, golden retriever seed 6, ")
    page = output._repr_html_()
    assert page.count("<img ") == 4 and page.count('alt="goldfish seed 5"') == 1
    many = join_outputs([output] * 7)
    assert many._repr_html_().count("<img ") == SHOWN and "and 4 more" in many._repr_html_()
    sheet = Image.open(io.BytesIO(output._repr_png_() or b""))
    assert sheet.size == (4 * 64, 64)


def test_it_saves_itself_with_recipes(output: Output, tmp_path: Path) -> None:
    paths = output.save(tmp_path / "pictures", "webp")
    assert [p.name for p in paths[:2]] == ["207_golden-retriever_seed5.webp", "207_golden-retriever_seed6.webp"]
    assert [read_recipe(p) for p in paths] == list(output.recipes)
    assert len({p.name for p in join_outputs([output[:1]] * 3).save(str(tmp_path / "walk"))}) == 3
    bare = output[:1].save(tmp_path / "bare", recipe=False)[0]
    assert "nsbgan" not in Image.open(bare).info
    with pytest.raises(UsageError, match="'tiff'"):
        output.save(tmp_path, "tiff")  # type: ignore[arg-type]


def test_a_saved_mix_comes_again_from_its_file(tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    mixed = pipeline({207: 0.75, 1: 0.25}, seeds=3, resolution=64, progress=False)
    again = regenerate(mixed.save(tmp_path)[0], pipeline=pipeline)
    assert again.image.tobytes() == mixed[0].tobytes()


def test_recipes_change_without_the_pictures(output: Output) -> None:
    assert {r.attempt for r in with_recipe(output, attempt=3).recipes} == {3}

"""An image again from its file or its recipe, from Python; the command is tested in cli/test_commands.py."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny import tiny_pipeline

from nsbgan_infer import NsbPipeline, regenerate
from nsbgan_infer.errors import CheckpointError, ImageFileError, UsageError
from nsbgan_infer.images import save_image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved pipeline."""
    return tiny_pipeline().save_pretrained(tmp_path / "pipeline")


def test_a_file_and_its_recipe_make_the_same_image(folder: Path, tmp_path: Path) -> None:
    output = NsbPipeline.from_pretrained(folder)(207, seeds=3, truncation=0.6, resolution=64)
    save_image(output.images[0], tmp_path / "a.png", recipe=output.recipes[0])
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), output.recipes[0]):
        again = regenerate(source, pipeline=str(folder))
        assert again.image.tobytes() == output.images[0].tobytes()
        assert again.recipe == output.recipes[0]
        assert (again.differences, again.notes) == ((), ())


def test_a_loaded_pipeline_serves_as_well_and_attempts_are_kept(folder: Path) -> None:
    pipeline = NsbPipeline.from_pretrained(folder)
    recipe = replace(pipeline(207).recipes[0], attempt=4, rejection={"score": 0.9})
    again = regenerate(recipe, pipeline=pipeline)
    assert again.recipe == recipe


def test_other_weights_are_refused_unless_forced(folder: Path) -> None:
    recipe = NsbPipeline.from_pretrained(folder)(207, resolution=64).recipes[0]
    other = replace(recipe, weights={**recipe.weights, "tiny": "0" * 64})
    with pytest.raises(CheckpointError, match=r"tiny has SHA-256 .* instead of 000000000000"):
        regenerate(other, pipeline=str(folder))
    forced = regenerate(other, pipeline=str(folder), force=True)
    assert len(forced.differences) == 1 and forced.differences[0].startswith("tiny has SHA-256")


def test_what_is_not_here_is_noted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = NsbPipeline.from_pretrained(folder)(207, resolution=64).recipes[0]
    again = regenerate(replace(recipe, device="cuda:7", engine="openvinos"), pipeline=str(folder))
    assert again.recipe == recipe
    assert again.notes[0].startswith("the recipe's device cuda:7 is not here")
    assert again.notes[1].startswith("Unknown engine 'openvinos'")
    with pytest.raises(UsageError, match="cuda:7"):
        regenerate(recipe, pipeline=str(folder), device="cuda:7")


def test_what_cannot_be_made_again_says_why(tmp_path: Path) -> None:
    recipe = tiny_pipeline()(207, resolution=64).recipes[0]
    with pytest.raises(UsageError, match="pipeline 'tiny', which is not a preset"):
        regenerate(recipe)
    with pytest.raises(UsageError, match="written by another version"):
        regenerate(replace(recipe, dtype="fp8"), pipeline=tiny_pipeline(), force=True)
    with pytest.raises(ImageFileError):
        regenerate(tmp_path / "none.png")

"""Latents that are given instead of drawn: into a recipe and back, and the pictures that they make."""

from __future__ import annotations

import base64
import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from tiny import tiny_pipeline

from nsbgan_infer import Latents, Recipe, regenerate, walk
from nsbgan_infer.errors import CheckpointError, ImageFileError, UsageError
from nsbgan_infer.latents_file import Origin, check_origin, latents_table, load_latents, read_table, save_latents
from nsbgan_infer.pipeline import Request


def drawn(classes: tuple[int, ...] = (207, 1)) -> Latents:
    """Latents that the tiny pipeline can draw."""
    return tiny_pipeline().latents([Request(c, 3 + i) for i, c in enumerate(classes)])


def test_a_table_gives_the_same_latents_back() -> None:
    latents = drawn()
    mixed = replace(latents, y=torch.roll(latents.y, 1, 0) * 0.25 + latents.y * 0.75)
    table = json.loads(json.dumps(latents_table(mixed, 1)))
    back = read_table(table, seed=4, truncation=latents.truncation, mode=latents.mode)
    assert torch.equal(back.z, mixed.z[1:]) and torch.equal(back.y, mixed.y[1:])
    assert (back.seeds, back.truncation, back.mode) == (latents.seeds[1:], latents.truncation, latents.mode)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"z": "no base64!"}, "damaged latents"),
        ({"z": 5}, "no text"),
        ({"z": "AADAfw=="}, "NaN"),
        ({"y": {"1000": 1.0}}, "no number"),
        ({"y": {"207": 1e9}}, "out of range"),
        ({"y": [207]}, "damaged"),
        ({"more": 1}, "unknown field 'more'"),
    ],
)
def test_a_damaged_table_is_refused(change: dict[str, Any], message: str) -> None:
    table = latents_table(drawn(), 0) | change
    with pytest.raises(ImageFileError, match=message):
        read_table(table, seed=0, truncation=1.0, mode="std")


def test_given_latents_make_what_class_and_seed_make() -> None:
    pipeline = tiny_pipeline()
    usual, given = pipeline([207, 1], seeds=3), pipeline(latents=pipeline.latents(pipeline.requests([207, 1], seeds=3)))
    assert torch.equal(usual.tensors, given.tensors) and usual.requests == given.requests
    assert usual.recipes[0].latents is None and "latents" not in json.loads(usual.recipes[0].to_json())
    assert given.recipes[0].latents is not None
    assert replace(given.recipes[0], latents=None) == usual.recipes[0]


def test_a_picture_between_two_others_comes_again_from_its_recipe() -> None:
    pipeline = tiny_pipeline()
    way = walk(drawn((207,)), drawn((1,)), 4)
    output = pipeline(latents=way, batch_size=4)
    recipe = Recipe.from_json(output.recipes[2].to_json())
    again = regenerate(recipe, pipeline=pipeline)
    assert abs(output.tensors[2] - pipeline(latents=way[2:3]).tensors[0]).max() < 1e-5
    assert again.image.tobytes() == pipeline(latents=way[2:3]).images[0].tobytes()
    assert again.recipe.latents == recipe.latents and recipe.class_id == 1


def test_a_walk_with_offsets_comes_again_to_the_last_bit() -> None:
    pipeline, start, end = tiny_pipeline(), drawn((207,)), drawn((1,))
    moved = [torch.randn(1, sum(pipeline.sampler.info.offsets)).half().float() / 10 for _ in range(2)]
    way = walk(replace(start, offsets=moved[0]), replace(end, offsets=moved[1]), 4)
    output = pipeline(latents=way[1:2])
    again = regenerate(Recipe.from_json(output.recipes[0].to_json()), pipeline=pipeline)
    assert again.image.tobytes() == output.images[0].tobytes()


def test_latents_that_do_not_fit_are_refused() -> None:
    pipeline, latents = tiny_pipeline(), drawn()
    for wrong, message in (
        (replace(latents, z=latents.z[:, :5]), "have 5 numbers, the sampler tiny takes"),
        (replace(latents, y=torch.zeros_like(latents.y)), "draws classes, but the latents have none"),
        (replace(latents, y=torch.roll(latents.y, 1, 1)), "cannot draw class"),
        (replace(latents, seeds=(1,)), "need 2 seeds"),
    ):
        with pytest.raises(UsageError, match=message):
            pipeline(latents=wrong)
    with pytest.raises(UsageError, match="leave these out"):
        pipeline(207, latents=latents)


def test_a_file_gives_the_same_latents_back(tmp_path: Path) -> None:
    latents = replace(drawn(), offsets=torch.randn(2, 30).half().float())
    origin = Origin("embedded", "embedded-w-64", "ab" * 32)
    back, found = load_latents(save_latents(latents, tmp_path / "photo.safetensors", origin))
    assert found == origin and back.offsets is not None and latents.offsets is not None
    assert (
        torch.equal(back.z, latents.z) and torch.equal(back.y, latents.y) and torch.equal(back.offsets, latents.offsets)
    )
    assert (back.seeds, back.truncation, back.mode) == (latents.seeds, latents.truncation, latents.mode)
    table = latents_table(latents, 1)
    again = read_table(table, seed=4, truncation=latents.truncation, mode=latents.mode)
    assert again.offsets is not None and torch.equal(again.offsets, latents.offsets[1:])


def test_packed_offsets_are_bounded() -> None:
    bomb = base64.b64encode(zlib.compress(bytes(1 << 22), 9)).decode()
    for offsets in (bomb, "AAAA", base64.b64encode(zlib.compress(b"abcdef")[:-3]).decode()):
        with pytest.raises(ImageFileError, match="damaged latents"):
            read_table(latents_table(drawn(), 0) | {"offsets": offsets}, seed=0, truncation=1.0, mode="std")


@pytest.mark.parametrize(
    ("tensors", "about", "message"),
    [
        ({}, None, "holds no latents"),
        ({}, {"format": "nsbgan latents 2"}, "newer version"),
        ({}, {"seeds": [1]}, "damaged"),
        ({}, {"seeds": [1, -2]}, "seed is no whole number"),
        ({}, {"truncation": 0}, "truncation is no number"),
        ({}, {"truncation_mode": "none"}, "mode is unknown"),
        ({}, {"sampler": 5}, "no short text"),
        ({}, {"more": 5}, "unknown field"),
        ({"z": torch.zeros(2, 1 << 16)}, {}, "another size"),
        ({"z": torch.zeros(3, 8)}, {}, "do not fit together"),
        ({"y": torch.zeros(2, 1000, dtype=torch.int32)}, {}, "no numbers of fp32"),
        ({"w": torch.zeros(2, 4)}, {}, "it holds w, y, z"),
        ({"z": torch.full((2, 8), torch.nan)}, {}, "not finite"),
    ],
)
def test_a_damaged_file_is_refused(
    tensors: dict[str, Any], about: dict[str, Any] | None, message: str, tmp_path: Path
) -> None:
    good: dict[str, Any] = {"format": "nsbgan latents 1", "preset": "p", "sampler": "s", "weights": "", "seeds": [1, 2]}
    good |= {"truncation": 1.0, "truncation_mode": "std"}
    metadata = {"format": "pt"} if about is None else {"nsbgan_latents": json.dumps(good | about)}
    latents = drawn()
    save_file({"z": latents.z, "y": latents.y} | tensors, tmp_path / "a.safetensors", metadata=metadata)
    with pytest.raises(CheckpointError, match=message):
        load_latents(tmp_path / "a.safetensors")


def test_files_of_other_kinds_and_origins_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"no such thing")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_latents(tmp_path / "a.safetensors")
    origin = Origin("embedded", "embedded-w-64", "ab" * 32)
    check_origin(origin, "embedded-w-64", "ab" * 32, name="it")
    with pytest.raises(CheckpointError, match="sampler embedded-w-64, not of other: add --preset embedded"):
        check_origin(origin, "other", "ab" * 32, name="it")
    with pytest.raises(CheckpointError, match="other weights of embedded-w-64"):
        check_origin(origin, "embedded-w-64", "cd" * 32, name="it")

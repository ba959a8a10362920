"""`nsbgan invert` and `nsbgan generate --latents`: from a photo's file to pictures, on tiny parts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command import Run
from photo_file import photo
from PIL import Image
from tiny_trunk import use_tiny_trunks

from nsbgan_infer import load_latents
from nsbgan_infer.images import read_recipe

COVERS = ["cli.latents"]


@pytest.fixture
def found(run_json: Callable[..., Any], pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The latents of one photo, in photo.safetensors."""
    use_tiny_trunks(monkeypatch)
    photo(Path("photo.png"), 150, 140)
    value: dict[str, Any] = run_json(
        *("invert", "photo.png", "--pipeline", pipeline_folder, "-c", "golden retriever", "--steps", "10"),
        *("--out", "photo.safetensors", "--picture", "like.png", "--quiet"),
    )
    return value


def test_a_photo_becomes_latents_and_these_pictures(found: dict[str, Any], run: Run, pipeline_folder: Path) -> None:
    assert (found["class_id"], found["certainty"], found["sampler"]) == (207, None, "tiny")
    assert found["after"]["psnr"] > found["before"]["psnr"]
    latents, origin = load_latents(Path("photo.safetensors"))
    assert origin.preset == "tiny" and latents.offsets is not None
    common = ("generate", "--latents", "photo.safetensors", "--pipeline", pipeline_folder)
    assert run(*common).stdout.split() == ["out/photo.png"]
    with Image.open("out/photo.png") as drawn, Image.open("like.png") as like:
        assert drawn.tobytes() == like.tobytes() and drawn.size == (128, 128)
    run("regenerate", "out/photo.png", "--pipeline", pipeline_folder, "--out", "again.png")
    with Image.open("out/photo.png") as drawn, Image.open("again.png") as again:
        assert drawn.tobytes() == again.tobytes()
    assert run(*common, "-c", "goldfish", "--format", "webp").stdout.split() == ["out/photo_goldfish.webp"]
    assert read_recipe(Path("out/photo_goldfish.webp")).class_id == 1
    varied = run(*common, "--vary", "0.3", "-n", "2", "--seed", "5").stdout.split()
    assert varied == ["out/photo_seed5.png", "out/photo_seed6.png"]
    first = Path(varied[0]).read_bytes()
    assert first != Path(varied[1]).read_bytes()
    run(*common, "--vary", "0.3", "--seed", "5")
    assert Path(varied[0]).read_bytes() == first
    walked = run(*common, "--walk-to", "photo.safetensors", "-n", "3", "--res", "64").stdout.split()
    assert walked[2] == "out/photo_to_photo_002.png"
    with Image.open(walked[2]) as end:
        assert end.size == (64, 64)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--walk-to", "photo.safetensors"), "go with --latents FILE"),
        (("--latents", "photo.safetensors", "-n", "3"), "add --vary 0.3"),
        (("--latents", "photo.safetensors", "--vary", "1", "--walk-to", "photo.safetensors"), "leave out --vary"),
        (("--latents", "photo.safetensors", "--truncation", "0.4"), "leave out --truncation"),
        (("--latents", "photo.safetensors", "-c", "1", "-c", "207"), "give --class once"),
        (("--latents", "photo.safetensors", "--count", "4"), "leave out the options of bulk runs"),
        (("--latents", "photo.safetensors"), "add --pipeline"),
        (("--latents", "photo.png"), "not a safetensors file"),
    ],
)
def test_what_cannot_be_drawn_says_why(
    arguments: tuple[str, ...], message: str, found: dict[str, Any], run: Run
) -> None:
    assert message in run("generate", *arguments, code=2).stderr


def test_a_photo_that_cannot_be_inverted_says_why(run: Run, pipeline_folder: Path) -> None:
    photo(Path("photo.png"), 64, 64)
    Path("no.png").write_text("no picture")
    common = ("invert", "photo.png", "--pipeline", pipeline_folder, "-c", "207")
    for arguments, message in (
        ((*common, "--out", "latents.pt"), "kept in a .safetensors file"),
        ((*common, "--picture", "like.tiff"), "end it in .png"),
        (("invert", "no.png", "--pipeline", pipeline_folder, "-c", "207"), "not an image"),
        (("invert", "photo.png", "--pipeline", pipeline_folder, "-c", "200-202"), "means 3 classes"),
        (("invert", "photo.png", "--pipeline", pipeline_folder, "-c", "2"), "cannot draw class 2"),
    ):
        assert message in run(*arguments, code=2).stderr
    assert not Path("latents.safetensors").exists()

"""What images, checkpoints and folders say about themselves, from Python."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from tiny import tiny_decoder, tiny_pipeline

from nsbgan_infer import inspect, save_image
from nsbgan_infer.errors import CheckpointError, ImageFileError
from nsbgan_infer.storage.components import save_component
from nsbgan_infer.storage.files import sha256_of


def test_an_image_with_and_without_a_recipe(tmp_path: Path) -> None:
    output = tiny_pipeline()(207, resolution=64)
    save_image(output.images[0], tmp_path / "a.webp", recipe=output.recipes[0])
    found = inspect(tmp_path / "a.webp")
    assert (found["kind"], found["format"], found["width"], found["mode"]) == ("image", "WEBP", 64, "RGB")
    assert found["recipe"] == json.loads(output.recipes[0].to_json())
    save_image(Image.new("L", (3, 2)), tmp_path / "b.png")
    plain = inspect(str(tmp_path / "b.png"))
    assert plain["recipe"] is None and "carries no recipe" in plain["note"] and plain["height"] == 2


def test_a_checkpoint_and_a_pipeline(tmp_path: Path) -> None:
    decoder = tiny_decoder()
    save_component(decoder, tmp_path / "decoder")
    found = inspect(tmp_path / "decoder")
    assert (found["kind"], found["reads"], found["dtypes"].keys()) == ("checkpoint", "wavelet", {"F32"})
    assert found["numbers"] == sum(t.numel() for t in decoder.state_dict().values())
    assert found["sha256"] == sha256_of(tmp_path / "decoder" / "model.safetensors")
    assert inspect(tmp_path / "decoder" / "model.safetensors")["config"]["arch"] == "subband"
    whole = inspect(tiny_pipeline().save_pretrained(tmp_path / "pipeline"))
    assert (whole["kind"], whole["index"]["name"], sorted(whole["parts"])) == (
        "pipeline", "tiny", ["decoder-1", "sampler"],
    )  # fmt: skip
    assert whole["parts"]["sampler"]["makes"] == "wavelet"


def test_what_it_does_not_open(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"")
    with pytest.raises(CheckpointError, match="nsbgan convert"):
        inspect(tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="neither"):
        inspect(tmp_path)
    with pytest.raises(ImageFileError, match="No such image"):
        inspect(tmp_path / "none.png")

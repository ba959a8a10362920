"""Names inside index files stay inside their folder; images that would fill memory are refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner
from hostile import TRAVERSAL, bomb_png, text_bomb_png

from nsbgan_infer import registry
from nsbgan_infer.datasets import check_images, decode_image, open_source
from nsbgan_infer.errors import CheckpointError, ImageFileError, NsbError
from nsbgan_infer.images import open_image, read_recipe
from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.registry import shipped_file
from nsbgan_infer.samplers.stylegan2 import StyleGAN2, StyleGAN2Config
from nsbgan_infer.storage.components import save_component


@pytest.fixture
def pipeline(tmp_path: Path) -> Path:
    """A good pipeline of a sampler alone, and another sampler outside its folder."""
    sampler = StyleGAN2(StyleGAN2Config(channels=(4,), style_dim=4, mapping_layers=1))
    save_component(sampler, tmp_path / "pipeline" / "sampler")
    save_component(sampler, tmp_path / "outside")
    write_index(tmp_path / "pipeline")
    NsbPipeline.from_pretrained(tmp_path / "pipeline")
    return tmp_path / "pipeline"


def write_index(folder: Path, **changes: object) -> None:
    index = {"kind": "pipeline", "name": "x", "sampler": "sampler", "stages": []} | changes
    (folder / "model_index.json").write_text(json.dumps(index))


@pytest.mark.parametrize("name", [*TRAVERSAL, "../outside", None, 3, ["sampler"], {"x": "sampler"}])
def test_a_pipelines_index_cannot_name_what_is_outside(pipeline: Path, name: object) -> None:
    write_index(pipeline, sampler=name)
    with pytest.raises(CheckpointError):
        NsbPipeline.from_pretrained(pipeline)
    for key in ("folder", "name"):
        write_index(pipeline, stages=[{"encoder": None, "decoder": {key: name}}])
        with pytest.raises(NsbError):
            NsbPipeline.from_pretrained(pipeline)


def test_a_decoder_named_by_an_index_is_a_registry_name_and_no_path(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pipeline.parent)
    for name in ("outside", "spandrel:x.pth", "hf://owner/name"):
        write_index(pipeline, stages=[{"encoder": None, "decoder": {"name": name}}])
        with pytest.raises(NsbError):
            NsbPipeline.from_pretrained(pipeline)


@pytest.mark.parametrize("name", TRAVERSAL)
def test_the_manifest_cannot_name_what_is_outside(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "manifest", lambda: {"components": {"resnet-w": {"file": name}}})
    with pytest.raises(CheckpointError):
        shipped_file("resnet-w")


@pytest.mark.parametrize("content", [bomb_png(), bomb_png(2**31 - 1, 2**31 - 1), text_bomb_png()])
def test_image_bombs_become_one_sentence(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(content)
    assert len(content) < 200_000
    for read in (lambda: decode_image(content, "bomb.png"), lambda: open_image(path), lambda: read_recipe(path)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with pytest.raises(ImageFileError, match=r"bomb\.png"):
                read()
    assert len(check_images(open_source(path))) == 1


@pytest.mark.parametrize(
    "command",
    [
        ("upscale", "bomb.png", "--out", "out.png"),
        ("inspect", "bomb.png"),
        ("regenerate", "bomb.png", "--out", "out.png"),
    ],
)
def test_the_command_refuses_image_bombs(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nsbgan_infer.cli.main import cli

    monkeypatch.chdir(tmp_path)
    Path("bomb.png").write_bytes(bomb_png())
    result = CliRunner().invoke(cli, list(command), prog_name="nsbgan")
    assert result.exit_code == 2 and "bomb.png" in result.stderr and "Traceback" not in result.stderr
    assert not Path("out.png").exists()

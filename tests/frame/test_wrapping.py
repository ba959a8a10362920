"""Modules of one's own as samplers and decoders: used, kept, and loaded with the module brought again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny import tiny_sampler
from torch import Tensor, nn

from nsbgan_infer import NsbPipeline, Stage, as_decoder, as_sampler, regenerate
from nsbgan_infer.decoders.conformance import check_decoder
from nsbgan_infer.errors import CheckpointError, UnknownNameError, UsageError, WrongTypeError
from nsbgan_infer.registry import load_decoder
from nsbgan_infer.samplers.conformance import check_sampler
from nsbgan_infer.storage.components import tensors_sha256


class Net(nn.Module):
    """z and the weights of two classes -> (B, 3, 8, 8) in [-1, 1]."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layer = nn.Linear(6, 3 * 8 * 8)

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return torch.tanh(self.layer(torch.cat([z, y], 1))).view(-1, 3, 8, 8)


class Enlarge(nn.Module):
    """(B, 3, h, w) in [-1, 1] -> (B, 3, 2h, 2w)."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv = nn.Conv2d(3, 12, 1)

    def forward(self, x: Tensor) -> Tensor:
        near = nn.functional.interpolate(x, scale_factor=2, mode="nearest")
        return near + 0.01 * nn.functional.pixel_shuffle(self.conv(x), 2)


def own_pipeline() -> NsbPipeline:
    sampler = as_sampler(Net(), resolution=8, z_dim=4, classes=(207, 1), values=(-1, 1), name="mine")
    return NsbPipeline(sampler, [Stage(None, as_decoder(Enlarge(), scale=2, values=(-1, 1)))], name="own")


def test_a_wrapped_sampler_sees_the_weights_of_its_classes() -> None:
    pipeline = own_pipeline()
    z = pipeline.latents(1, seeds=3).z
    wanted = (Net()(z, torch.tensor([[0.0, 1.0]])) + 1) / 2
    assert torch.allclose(pipeline(1, seeds=3, keep_steps=True).steps["sample"], wanted)
    assert all(c.ok for c in check_sampler(pipeline.sampler))


def test_a_wrapped_decoder_works_in_its_own_range() -> None:
    decoder = own_pipeline().stages[0].decoder
    low = torch.rand(1, 3, 8, 8)
    assert torch.allclose(decoder(low), (Enlarge()(low * 2 - 1) + 1) / 2)
    assert decoder.info.name == "Enlarge" and decoder.info.reads == "bicubic" and decoder.info.halo is None
    broken = {c.name for c in check_decoder(as_decoder(nn.Upsample(scale_factor=2), scale=2)) if not c.ok}
    assert not broken & {"shape", "deterministic"}


def test_it_is_kept_without_code_and_loaded_with_its_module(tmp_path: Path) -> None:
    pipeline = own_pipeline()
    output = pipeline([207, 1], 2)
    pipeline.save_pretrained(tmp_path)
    index = json.loads((tmp_path / "decoder-1" / "config.json").read_text())
    assert index["class"].endswith("test_wrapping.Enlarge") and index["info"]["scale"] == 2
    assert not [p for p in tmp_path.rglob("*") if p.suffix not in (".json", ".safetensors", "")]
    loaded = NsbPipeline.from_pretrained(tmp_path, modules={"sampler": Net(seed=5), "decoder-1": Enlarge(seed=6)})
    again = loaded([207, 1], 2)
    assert torch.equal(again.tensors, output.tensors)
    assert again.recipes == output.recipes and set(again.recipes[0].weights) == {"mine", "Enlarge"}
    assert regenerate(output.recipes[1], pipeline=loaded).image.tobytes() == output[1].tobytes()


def test_what_cannot_be_loaded_says_what_to_bring(tmp_path: Path) -> None:
    own_pipeline().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"no code: bring it by .*modules=\{'decoder-1': Enlarge\(...\)\}"):
        NsbPipeline.from_pretrained(tmp_path, modules={"sampler": Net()})
    with pytest.raises(CheckpointError, match=r"do not fit.*missing weight"):
        NsbPipeline.from_pretrained(tmp_path, modules={"sampler": Net(), "decoder-1": nn.Linear(2, 2)})
    with pytest.raises(WrongTypeError, match="the class Enlarge"):
        NsbPipeline.from_pretrained(tmp_path, modules={"sampler": Net(), "decoder-1": Enlarge})  # type: ignore[dict-item]
    with pytest.raises(UsageError, match=r"No part of .* 'decoder-2': it has decoder-1, sampler"):
        both = {"sampler": Net(), "decoder-1": Enlarge(), "decoder-2": Enlarge()}
        NsbPipeline.from_pretrained(tmp_path, modules=both)
    with pytest.raises(CheckpointError, match="someone's own module"):
        load_decoder(str(tmp_path / "decoder-1"))
    with pytest.raises(UsageError, match="embedded is a preset"):
        NsbPipeline.from_pretrained("embedded", modules={"sampler": Net()})


def test_a_hostile_description_makes_nothing(tmp_path: Path) -> None:
    own_pipeline().save_pretrained(tmp_path)
    file = tmp_path / "decoder-1" / "config.json"
    for change in ({"info": {"name": "x", "import": "os"}}, {"info": [1]}, {"kind": "evil"}):
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
        with pytest.raises((CheckpointError, UnknownNameError)):
            NsbPipeline.from_pretrained(tmp_path, modules={"sampler": Net(), "decoder-1": Enlarge()})


def test_other_weights_of_the_module_are_noticed(tmp_path: Path) -> None:
    pipeline = own_pipeline()
    recipe = pipeline(207).recipes[0]
    own_pipeline().save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "decoder-1" / "model.safetensors")
    save_file({k: v + 1 for k, v in tensors.items()}, tmp_path / "decoder-1" / "model.safetensors")
    other = NsbPipeline.from_pretrained(tmp_path, modules={"sampler": Net(), "decoder-1": Enlarge()})
    with pytest.raises(CheckpointError, match="Enlarge has SHA-256"):
        regenerate(recipe, pipeline=other)


def test_training_changes_the_checksum_and_moving_does_not() -> None:
    pipeline = own_pipeline()
    before = pipeline(207).recipes[0].weights["mine"]
    assert before == tensors_sha256(pipeline.sampler)  # type: ignore[arg-type]
    pipeline.to(torch.bfloat16)
    assert pipeline(207).recipes[0].weights["mine"] == before
    with torch.no_grad():
        next(pipeline.sampler.parameters()).add_(1)  # type: ignore[attr-defined]
    assert pipeline(207).recipes[0].weights["mine"] not in (before, None)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: as_decoder(Enlarge, scale=2), WrongTypeError, "the class Enlarge: make one"),  # type: ignore[arg-type]
        (lambda: as_sampler("net", resolution=8, z_dim=4), WrongTypeError, "not a str"),  # type: ignore[arg-type]
        (lambda: as_decoder(Enlarge(), scale=0), UsageError, "at least 1"),
        (lambda: as_decoder(Enlarge(), scale=2, reads="bicubik"), UnknownNameError, "bicubic"),
        (lambda: as_decoder(Enlarge(), scale=2, values=(1, 1)), UsageError, "no range"),
        (lambda: as_sampler(Net(), resolution=8, z_dim=4, classes=()), UsageError, "at least one id"),
    ],
)
def test_what_cannot_be_wrapped(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_a_module_that_breaks_its_word_is_named() -> None:
    wrong = as_sampler(Net(), resolution=16, z_dim=4, classes=(207, 1), name="small")
    with pytest.raises(Exception, match=r"Step 2 \(sampler small\) made 3 x 8 x 8 where its info promises 3 x 16 x 16"):
        NsbPipeline(wrong)(207)
    with pytest.raises(Exception, match=r"Step 4 \(decoder Enlarge\) made 3 x 24 x 24 .* 3 x 48 x 48"):
        NsbPipeline(tiny_sampler("pixel"), [Stage(None, as_decoder(Enlarge(), scale=3))])(207)

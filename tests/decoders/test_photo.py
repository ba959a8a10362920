"""The decoder for photos: sizes, its start as bicubic interpolation, where its samples lie, beginning from others."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import nn

from nsbgan_infer.decoders.photo import PhotoConfig, PhotoDecoder
from nsbgan_infer.decoders.subband import SubbandConfig, SubbandDecoder
from nsbgan_infer.encoders.reduce import make_reducer
from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.storage.components import load_component, save_component
from nsbgan_infer.training.decoders.l1 import NETWORKS
from nsbgan_infer.training.decoders.start import start_from

COVERS = ["training.decoders.start"]

TINY = PhotoConfig(name="tiny", blocks=2, channels=8)


def make_random(config: PhotoConfig = TINY) -> PhotoDecoder:
    """A decoder whose head is not zero."""
    torch.manual_seed(0)
    decoder = PhotoDecoder(config)
    nn.init.normal_(decoder.conv_last.weight, std=0.02)
    return decoder.eval().requires_grad_(False)


@pytest.mark.parametrize(("arch", "most"), [("photo", 1_300_000), ("photo-fast", 400_000)])
def test_parameter_budgets(arch: str, most: int) -> None:
    row = {k: v for k, v in NETWORKS[arch].items() if k != "arch"}
    for scale in (2, 3, 4):
        count = sum(p.numel() for p in PhotoDecoder(PhotoConfig(scale=scale, **row)).parameters())
        assert 0.8 * most < count <= most


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_starts_as_bicubic_interpolation_of_any_scale(scale: int) -> None:
    decoder, low = PhotoDecoder(replace(TINY, scale=scale)), torch.rand(2, 3, 12, 9)
    want = F.interpolate(low, (12 * scale, 9 * scale), mode="bicubic", align_corners=False)
    assert torch.allclose(decoder(low), want, atol=1e-6)
    assert decoder.info.scale == scale and decoder.info.reads == "bicubic" and decoder.info.basis == "pixel"
    bias = decoder.state_dict()["conv_last.bias"]
    bias[scale * scale + scale + 1] = 1.0  # colour 1, row 1, column 1 of each cell
    added = decoder(low).detach() - want
    assert added[:, 1, 1::scale, 1::scale].allclose(torch.ones(()), atol=1e-5)
    assert float(added.sum()) == pytest.approx(2 * 12 * 9, rel=1e-4)


def test_saves_and_loads(tmp_path: Path) -> None:
    decoder, low = make_random(), torch.rand(1, 3, 8, 11)
    save_component(decoder, tmp_path / "x")
    again = load_component(tmp_path / "x", kind="decoder")
    assert torch.equal(again(low), decoder(low)) and again.config == TINY
    with pytest.raises(ValueError, match="2, 3 or 4"):
        PhotoConfig(scale=8)


def test_begins_with_the_body_of_a_subband_decoder(tmp_path: Path) -> None:
    torch.manual_seed(1)
    subband = SubbandDecoder(SubbandConfig(name="s", blocks=2, channels=8))
    nn.init.normal_(subband.conv_last.weight)
    save_component(subband, tmp_path / "s")
    decoder = PhotoDecoder(TINY)
    start_from(decoder, str(tmp_path / "s"))
    for key, value in decoder.state_dict().items():
        assert torch.equal(value, subband.state_dict()[key]) != key.startswith("conv_last")
    assert not decoder.conv_last.weight.any()
    with pytest.raises(CheckpointError, match="do not fit"):
        start_from(PhotoDecoder(replace(TINY, channels=4)), str(tmp_path / "s"))
    save_component(decoder, tmp_path / "p")
    start_from(subband, str(tmp_path / "p"))  # and the other way round


def test_begins_with_a_bare_file_of_weights(tmp_path: Path) -> None:
    given = make_random()
    save_file({k: v.half() for k, v in given.state_dict().items()}, tmp_path / "w.safetensors")
    decoder = PhotoDecoder(TINY)
    start_from(decoder, str(tmp_path / "w.safetensors"))
    assert torch.allclose(decoder.conv_last.weight, given.conv_last.weight, atol=1e-4)
    other = PhotoDecoder(replace(TINY, scale=2))
    start_from(other, str(tmp_path / "w.safetensors"))
    assert not other.conv_last.weight.any() and torch.allclose(
        other.conv_body.weight, given.conv_body.weight, atol=1e-3
    )


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_training_shrinks_to_eight_bits(scale: int) -> None:
    low = make_reducer("bicubic", scale)(torch.rand(1, 3, 8 * scale, 9 * scale))
    assert low.shape == (1, 3, 8, 9) and torch.allclose((low * 255).round() / 255, low, atol=1e-7)

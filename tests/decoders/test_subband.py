"""The sub-band decoder: sizes, its start as `iwt`, exactness with true details, graphs without breaks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from nsbgan_infer.decoders.subband import SubbandConfig, SubbandDecoder
from nsbgan_infer.encoders import WaveletEncoder
from nsbgan_infer.encoders.lifting import idwt2
from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.storage.components import load_component, save_component
from nsbgan_infer.training.decoders.l1 import NETWORKS

TINY = SubbandConfig(name="tiny", blocks=2, channels=8)


def make_random(config: SubbandConfig = TINY) -> SubbandDecoder:
    """A decoder whose head is not zero."""
    torch.manual_seed(0)
    decoder = SubbandDecoder(config)
    nn.init.normal_(decoder.conv_last.weight, std=0.02)
    return decoder.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("arch", "most"), [("subband-w", 1_300_000), ("subband-w-fast", 450_000), ("subband-w-tiny", 120_000)]
)
def test_parameter_budgets(arch: str, most: int) -> None:
    row = {k: v for k, v in NETWORKS[arch].items() if k != "arch"}
    count = sum(p.numel() for p in SubbandDecoder(SubbandConfig(**row)).parameters())
    assert 0.5 * most < count <= most


def test_starts_as_the_inverse_transform_with_zero_details() -> None:
    low = torch.rand(2, 3, 12, 9)
    assert torch.allclose(SubbandDecoder(TINY)(low), WaveletEncoder(2).enlarge(low), atol=1e-6)


def test_true_details_give_the_picture() -> None:
    """The order and scale of what `details` must learn is that of the encoder's pyramid."""
    picture = torch.rand(1, 3, 32, 40)
    pyramid = WaveletEncoder(2).pyramid(picture)

    class Knows(SubbandDecoder):
        def details(self, low_band: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return pyramid.details[1], pyramid.details[0]

    assert torch.allclose(Knows(TINY)(pyramid.low), picture, atol=1e-5)


def test_details_have_the_documented_shapes_and_order() -> None:
    decoder = make_random()
    low = torch.rand(1, 3, 8, 10)
    level2, level1 = decoder.details(low)
    assert level2.shape == (1, 3, 3, 8, 10) and level1.shape == (1, 3, 3, 16, 20)
    assert torch.equal(decoder(low), idwt2(idwt2(low, level2), level1))
    # the head's channel 9 + 4 * (3 * band + colour) + 2 * dy + dx is one pixel of one band of level 1
    assert decoder.conv_last.bias is not None
    decoder.conv_last.weight.zero_()
    decoder.conv_last.bias[9 + 4 * (3 * 1 + 2) + 2 * 1 + 0] = 1.0
    _, level1 = decoder.details(low)
    assert level1[0, 1, 2, 1::2, 0::2].eq(1).all() and level1.sum() == 80


@settings(max_examples=15, deadline=None)
@given(height=st.integers(8, 21), width=st.integers(8, 21))
def test_any_size_finite_and_deterministic(height: int, width: int) -> None:
    decoder, low = make_random(), torch.rand(1, 3, height, width) * 3 - 1
    first = decoder(low)
    assert first.shape == (1, 3, 4 * height, 4 * width)
    assert first.isfinite().all() and torch.equal(first, decoder(low))


def test_bf16_keeps_the_dtype_and_the_picture() -> None:
    decoder, low = make_random(), torch.rand(1, 3, 16, 16)
    out = decoder.bfloat16()(low.bfloat16())
    assert out.dtype == torch.bfloat16
    assert (out.float() - make_random()(low)).abs().max() < 0.05


def test_exports_without_graph_breaks() -> None:
    decoder, low = make_random(), torch.rand(1, 3, 16, 16)
    exported = torch.export.export(decoder, (low,))
    assert torch.allclose(exported.module()(low), decoder(low), atol=1e-6)


def test_fp16_file_round_trip(tmp_path: Path) -> None:
    decoder, low = make_random(), torch.rand(1, 3, 16, 16)
    file = save_component(decoder, tmp_path / "tiny.safetensors", dtype=torch.float16, info={"licence": "none"})
    loaded = load_component(file, kind="decoder")
    assert loaded.config == TINY and (loaded(low) - decoder(low)).abs().max() < 1 / 512


def test_bad_configuration_is_refused(tmp_path: Path) -> None:
    save_component(make_random(), tmp_path / "bad")
    config = tmp_path / "bad" / "config.json"
    config.write_text(config.read_text().replace('"blocks": 2', '"blocks": 0'))
    with pytest.raises(CheckpointError, match="at least 1"):
        load_component(tmp_path / "bad")

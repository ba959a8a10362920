"""Micro-batches, out-of-memory, tiles and padding: whatever the path, the picture is the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nsbgan_infer.decoders.base import Decoder, DecoderInfo
from nsbgan_infer.decoders.interpolate import make_bicubic, make_iwt, make_lanczos
from nsbgan_infer.decoders.tiling import _spans, decode, is_out_of_memory
from nsbgan_infer.errors import NonFiniteError, UsageError, WorkError

GREY_LEVEL = 1 / 255


class TinyConv(nn.Module):
    """Three convolutions and a pixel shuffle on top of bilinear enlargement: halo 3, and 2 for the enlargement."""

    def __init__(self, scale: int = 4, multiple: int = 1, halo: int | None = 4) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.info = DecoderInfo("tiny", "wavelet", scale, "none", halo=halo, multiple=multiple)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in ((3, 8), (8, 8), (8, 3 * scale**2)))
        for parameter in self.parameters():
            parameter.data.normal_(0, 0.2, generator=generator)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, low: Tensor) -> Tensor:
        self.seen.append(tuple(low.shape))
        x = low
        for conv in self.convs[:-1]:
            x = torch.relu(conv(x))
        return make_iwt(self.info.scale)(low) + nn.functional.pixel_shuffle(self.convs[-1](x), self.info.scale)


@dataclass
class SmallMemory:
    """`iwt` on a device on which `limit` low-band samples fit at a time."""

    limit: int
    error: Exception
    info: DecoderInfo = field(default_factory=lambda: make_iwt().info)
    seen: list[tuple[int, ...]] = field(default_factory=list)

    def __call__(self, low_band: Tensor) -> Tensor:
        self.seen.append(tuple(low_band.shape))
        if low_band.shape[0] * low_band.shape[-2] * low_band.shape[-1] > self.limit:
            raise self.error
        return make_iwt()(low_band)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory: you tried to allocate"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: not enough memory: you tried to allocate"),
    RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"),
    MemoryError(),
]


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from([TinyConv(), TinyConv(2, multiple=4), make_iwt(), make_bicubic(2), make_lanczos()]),
    st.integers(1, 50),
    st.integers(1, 50),
    st.integers(8, 24),
)
def test_tiled_equals_whole(decoder: Decoder, h: int, w: int, tile: int) -> None:
    low = torch.rand(2, 3, h, w, generator=torch.Generator().manual_seed(h * w))
    whole = decode(decoder, low)
    tiled = decode(decoder, low, tile=tile)
    assert whole.shape == (2, 3, h * decoder.info.scale, w * decoder.info.scale)
    torch.testing.assert_close(tiled, whole, atol=1e-5, rtol=0)  # the halo is complete: only rounding differs


@pytest.mark.parametrize("scale", [2, 4])
def test_networks_of_the_paper_tiled(scale: Literal[2, 4]) -> None:
    """Narrow ones with random weights; blocks as deep as the declared halo covers in full."""
    from nsbgan_infer.decoders.srresnet import SRResNet, SRResNetConfig
    from nsbgan_infer.decoders.subband import SubbandConfig, SubbandDecoder

    torch.manual_seed(0)
    low = torch.rand(1, 3, 50, 41)
    for decoder in (
        SRResNet(SRResNetConfig(blocks=4, channels=8, scale=scale)),
        SubbandDecoder(SubbandConfig(channels=8)),
    ):
        for parameter in decoder.parameters():
            parameter.data.normal_(0, 0.08)
        whole = decode(decoder.eval(), low)
        assert (whole - make_iwt(decoder.info.scale)(low)).abs().max() > 0.02  # the network takes part
        torch.testing.assert_close(decode(decoder, low, tile=12), whole, atol=GREY_LEVEL, rtol=0)


def test_without_enough_overlap_tiles_differ() -> None:
    """So the test above does see seams."""
    low = torch.rand(1, 3, 40, 40)
    decoder = TinyConv()
    difference = decode(decoder, low, tile=8, overlap=0) - decode(decoder, low)
    assert difference.abs().max() > GREY_LEVEL


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 90), st.integers(1, 40), st.integers(0, 20), st.sampled_from([1, 2, 4, 16]))
def test_weights_sum_to_one_everywhere(blocks: int, tile: int, margin: int, multiple: int) -> None:
    length = blocks * multiple
    info = DecoderInfo("x", "pixel", 4, "none", multiple=multiple)
    total = torch.zeros(4 * length, dtype=torch.float64)
    for start, stop, weights in _spans(length, tile, margin, info):
        assert start % multiple == stop % multiple == 0 and 0 <= start < stop <= length
        assert weights.min() >= 0
        total[4 * start : 4 * stop] += weights
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-12, rtol=0)


@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda e: f"{type(e).__name__}-{str(e)[:12]}")
def test_batches_are_halved_when_memory_runs_out(error: Exception) -> None:
    assert is_out_of_memory(error)
    decoder, low = SmallMemory(3 * 100, error), torch.rand(10, 3, 10, 10)
    torch.testing.assert_close(decode(decoder, low), make_iwt()(low), atol=0, rtol=0)
    assert [s[0] for s in decoder.seen] == [10, 5, 3, 3, 3, 1]  # nothing that was done is done again


def test_tiles_when_one_low_band_does_not_fit() -> None:
    decoder, low = SmallMemory(900, OUT_OF_MEMORY[0]), torch.rand(2, 3, 64, 40)
    torch.testing.assert_close(decode(decoder, low), make_iwt()(low), atol=1e-6, rtol=0)
    assert {s[0] for s in decoder.seen} == {1, 2} and max(s[-1] * s[-2] for s in decoder.seen[3:]) <= 900


def test_memory_that_never_suffices_is_an_error() -> None:
    low = torch.rand(1, 3, 32, 32)
    with pytest.raises(WorkError, match=r"step 4 \(decoder iwt\) on a 32 x 32 low band, and even"):
        decode(SmallMemory(10, OUT_OF_MEMORY[0]), low)
    whole = SmallMemory(10, OUT_OF_MEMORY[0], info=DecoderInfo("unet", "wavelet", 4, "none", halo=None))
    with pytest.raises(WorkError, match=r"unet.*must not be cut"):
        decode(whole, low)


def test_other_errors_pass_through() -> None:
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        decode(SmallMemory(10, RuntimeError("mat1 and mat2 shapes cannot be multiplied")), torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize("size", [(3, 5), (16, 16), (17, 31)])
def test_sides_are_extended_to_the_multiple_and_cropped_back(size: tuple[int, int]) -> None:
    decoder, low = TinyConv(multiple=16), torch.rand(1, 3, *size)
    assert decode(decoder, low).shape == (1, 3, 4 * size[0], 4 * size[1])
    assert all(h % 16 == w % 16 == 0 for _, _, h, w in decoder.seen)


def test_micro_batch_and_no_gradients() -> None:
    decoder, low = TinyConv(), torch.rand(5, 3, 12, 12, requires_grad=True)
    out = decode(decoder, low, micro_batch=2)
    assert [s[0] for s in decoder.seen] == [2, 2, 1] and not out.requires_grad
    torch.testing.assert_close(out, decoder(low).detach(), atol=1e-5, rtol=0)


def test_half_precision_keeps_its_type() -> None:
    low = torch.rand(1, 3, 20, 20).bfloat16()
    tiled = decode(make_iwt(), low, tile=8)
    assert tiled.dtype == torch.bfloat16
    torch.testing.assert_close(tiled, decode(make_iwt(), low), atol=0.01, rtol=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("tile", [None, 8])
def test_non_finite_values_name_the_step(bad: float, tile: int | None) -> None:
    low = torch.rand(2, 3, 16, 16)
    low[1, 0, 3, 3] = bad
    with pytest.raises(NonFiniteError, match=r"step 4 \(decoder iwt\).*input held some already"):
        decode(make_iwt(), low, tile=tile)
    decoder: Any = TinyConv()
    decoder.convs[0].weight.data[0, 0, 0, 0] = bad
    with pytest.raises(NonFiniteError, match=r"step 4 \(decoder tiny\).*input held none"):
        decode(decoder, low[:1], tile=tile)


def test_bad_arguments_are_one_sentence() -> None:
    low = torch.rand(1, 3, 16, 16)
    with pytest.raises(UsageError, match="must not be cut into tiles"):
        decode(TinyConv(halo=None), low, tile=16)
    with pytest.raises(UsageError, match="at least 8"):
        decode(TinyConv(), low, tile=4)
    with pytest.raises(UsageError, match="negative"):
        decode(TinyConv(), low, tile=8, overlap=-1)
    with pytest.raises(UsageError, match="at least one low band"):
        decode(TinyConv(), low, micro_batch=0)
    for shape in ((3, 16, 16), (1, 1, 16, 16), (0, 3, 16, 16)):
        with pytest.raises(UsageError, match="shape"):
            decode(TinyConv(), torch.zeros(shape))

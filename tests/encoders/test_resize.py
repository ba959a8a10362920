"""Resizing as the benchmark pairs were made: the pairs themselves, other programs away from the border, exactness."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from nsbgan_infer.encoders.resize import shrink, shrink_taps
from nsbgan_infer.errors import UsageError


def read(archive: zipfile.ZipFile, name: str) -> Tensor:
    pixels = np.array(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None]


@pytest.mark.parametrize("name", ["set5", "set14"])
def test_benchmark_pairs_come_out_bit_by_bit(shared_data: Path, name: str) -> None:
    with zipfile.ZipFile(shared_data / f"{name}-bicubic-x4.zip") as archive:
        large = sorted(n for n in archive.namelist() if n.startswith("hr/"))
        assert len(large) == {"set5": 5, "set14": 14}[name]
        differing = 0
        for member in large:
            want = read(archive, member.replace("hr/", "lr/"))
            got = shrink(read(archive, member).float() / 255, 4, eight_bits=True).mul(255).round().to(torch.uint8)
            differing += int((got != want).sum())
    assert differing == {"set5": 0, "set14": 0}[name]


@pytest.mark.parametrize("filter", ["bicubic", "bilinear"])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_equals_torch_and_pillow_away_from_the_border(scale: int, filter: str) -> None:
    picture = torch.rand(2, 3, 12 * scale, 15 * scale, dtype=torch.float64)
    ours = shrink(picture, scale, filter)
    theirs = torch.nn.functional.interpolate(picture, ours.shape[-2:], mode=filter, align_corners=False, antialias=True)
    assert torch.allclose(ours[..., 2:-2, 2:-2], theirs[..., 2:-2, 2:-2], atol=1e-12)
    one = Image.fromarray(picture[0, 0].numpy().astype(np.float32))
    pillow = np.array(
        one.resize((15, 12), {"bicubic": Image.Resampling.BICUBIC}.get(filter, Image.Resampling.BILINEAR))
    )
    assert np.allclose(ours[0, 0, 2:-2, 2:-2].numpy(), pillow[2:-2, 2:-2], atol=1e-6)


def test_taps_are_symmetric_and_sum_to_one() -> None:
    for scale, count in ((2, 8), (3, 9), (4, 16)):
        before, taps = shrink_taps("bicubic", scale)
        assert (
            sum(t != 0 for t in taps) == count and taps == pytest.approx(taps[::-1]) and sum(taps) == pytest.approx(1)
        )
        assert len(taps) == scale + 2 * before


@settings(max_examples=20, deadline=None)
@given(height=st.integers(1, 30), width=st.integers(1, 30), scale=st.integers(1, 5))
def test_any_size_keeps_greys_and_places(height: int, width: int, scale: int) -> None:
    """A flat grey stays, and far from the border a ramp is sampled at cell centres."""
    flat = shrink(torch.full((1, 3, height, width), 0.3, dtype=torch.float64), scale)
    assert flat.shape == (1, 3, -(-height // scale), -(-width // scale))
    assert torch.allclose(flat, torch.full_like(flat, 0.3))
    ramp = torch.arange(40.0 * scale, dtype=torch.float64).expand(1, 4, -1)
    places = scale * torch.arange(40, dtype=torch.float64) + (scale - 1) / 2
    assert torch.allclose(shrink(ramp, scale)[0, 0, 3:-3], places[3:-3])


def test_eight_bits_and_dtypes() -> None:
    picture = (torch.rand(1, 3, 16, 20) * 255).round() / 255
    low = shrink(picture, 4, eight_bits=True)
    assert low.dtype == torch.float32 and torch.equal((low * 255).round() / 255, low)
    assert (low - shrink(picture, 4)).abs().max() <= 1.2 / 255
    assert shrink(picture.bfloat16(), 2).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(shrink(picture, 4, eight_bits=True), low)
    picture.requires_grad_()
    shrink(picture, 4).sum().backward()
    assert picture.grad is not None and picture.grad.sum() == pytest.approx(3 * 4 * 5, rel=1e-5)
    with pytest.raises(UsageError, match="0 x 4"):
        shrink(torch.rand(1, 3, 0, 4), 2)

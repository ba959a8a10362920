"""The decoders without weights: registration, exactness on polynomials, agreement with independent resamplers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import RegularGridInterpolator
from torch import Tensor

from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.decoders.interpolate import make_bicubic, make_iwt, make_lanczos
from nsbgan_infer.encoders import PixelEncoder, WaveletEncoder
from nsbgan_infer.errors import UsageError

MAKERS = [make_iwt, make_bicubic, make_lanczos]


def encoder_for(decoder: Decoder) -> WaveletEncoder | PixelEncoder:
    levels = decoder.info.scale.bit_length() - 1
    return WaveletEncoder(levels) if decoder.info.basis == "wavelet" else PixelEncoder(levels)


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("make", MAKERS)
def test_a_ramp_comes_back_where_it_was(make: Any, scale: int) -> None:
    """Encoder and decoder agree on where a sample lies: 1.5 pixels of shift would be 0.0075 here (spec 8, row 7)."""
    decoder = make(scale=scale)
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(128.0), indexing="ij")
    ramp = (0.2 + 0.002 * x + 0.003 * y).expand(2, 3, 96, 128)
    back = decoder(encoder_for(decoder)(ramp))
    assert back.shape == ramp.shape
    inside = (..., slice(24, -24), slice(24, -24))
    tolerance = 6e-4 if make is make_lanczos else 1e-5  # Lanczos is not exact on ramps
    torch.testing.assert_close(back[inside], ramp[inside], atol=tolerance, rtol=0)


@pytest.mark.parametrize("make", MAKERS)
def test_samples_are_kept_at_the_corners(make: Any) -> None:
    """Interpolation: pixel (4k, 4l) is sample (k, l), at the border too."""
    low = torch.rand(2, 3, 9, 13, dtype=torch.float64)
    torch.testing.assert_close(make()(low)[..., ::4, ::4], low, atol=1e-12, rtol=0)


def test_bicubic_is_exact_on_quadratics() -> None:
    low = (torch.arange(16.0, dtype=torch.float64) ** 2).expand(1, 3, 16, 16)
    fine = make_bicubic()(low)[0, 0, 20, 8:52]
    torch.testing.assert_close(fine, (torch.arange(8, 52, dtype=torch.float64) / 4) ** 2, atol=1e-10, rtol=0)


def test_iwt_is_linear_interpolation() -> None:
    low = torch.rand(1, 1, 12, 10, dtype=torch.float64)
    reference = RegularGridInterpolator((np.arange(12), np.arange(10)), low[0, 0].numpy())
    i, j = np.meshgrid(np.arange(45) / 4, np.arange(37) / 4, indexing="ij")  # up to the last sample
    np.testing.assert_allclose(make_iwt()(low)[0, 0, :45, :37].numpy(), reference((i, j)), atol=1e-12)


def direct_lanczos(row: np.ndarray, position: float) -> float:
    """A weighted mean over six clamped neighbours, written from the definition of the window."""
    base = int(np.floor(position))
    index = np.arange(base - 2, base + 4)
    t = position - index
    weight = np.sinc(t) * np.sinc(t / 3) * (np.abs(t) < 3)
    return float((weight * row[index.clip(0, len(row) - 1)]).sum() / weight.sum())


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.sampled_from([2, 4, 8]))
def test_lanczos_equals_its_definition(seed: int, scale: int) -> None:
    row = np.random.default_rng(seed).random(11)
    low = torch.from_numpy(row).expand(1, 1, 8, 11)
    got = make_lanczos(scale)(low)[0, 0, 0].numpy()
    np.testing.assert_allclose(got, [direct_lanczos(row, i / scale) for i in range(11 * scale)], atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(MAKERS), st.floats(-0.5, 1.5), st.integers(8, 19), st.integers(8, 19), st.booleans())
def test_flat_stays_flat_and_axes_are_alike(make: Any, grey: float, h: int, w: int, half: bool) -> None:
    decoder = make()
    flat: Tensor = torch.full((1, 3, h, w), grey, dtype=torch.bfloat16 if half else torch.float32)
    out = decoder(flat)
    assert out.dtype == flat.dtype and out.shape == (1, 3, 4 * h, 4 * w)
    torch.testing.assert_close(out, torch.full_like(out, flat[0, 0, 0, 0].item()), atol=4e-3 if half else 1e-6, rtol=0)
    low = torch.rand(1, 3, h, w)
    torch.testing.assert_close(decoder(low.mT), decoder(low).mT, atol=1e-6, rtol=0)


@pytest.mark.parametrize("make", MAKERS)
def test_other_scales_are_refused(make: Any) -> None:
    with pytest.raises(UsageError, match="2, 4, 8 or 16"):
        make(scale=3)

"""The pixel encoder against scipy (Gaussian) and Pillow (antialiased resizes), and the plain contract."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.ndimage import gaussian_filter
from torch import Tensor

from nsbgan_infer.encoders import PixelEncoder, encoder_config, make_encoder
from nsbgan_infer.encoders.pixel import PixelFilter, gaussian_taps
from nsbgan_infer.errors import UsageError

seeds = st.integers(0, 2**31)


def picture(seed: int, h: int, w: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((1, 3, h, w)))


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(1, 2), st.integers(2, 12), st.integers(2, 12))
def test_gaussian_equals_scipy(seed: int, levels: int, a: int, b: int) -> None:
    """Smooth with sigma 0.4 s, cut at 4 sigma, mirror without repeating the edge, take pixels 0, s, 2s, ..."""
    scale = 2**levels
    x = picture(seed, 4 * a, 4 * b)
    smooth = gaussian_filter(x.numpy(), (0, 0, 0.4 * scale, 0.4 * scale), mode="mirror", truncate=4.0)
    got = PixelEncoder(levels)(x).numpy()
    np.testing.assert_allclose(got, smooth[..., ::scale, ::scale], atol=1e-6)  # the taps are float32


def test_gaussian_profile_of_the_authors() -> None:
    """Spec section 2: a delta smoothed by scipy, radius 6 for x4 and 3 for x2."""
    want = [0.24935, 0.20511, 0.11416, 0.04299, 0.01096, 0.00189, 0.00022]
    np.testing.assert_allclose(gaussian_taps(1.6)[6:].numpy(), want, atol=5e-6)
    np.testing.assert_allclose(gaussian_taps(0.8)[6:].numpy(), [0.49868, 0.22831, 0.02191, 0.00044, 0, 0, 0], atol=5e-6)
    assert gaussian_taps(1.6).sum().item() == pytest.approx(1)


@settings(max_examples=20, deadline=None)
@given(seeds, st.sampled_from(["bilinear", "bicubic"]), st.integers(1, 2), st.integers(2, 9), st.integers(2, 9))
def test_resizes_equal_pillow(seed: int, name: PixelFilter, levels: int, a: int, b: int) -> None:
    scale = 2**levels
    x = picture(seed, 4 * a, 4 * b).float()
    image = Image.fromarray(x[0, 0].numpy(), mode="F")
    method = Image.Resampling[name.upper()]
    want = np.asarray(image.resize((4 * b // scale, 4 * a // scale), method))
    np.testing.assert_allclose(PixelEncoder(levels, name)(x)[0, 0].numpy(), want, atol=2e-6)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(["gaussian", "bilinear", "bicubic"]), st.floats(0, 1), st.integers(1, 3), st.data())
def test_any_size_and_flat_stays_flat(name: PixelFilter, grey: float, levels: int, data: st.DataObject) -> None:
    h, w = data.draw(st.integers(7, 40)), data.draw(st.integers(7, 40))
    flat = torch.full((2, 3, h, w), grey)
    low = PixelEncoder(levels, name)(flat)
    assert low.shape == (2, 3, -(-h // 2**levels), -(-w // 2**levels))
    torch.testing.assert_close(low, torch.full_like(low, grey), atol=2e-6, rtol=0)


def test_samples_lie_at_the_corners_of_the_cells() -> None:
    """A ramp sampled at 0, 4, 8, ... : value 4k, where the antialiased resizes see 4k + 1.5."""
    ramp = torch.arange(64.0).expand(1, 3, 64, 64)
    want = 4 * torch.arange(3, 13).float()
    torch.testing.assert_close(PixelEncoder(2)(ramp)[0, 0, 8, 3:13], want, atol=1e-4, rtol=0)
    torch.testing.assert_close(PixelEncoder(2, "bicubic")(ramp)[0, 0, 8, 3:13], want + 1.5, atol=1e-4, rtol=0)


def test_keeps_dtype_and_gradients_and_compiles() -> None:
    x = torch.rand(1, 3, 16, 24)
    assert PixelEncoder(2)(x.bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(PixelEncoder(2)(x.bfloat16()).float(), PixelEncoder(2)(x), atol=0.02, rtol=0)
    assert torch.autograd.gradcheck(PixelEncoder(1), picture(0, 8, 9)[:, :1].requires_grad_())
    compiled = torch.compile(PixelEncoder(2).__call__, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), PixelEncoder(2)(x), atol=1e-6, rtol=0)


def test_bad_arguments_are_one_sentence() -> None:
    with pytest.raises(UsageError, match="Unknown pixel filter 'box'"):
        PixelEncoder(2, "box")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="at least one level"):
        PixelEncoder(0)
    with pytest.raises(UsageError, match="at least 7 pixels a side, got 4 x 40"):
        PixelEncoder(2)(torch.zeros(1, 3, 4, 40))
    encoder = PixelEncoder(1, "bicubic")
    assert make_encoder(encoder_config(encoder)) == encoder

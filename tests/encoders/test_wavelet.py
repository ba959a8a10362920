"""The wavelet encoder over several levels: pywt's multilevel transform, pyramids, sizes, gain, the plain contract."""

from __future__ import annotations

import numpy as np
import pytest
import pywt
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nsbgan_infer.encoders import WaveletEncoder, encoder_config, make_encoder
from nsbgan_infer.encoders.lifting import Boundary
from nsbgan_infer.errors import CheckpointError, UnknownNameError, UsageError

COVERS = ["encoders", "encoders.base", "encoders.table"]

boundaries = st.sampled_from(["symmetric", "zero"])
seeds = st.integers(0, 2**31)


def picture(seed: int, h: int, w: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((2, 3, h, w)))


def pywt_levels(x: np.ndarray, levels: int, mode: str) -> np.ndarray:
    """The low band after `levels` pywt transforms, each cropped to half, divided by 2^levels."""
    for _ in range(levels):
        h, w = x.shape[-2:]
        x = pywt.dwt2(x, "bior2.2", mode=mode)[0][..., 1 : 1 + h // 2, 1 : 1 + w // 2]
    return x / 2**levels


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), boundaries)
def test_equals_pywt_at_every_level(seed: int, levels: int, a: int, b: int, boundary: Boundary) -> None:
    x = picture(seed, 2 * a * 2**levels, 2 * b * 2**levels)
    low = WaveletEncoder(levels, boundary)(x)
    want = pywt_levels(x.numpy(), levels, "reflect" if boundary == "symmetric" else "zero")
    np.testing.assert_allclose(low.numpy(), want, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seeds, st.integers(1, 4), st.integers(1, 67), st.integers(1, 67))
def test_any_size_comes_back(seed: int, levels: int, h: int, w: int) -> None:
    x, encoder = picture(seed, h, w), WaveletEncoder(levels)
    pyramid = encoder.pyramid(x)
    assert pyramid.low.shape == (2, 3, -(-h // 2**levels), -(-w // 2**levels))
    assert [d.shape[-1] for d in pyramid.details] == [pyramid.low.shape[-1] * 2**k for k in reversed(range(levels))]
    torch.testing.assert_close(pyramid.low, encoder(x), atol=0, rtol=0)
    torch.testing.assert_close(encoder.inverse(pyramid), x, atol=1e-12, rtol=0)


@settings(max_examples=20, deadline=None)
@given(st.floats(-1, 2), st.integers(1, 4), st.integers(1, 40), st.integers(1, 40))
def test_flat_stays_flat(grey: float, levels: int, h: int, w: int) -> None:
    flat = torch.full((1, 3, h, w), grey, dtype=torch.float64)
    low = WaveletEncoder(levels)(flat)
    torch.testing.assert_close(low, torch.full_like(low, grey), atol=1e-12, rtol=0)
    back = WaveletEncoder(levels).enlarge(low)
    torch.testing.assert_close(back, torch.full_like(back, grey), atol=1e-12, rtol=0)


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(1, 3), boundaries)
def test_low_bands_compose(seed: int, levels: int, boundary: Boundary) -> None:
    """Level by level or at once: the same, which is why a TL-1 of 128 and a TL-2 of 256 share one convention."""
    x = picture(seed, 32, 48)
    low = x
    for _ in range(levels):
        low = WaveletEncoder(1, boundary)(low)
    torch.testing.assert_close(WaveletEncoder(levels, boundary)(x), low, atol=0, rtol=0)


def test_authors_figures() -> None:
    """Spec 1.4: a white picture under boundary zero gives 2.44 to 5.35 at TL-2, and 0.08 to 1.34 after the way back."""
    low = WaveletEncoder(2, "zero")(torch.ones(1, 3, 256, 256, dtype=torch.float64))
    assert [round(v, 2) for v in (4 * low.min().item(), 4 * low.max().item())] == [2.44, 5.35]
    back = WaveletEncoder(2, "zero").enlarge(low)
    assert [round(v, 2) for v in (back.min().item(), back.max().item())] == [0.08, 1.34]


def test_enlarging_is_linear_interpolation_at_the_corners() -> None:
    low = picture(3, 9, 11)
    got = WaveletEncoder(2).enlarge(low)
    extended = F.pad(low, (0, 1, 0, 1), mode="replicate")
    want = F.interpolate(extended, (37, 45), mode="bilinear", align_corners=True)[..., :36, :44]
    torch.testing.assert_close(got, want, atol=1e-12, rtol=0)


def test_range_of_the_low_band() -> None:
    """Spec 1.3: TL-2 of any picture in [0, 1] lies in [-3.28125, 7.28125], and the bounds are sharp."""
    impulse = torch.zeros(1, 1, 64, 64, dtype=torch.float64, requires_grad=True)
    (weights,) = torch.autograd.grad(WaveletEncoder(2)(impulse)[0, 0, 8, 8], impulse)
    assert 4 * weights.clamp(max=0).sum().item() == pytest.approx(-3.28125)
    assert 4 * weights.clamp(min=0).sum().item() == pytest.approx(7.28125)


def test_keeps_dtype_and_gradients() -> None:
    for dtype in (torch.float32, torch.bfloat16):
        assert WaveletEncoder()(torch.rand(1, 3, 16, 16, dtype=dtype)).dtype == dtype
    x = picture(0, 7, 9)[:1, :1].requires_grad_()
    assert torch.autograd.gradcheck(WaveletEncoder(2), x)


@pytest.mark.parametrize("boundary", ["symmetric", "zero"])
def test_compiles_without_graph_breaks(boundary: Boundary) -> None:
    encoder = WaveletEncoder(2, boundary)
    x = torch.rand(1, 3, 16, 24)
    compiled = torch.compile(encoder.__call__, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(x), encoder(x), atol=1e-6, rtol=0)


def test_settings_are_checked_and_written_down() -> None:
    with pytest.raises(UsageError, match="at least one level, got 0"):
        WaveletEncoder(0)
    with pytest.raises(UsageError, match="Unknown boundary 'x'"):
        WaveletEncoder(1, "x")  # type: ignore[arg-type]
    encoder = WaveletEncoder(3, "zero")
    assert make_encoder(encoder_config(encoder)) == encoder
    with pytest.raises(UnknownNameError, match="did you mean wavelet"):
        make_encoder({"basis": "wavelets"})
    with pytest.raises(CheckpointError, match="Unknown encoder setting 'filter'"):
        make_encoder({"basis": "wavelet", "filter": "gaussian"})

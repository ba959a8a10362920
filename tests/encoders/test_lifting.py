"""One lifting level against pywt, in both boundaries, and what must hold for any picture."""

from __future__ import annotations

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nsbgan_infer.encoders.lifting import Boundary, dwt2, idwt2
from nsbgan_infer.errors import UsageError

PYWT_MODE = {"symmetric": "reflect", "zero": "zero"}  # pywt calls whole-sample symmetry `reflect`
sizes = st.integers(2, 17).map(lambda k: 2 * k)
boundaries = st.sampled_from(["symmetric", "zero"])
seeds = st.integers(0, 2**31)


def picture(seed: int, h: int, w: int, batch: int = 1) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).random((batch, 3, h, w)))


def pywt_bands(x: np.ndarray, boundary: str) -> tuple[np.ndarray, ...]:
    """cA, cH, cV, cD of pywt, cropped to n/2, with its gain of 2."""
    low, details = pywt.dwt2(x, "bior2.2", mode=PYWT_MODE[boundary])
    keep = (..., slice(1, 1 + x.shape[-2] // 2), slice(1, 1 + x.shape[-1] // 2))
    return tuple(band[keep] for band in (low, *details))


@settings(max_examples=40, deadline=None)
@given(seeds, sizes, sizes, boundaries)
def test_equals_pywt(seed: int, h: int, w: int, boundary: Boundary) -> None:
    x = picture(seed, h, w)
    low, details = dwt2(x, boundary)
    want = pywt_bands(x.numpy(), boundary)
    assert low.shape == (1, 3, h // 2, w // 2) and details.shape == (1, 3, 3, h // 2, w // 2)
    for got, reference in zip((low, *details.unbind(-4)), want, strict=True):
        np.testing.assert_allclose(2 * got.numpy(), reference, atol=1e-12)


@settings(max_examples=40, deadline=None)
@given(seeds, sizes, sizes)
def test_symmetric_is_exactly_invertible_both_ways(seed: int, h: int, w: int) -> None:
    x = picture(seed, h, w)
    torch.testing.assert_close(idwt2(*dwt2(x)), x, atol=1e-13, rtol=0)
    low, details = picture(seed, h, w), picture(seed + 1, h, w, batch=3)[None]
    again, details_again = dwt2(idwt2(low, details))
    torch.testing.assert_close(again, low, atol=1e-13, rtol=0)
    torch.testing.assert_close(details_again, details, atol=1e-13, rtol=0)


@settings(max_examples=30, deadline=None)
@given(seeds, sizes, sizes)
def test_zero_inverse_equals_pywt_on_the_cropped_bands(seed: int, h: int, w: int) -> None:
    """The authors' inverse (a transposed convolution, cropped) = pywt's, with zeros where bands were cropped away."""
    x = picture(seed, h, w)
    low, details = dwt2(x, "zero")
    bands = [2 * b.numpy() for b in (low, *details.unbind(-4))]
    padded = [np.pad(b, [(0, 0), (0, 0), (1, 1), (1, 1)]) for b in bands]
    full = pywt.idwt2((padded[0], tuple(padded[1:])), "bior2.2", mode="zero")
    back = idwt2(low, details, "zero").numpy()
    np.testing.assert_allclose(back, full[..., :h, :w], atol=1e-12)
    if min(h, w) > 6:  # exact but for rows and columns 0, 1 and n - 1
        np.testing.assert_allclose(back[..., 2:-1, 2:-1], x[..., 2:-1, 2:-1].numpy(), atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(seeds, sizes, sizes, boundaries)
def test_no_details_means_zero_details(seed: int, h: int, w: int, boundary: Boundary) -> None:
    low = picture(seed, h, w)
    zeros = low.new_zeros(1, 3, 3, h, w)
    torch.testing.assert_close(idwt2(low, None, boundary), idwt2(low, zeros, boundary), atol=1e-14, rtol=0)


@settings(max_examples=30, deadline=None)
@given(seeds, sizes, sizes, boundaries, st.floats(-3, 3))
def test_linear_and_alike_along_both_axes(seed: int, h: int, w: int, boundary: Boundary, factor: float) -> None:
    x, y = picture(seed, h, w), picture(seed + 1, h, w)
    both, one, other = (
        torch.cat((low[:, None], details), dim=1)
        for low, details in (dwt2(factor * x + y, boundary), dwt2(x, boundary), dwt2(y, boundary))
    )
    torch.testing.assert_close(both, factor * one + other, atol=1e-12, rtol=0)
    low, details = dwt2(x, boundary)
    turned_low, turned = dwt2(x.mT, boundary)
    torch.testing.assert_close(turned_low, low.mT, atol=1e-12, rtol=0)
    torch.testing.assert_close(turned, details[:, [1, 0, 2]].mT, atol=1e-12, rtol=0)  # cH and cV change places


def test_names_of_the_details() -> None:
    """cH answers to change along height (horizontal edges), cV to change along width, cD to both."""
    rows = torch.zeros(1, 1, 16, 16)
    rows[:, :, 1::2] = 1
    for x, loud in ((rows, 0), (rows.mT, 1), ((rows - 0.5) * (rows.mT - 0.5), 2)):
        energy = dwt2(x)[1].square().sum(dim=(0, 2, 3, 4))
        assert energy.argmax() == loud and energy[loud] > 10 * (energy.sum() - energy[loud])


def test_differentiable() -> None:
    x = picture(0, 6, 8)[:, :1].requires_grad_()
    for boundary in ("symmetric", "zero"):
        assert torch.autograd.gradcheck(lambda t, b=boundary: dwt2(t, b), x)
        assert torch.autograd.gradcheck(lambda t, b=boundary: idwt2(*dwt2(t, b), b), x)
    assert torch.autograd.gradcheck(lambda t: idwt2(t, None), x)


@pytest.mark.parametrize("boundary", ["symmetric", "zero"])
def test_bfloat16_stays_near(boundary: Boundary) -> None:
    x = picture(1, 16, 16)
    low, details = dwt2(x.bfloat16(), boundary)
    assert low.dtype == details.dtype == torch.bfloat16
    torch.testing.assert_close(low.double(), dwt2(x, boundary)[0], atol=0.02, rtol=0)
    torch.testing.assert_close(
        idwt2(low, details, boundary).double()[..., 2:-1, 2:-1], x[..., 2:-1, 2:-1], atol=0.04, rtol=0
    )


def test_bad_arguments_are_one_sentence() -> None:
    with pytest.raises(UsageError, match="even sizes, got 7 x 8"):
        dwt2(torch.zeros(1, 3, 7, 8))
    with pytest.raises(UsageError, match="even sizes, got 8 x 9"):
        dwt2(torch.zeros(1, 3, 8, 9))
    with pytest.raises(UsageError, match="Unknown boundary 'mirror'"):
        dwt2(torch.zeros(1, 3, 8, 8), "mirror")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="Unknown boundary"):
        idwt2(torch.zeros(1, 3, 8, 8), None, "periodic")  # type: ignore[arg-type]

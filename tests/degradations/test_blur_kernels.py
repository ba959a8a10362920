"""Kernels against closed forms: sum, widths, directions, heights and frequency responses."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nsbgan_infer.degradations.blur_kernels import filter_picture, gaussian_kernel, plateau_kernel, sinc_kernel
from nsbgan_infer.errors import UsageError


def moments(kernel: torch.Tensor) -> torch.Tensor:
    """The (2, 2) matrix of second moments about the centre, x first."""
    steps = torch.arange(len(kernel), dtype=torch.float64) - len(kernel) // 2
    x, y = steps[None, :], steps[:, None]
    k = kernel.double()
    return torch.stack(
        [torch.stack([(k * x * x).sum(), (k * x * y).sum()]), torch.stack([(k * x * y).sum(), (k * y * y).sum()])]
    )


@given(
    size=st.integers(0, 12).map(lambda n: 2 * n + 1),
    first=st.floats(0.2, 4),
    second=st.floats(0.2, 4),
    angle=st.floats(0, math.pi),
    beta=st.floats(0.5, 4),
)
@settings(deadline=None, max_examples=60)
def test_every_kernel_has_sum_one_and_is_its_own_half_turn(
    size: int, first: float, second: float, angle: float, beta: float
) -> None:
    for kernel in (
        gaussian_kernel(size, (first, second), angle, beta),
        plateau_kernel(size, (first, second), angle, beta),
        sinc_kernel(size, max(first, 0.5) * math.pi / 4),
    ):
        assert kernel.shape == (size, size) and kernel.dtype == torch.float32
        assert float(kernel.double().sum()) == pytest.approx(1, abs=1e-5)
        assert torch.allclose(kernel, kernel.flip(0, 1), atol=1e-7)


@pytest.mark.parametrize("sigma", [0.8, 1.5, 3.0])
def test_a_gaussian_has_the_width_that_is_asked_for(sigma: float) -> None:
    found = moments(gaussian_kernel(41, (sigma, sigma)))
    assert torch.allclose(found, torch.eye(2, dtype=torch.float64) * sigma**2, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 2, 2.5])
def test_a_stretched_gaussian_has_both_widths_along_its_axes(angle: float) -> None:
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]], dtype=torch.float64)
    want = turn @ torch.diag(torch.tensor([9.0, 1.0], dtype=torch.float64)) @ turn.T
    assert torch.allclose(moments(gaussian_kernel(51, (3.0, 1.0), angle)), want, atol=2e-3)


@pytest.mark.parametrize("beta", [0.7, 1.0, 2.0, 4.0])
def test_a_generalised_gaussian_has_the_variance_of_its_closed_form(beta: float) -> None:
    want = 36 * 2 ** (1 / beta) * math.gamma(2 / beta) / (2 * math.gamma(1 / beta))
    found = moments(gaussian_kernel(241, (6.0, 6.0), beta=beta))
    assert float(found[0, 0]) == pytest.approx(want, rel=0.01)


def test_a_plateau_has_the_variance_of_its_closed_form_and_falls_to_a_half_at_sigma() -> None:
    """The integral of t / (1 + t^b) over that of 1 / (1 + t^b) is 1 / (2 cos(pi / b)), half of it along each axis."""
    found = moments(plateau_kernel(161, (5.0, 5.0), beta=4.0))
    assert float(found[0, 0]) == pytest.approx(25 / (4 * math.cos(math.pi / 4)), rel=0.01)
    kernel = plateau_kernel(21, (3.0, 3.0), beta=1.5)
    assert float(kernel[10, 13] / kernel[10, 10]) == pytest.approx(0.5, abs=1e-6)


def test_a_sinc_filter_passes_what_is_below_its_cutoff_and_stops_what_is_above() -> None:
    kernel = sinc_kernel(101, math.pi / 2).double()
    steps = torch.arange(101, dtype=torch.float64) - 50
    for frequency, low, high in ((0.0, 0.999, 1.001), (math.pi / 4, 0.95, 1.05), (3 * math.pi / 4, -0.05, 0.05)):
        response = float((kernel * torch.cos(frequency * steps)[None, :]).sum())
        assert low < response < high
    assert float(sinc_kernel(21, 1.0).min()) < 0  # it rings


def test_filtering_keeps_size_brightness_and_place() -> None:
    flat = torch.full((3, 13, 9), 0.3)
    assert torch.allclose(filter_picture(flat, gaussian_kernel(21, (2.0, 2.0))), flat, atol=1e-6)  # wider than it
    dot = torch.zeros(3, 31, 31)
    dot[:, 12, 17] = 1
    kernel = gaussian_kernel(9, (2.0, 1.0), 0.5)
    assert torch.allclose(filter_picture(dot, kernel)[1, 8:17, 13:22], kernel, atol=1e-7)


def test_kernels_that_would_move_a_picture_or_have_no_width_are_refused() -> None:
    with pytest.raises(UsageError, match="odd side"):
        gaussian_kernel(8, (1.0, 1.0))
    with pytest.raises(UsageError, match="positive"):
        plateau_kernel(9, (1.0, 0.0))

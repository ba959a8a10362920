"""Layers computed by strips of rows against the same layers computed at once."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nsbgan_infer.samplers.strips import ROWS, by_strips


def layers(seed: int) -> nn.Sequential:
    """Twice the height, reach 2: a transposed convolution and two of 3 x 3, as a block of BigGAN-deep ends."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(
            nn.ConvTranspose2d(3, 4, 4, 2, 1), nn.ReLU(), nn.Conv2d(4, 4, 3, padding=1), nn.ReLU(),
            nn.Conv2d(4, 3, 3, padding=1),
        )  # fmt: skip
    return net.double().eval()


@given(st.integers(1, 4 * ROWS + 5), st.integers(1, 3), st.integers(0, 9))
def test_strips_equal_the_whole(height: int, batch: int, seed: int) -> None:
    x = torch.randn(batch, 3, height, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        torch.testing.assert_close(by_strips(layers(seed), x, times=2, reach=2), layers(seed)(x), rtol=0, atol=1e-12)


def test_a_reach_too_short_is_seen() -> None:
    x = torch.randn(1, 3, 2 * ROWS, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        difference = (by_strips(layers(0), x, times=2, reach=1) - layers(0)(x)).abs()
    assert difference[:, :, 2 * ROWS - 3 : 2 * ROWS + 3].max() > 1e-6


def test_with_gradients_all_rows_are_computed_at_once() -> None:
    seen: list[int] = []

    def work(x: Tensor) -> Tensor:
        seen.append(x.shape[2])
        return x

    by_strips(work, torch.zeros(1, 1, 3 * ROWS, 1), times=1, reach=2)
    with torch.no_grad():
        by_strips(work, torch.zeros(1, 1, 3 * ROWS, 1), times=1, reach=2)
    assert seen == [3 * ROWS, ROWS + 2, ROWS + 4, ROWS + 2]

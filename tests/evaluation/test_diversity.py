"""Sliced Wasserstein distance against its closed form, MS-SSIM against scikit-image's parts and by hand."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from nsbgan_infer.errors import UsageError
from nsbgan_infer.evaluation.diversity import (
    WEIGHTS,
    PatchSets,
    laplacian_pyramid,
    mean_ms_ssim,
    ms_ssim,
    sliced_wasserstein,
    swd,
)
from nsbgan_infer.evaluation.scores import picture_keys


def pictures(n: int, size: int, seed: int) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    small = torch.rand(n, 3, size // 4, size // 4, generator=g)
    large = torch.nn.functional.interpolate(small, (size, size), mode="bilinear")
    return (255 * large).round().to(torch.uint8)


def sets(p: Tensor, limit: int = 100, batch: int = 5) -> PatchSets:
    out = PatchSets(limit)
    for start in range(0, len(p), batch):
        part = p[start : start + batch]
        out.update(part, picture_keys(part))
    return out


def test_a_shift_moves_projections_by_its_length_on_average() -> None:
    d, step = 147, 3.0
    a = torch.randn(50, d, generator=torch.Generator().manual_seed(1))
    shift = torch.zeros(d)
    shift[4] = step
    # E |w_4| of a random unit vector in d dimensions is about sqrt(2 / (pi d))
    expected = step * math.sqrt(2 / (math.pi * d))
    assert sliced_wasserstein(a, a + shift) == pytest.approx(expected, rel=0.1)
    assert sliced_wasserstein(a, a) == 0
    assert sliced_wasserstein(a, a[torch.randperm(50)]) == pytest.approx(0, abs=1e-6)
    with pytest.raises(UsageError, match="one size"):
        sliced_wasserstein(a, a[:40])


def test_equals_scipys_one_dimensional_distance() -> None:
    from scipy.stats import wasserstein_distance

    a, b = (torch.randn(200, 1, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    expected = wasserstein_distance(a[:, 0].numpy(), b[:, 0].numpy() + 0.4)
    assert sliced_wasserstein(a, b + 0.4) == pytest.approx(expected, rel=0.3)  # directions are +1 and -1 only
    assert sliced_wasserstein(a, b + 0.4, directions=64) == pytest.approx(expected, rel=1e-5)


def test_the_pyramid_sums_up_to_the_picture_and_flat_pictures_have_no_details() -> None:
    levels = laplacian_pyramid(pictures(2, 64, 1).float())
    assert [level.shape[-1] for level in levels] == [64, 32, 16]
    flat = laplacian_pyramid(torch.full((1, 3, 64, 64), 77.0))
    assert max(float(level.abs().max()) for level in flat[:-1]) < 1e-3
    assert torch.allclose(flat[-1], torch.tensor(77.0))


def test_swd_is_small_for_one_distribution_and_large_for_another() -> None:
    real, same = pictures(16, 64, 1), pictures(16, 64, 2)
    noise = torch.randint(0, 256, (16, 3, 64, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
    near, far = swd(sets(same), sets(real)), swd(sets(noise), sets(real))
    assert set(near) == {"64", "32", "16", "mean"}
    assert near["mean"] == pytest.approx(np.mean([near["64"], near["32"], near["16"]]))
    assert near["64"] * 2 < far["64"]
    assert near["mean"] < far["mean"]
    assert swd(sets(real), sets(real))["mean"] == 0


def test_patches_forget_order_and_batch_size() -> None:
    p = pictures(30, 32, 4)
    mixed = p[torch.randperm(30, generator=torch.Generator().manual_seed(1))]
    one, other = sets(p, limit=12), sets(mixed, limit=12, batch=1)
    assert one.n == other.n == 12
    assert torch.allclose(one.level(0), other.level(0), atol=1e-3)
    with pytest.raises(UsageError, match="one size"):
        swd(one, sets(pictures(3, 64, 1)))


def test_ms_ssim_follows_its_definition_with_scikit_images_parts() -> None:
    a, b = pictures(1, 192, 5).double(), pictures(1, 192, 6).double()
    b = (0.7 * a + 0.3 * b).round()
    expected, x, y = 1.0, a, b
    for scale, weight in enumerate(WEIGHTS):
        values = []
        for c in range(3):
            pair = (x[0, c].numpy(), y[0, c].numpy())
            options: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
            # K1 so large that the luminance term is 1 leaves contrast and structure
            options |= {} if scale == 4 else {"K1": 1e6}
            values.append(structural_similarity(pair[0], pair[1], data_range=255, **options))
        expected *= np.mean(values) ** weight
        x, y = (torch.nn.functional.avg_pool2d(t, 2) for t in (x, y))
    assert float(ms_ssim(a, b)) == pytest.approx(expected, rel=1e-6)


def test_ms_ssim_of_equal_pictures_is_one_at_small_sizes_too() -> None:
    for size in (32, 64):
        p = pictures(2, size, 7).float()
        assert ms_ssim(p, p).tolist() == pytest.approx([1, 1])
    with pytest.raises(UsageError, match="at least 32"):
        ms_ssim(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16))


def test_pairs_stay_within_their_class() -> None:
    base = pictures(2, 32, 8)
    stack = base.repeat(3, 1, 1, 1)  # class 0: three copies of one picture, class 1: of another
    result = mean_ms_ssim(stack, [0, 1, 0, 1, 0, 1])
    assert (result.pairs, result.within) == (6, "class")
    assert result.mean == pytest.approx(1)
    unlabelled = mean_ms_ssim(stack, [None] * 6)
    assert (unlabelled.pairs, unlabelled.within) == (15, "all")
    assert unlabelled.mean < 0.95
    assert mean_ms_ssim(stack, [None] * 6, pairs=4).pairs == 4
    with pytest.raises(UsageError, match="no class has two"):
        mean_ms_ssim(base, [0, 1])

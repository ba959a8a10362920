"""The Frechet distance against closed forms and torch-fidelity, and moments that forget order and batch size."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nsbgan_infer.errors import UsageError
from nsbgan_infer.evaluation.frechet import Moments, frechet_distance, gaussian_distance


def features(n: int, d: int, seed: int, *, shift: float = 0.0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    mix = torch.randn(d, d, generator=g) / d**0.5
    return (torch.randn(n, d, generator=g) @ mix).relu() + shift


def moments_of(x: Tensor, batch: int = 7) -> Moments:
    moments = Moments(x.shape[1])
    for part in x.split(batch):
        moments.update(part)
    return moments


def test_known_gaussians() -> None:
    mean, eye = torch.zeros(3).double(), torch.eye(3).double()
    assert gaussian_distance(mean, eye, mean, eye) == pytest.approx(0, abs=1e-12)
    assert gaussian_distance(mean, eye, mean + 2, eye) == pytest.approx(12)  # |m1 - m2|^2
    assert gaussian_distance(mean, 4 * eye, mean, 9 * eye) == pytest.approx(3)  # 3 (3 - 2)^2
    a, b = torch.tensor([1.0, 4, 9]).double(), torch.tensor([16.0, 4, 1]).double()
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(0)).double())[0]
    expected = float((a.sqrt() - b.sqrt()).square().sum())  # commuting covariances
    found = gaussian_distance(mean, turn @ a.diag() @ turn.T, mean, turn @ b.diag() @ turn.T)
    assert found == pytest.approx(expected)


def test_covariances_that_do_not_commute_follow_the_general_root() -> None:
    from scipy.linalg import sqrtm

    a, b = (torch.cov(features(50, 6, s).T.double()) for s in (1, 2))
    zero = torch.zeros(6).double()
    expected = float(a.trace() + b.trace()) - 2 * sqrtm((a @ b).numpy()).real.trace()
    assert gaussian_distance(zero, a, zero, b) == pytest.approx(expected, rel=1e-9)


def test_singular_covariances_are_fine() -> None:
    x = features(5, 20, 3)  # rank 4
    a = moments_of(x)
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a, moments_of(x + 1)) == pytest.approx(20, rel=1e-6)


def test_equals_torch_fidelity_on_the_same_features() -> None:
    fid = pytest.importorskip("torch_fidelity.metric_fid")
    a, b = features(300, 24, 4).double(), features(250, 24, 5, shift=0.1).double()
    stats = [fid.fid_features_to_statistics(x) for x in (a, b)]
    expected = fid.fid_statistics_to_metric(*stats, verbose=False)["frechet_inception_distance"]
    assert frechet_distance(moments_of(a), moments_of(b)) == pytest.approx(expected, rel=1e-8)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), batch=st.integers(1, 40))
def test_order_and_batch_size_do_not_matter(seed: int, batch: int) -> None:
    x, y = features(40, 8, seed), features(30, 8, seed + 1)
    shuffled = x[torch.randperm(40, generator=torch.Generator().manual_seed(seed))]
    one = frechet_distance(moments_of(x), moments_of(y))
    other = frechet_distance(moments_of(shuffled, batch), moments_of(y, 1))
    assert one == pytest.approx(other, abs=1e-6)
    assert one == pytest.approx(frechet_distance(moments_of(y), moments_of(x)), abs=1e-6)


def test_one_picture_is_too_few() -> None:
    with pytest.raises(UsageError, match="at least 2"):
        frechet_distance(moments_of(features(1, 4, 1)), moments_of(features(9, 4, 1)))

"""Scores against closed forms and torch-fidelity, and their indifference to order and batch size."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from nsbgan_infer.errors import UsageError
from nsbgan_infer.evaluation.scores import (
    InceptionScore,
    Pool,
    kernel_distance,
    picture_keys,
    precision_recall,
)


def rand(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def score_of(logits: Tensor, *, splits: int = 1, batch: int = 9) -> InceptionScore:
    score = InceptionScore(splits)
    for start in range(0, len(logits), batch):
        part = logits[start : start + batch]
        score.update(part, [hash(float(row[0])) & (2**63 - 1) for row in part])
    return score


def test_one_hot_scores_the_number_of_classes_and_uniform_scores_one() -> None:
    one_hot = 1e4 * torch.eye(12).repeat(5, 1)
    assert score_of(one_hot).result().mean == pytest.approx(12)
    assert score_of(torch.zeros(60, 12)).result().mean == pytest.approx(1)
    assert score_of(1e4 * torch.eye(12)[torch.zeros(60, dtype=torch.long)]).result().mean == pytest.approx(1)


def test_equals_torch_fidelity_on_the_same_logits() -> None:
    isc = pytest.importorskip("torch_fidelity.metric_isc")
    logits = 3 * rand(200, 30)
    expected = isc.isc_features_to_metric(logits, splits=1, shuffle=False)
    assert score_of(logits).result().mean == pytest.approx(expected["inception_score_mean"], rel=1e-9)


def test_ten_splits_are_the_mean_over_splits_in_any_order() -> None:
    isc = pytest.importorskip("torch_fidelity.metric_isc")
    logits = 3 * rand(200, 30)
    keys = [int(k) for k in torch.randint(2**62, (200,), generator=torch.Generator().manual_seed(5))]
    expected = [
        isc.isc_features_to_metric(logits[[i for i, k in enumerate(keys) if k % 10 == s]], splits=1, shuffle=False)
        for s in range(10)
    ]
    values = [e["inception_score_mean"] for e in expected]
    score = InceptionScore(10)
    for i in torch.randperm(200, generator=torch.Generator().manual_seed(1)).tolist():
        score.update(logits[i : i + 1], [keys[i]])
    result = score.result()
    assert result.mean == pytest.approx(np.mean(values), rel=1e-9)
    assert result.deviation == pytest.approx(np.std(values), rel=1e-9)
    with pytest.raises(UsageError, match="no pictures"):
        InceptionScore().result()


def test_kid_equals_torch_fidelity_on_whole_sets() -> None:
    kid = pytest.importorskip("torch_fidelity.metric_kid")
    a, b = rand(80, 16), 1.2 * rand(80, 16, seed=1) + 0.1
    expected = kid.kid_features_to_metric(a.double(), b.double(), kid_subsets=1, kid_subset_size=80, verbose=False)
    found = kernel_distance(a, b, subsets=1, size=80)
    assert found.mean == pytest.approx(expected["kernel_inception_distance_mean"], rel=1e-9)


def test_kid_is_unbiased_and_grows_with_the_shift() -> None:
    a, b = rand(400, 8), rand(400, 8, seed=2)
    assert abs(kernel_distance(a, b, subsets=20, size=100).mean) < 0.1
    assert kernel_distance(a, b + 2, subsets=20, size=100).mean > 10
    with pytest.raises(UsageError, match="at least 2"):
        kernel_distance(a[:1], b)


def test_precision_and_recall_equal_torch_fidelity() -> None:
    prc = pytest.importorskip("torch_fidelity.metric_prc")
    fake, real = 0.7 * rand(60, 5), rand(90, 5, seed=3)
    expected = prc.calculate_precision_recall_full(fake, real, neighborhood=3)
    assert precision_recall(fake, real) == pytest.approx(expected)
    assert 0 < expected[1] < expected[0] <= 1


def test_precision_and_recall_of_equal_and_of_distant_sets() -> None:
    x = rand(50, 4)
    assert precision_recall(x, x) == (1, 1)
    assert precision_recall(x + 100, x) == (0, 0)
    with pytest.raises(UsageError, match="more than 3"):
        precision_recall(x[:3], x)


def test_a_pool_keeps_the_same_pictures_in_any_order() -> None:
    keys = list(range(100, 0, -1))
    rows = torch.arange(100.0)[:, None]
    forward, backward = Pool(10), Pool(10)
    forward.update(rows, keys)
    for i in range(99, -1, -1):
        backward.update(rows[i : i + 1], [keys[i]])
    assert torch.equal(forward.features, backward.features)
    assert forward.features.flatten().tolist() == [float(i) for i in range(99, 89, -1)]
    assert len(forward) == 10 and forward.seen == 100


def test_keys_depend_on_content_alone() -> None:
    pictures = torch.randint(0, 256, (3, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    assert picture_keys(pictures)[1:] == picture_keys(pictures[1:])
    assert len(set(picture_keys(pictures))) == 3
    assert all(0 <= k < 2**64 for k in picture_keys(pictures))
    assert math.isfinite(sum(picture_keys(pictures)))

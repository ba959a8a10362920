"""Latents: one seed an image, three truncation modes with the distributions they claim, walks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nsbgan_infer.errors import UsageError
from nsbgan_infer.latents import (
    LAST_SEED,
    Latents,
    TruncationMode,
    draw_latents,
    draw_z,
    join_latents,
    lerp,
    slerp,
    walk,
)

stats = pytest.importorskip("scipy.stats")
SEEDS = st.integers(0, LAST_SEED)
MODES: list[TruncationMode] = ["scale", "resample", "std"]
MANY = 200_000


def draw(
    seeds: list[int], classes: list[int | None], truncation: float = 0.5, mode: TruncationMode = "scale"
) -> Latents:
    return draw_latents(seeds, classes, z_dim=16, truncation=truncation, mode=mode)


@settings(deadline=None)
@given(st.lists(st.tuples(SEEDS, st.none() | st.integers(0, 999)), min_size=1, max_size=12), st.data())
def test_no_batch_split_changes_a_latent(images: list[tuple[int, int | None]], data: st.DataObject) -> None:
    seeds, classes = [s for s, _ in images], [c for _, c in images]
    mode, truncation = data.draw(st.sampled_from(MODES)), data.draw(st.floats(0.01, 1))
    whole = draw(seeds, classes, truncation, mode)
    cut = data.draw(st.integers(0, len(images)))
    for part, at in ((whole[:cut], slice(cut)), (whole[cut:], slice(cut, None))):
        again = draw(seeds[at], classes[at], truncation, mode)
        assert torch.equal(part.z, again.z) and torch.equal(part.y, again.y) and part.seeds == again.seeds
    order = data.draw(st.permutations(range(len(images))))
    shuffled = draw([seeds[i] for i in order], [classes[i] for i in order], truncation, mode)
    assert torch.equal(shuffled.z, whole.z[list(order)]) and torch.equal(shuffled.y, whole.y[list(order)])


@given(SEEDS, st.integers(0, 999), st.integers(0, 999), st.sampled_from(MODES), st.floats(0.01, 1))
def test_classes_share_latents(seed: int, a: int, b: int, mode: TruncationMode, truncation: float) -> None:
    latents = draw([seed, seed, seed], [a, b, None], truncation, mode)
    assert torch.equal(latents.z[0], latents.z[1]) and torch.equal(latents.z[0], latents.z[2])


@given(st.lists(st.none() | st.integers(0, 999), min_size=1, max_size=6))
def test_y_is_one_hot_or_nothing(classes: list[int | None]) -> None:
    y = draw(list(range(len(classes))), classes).y
    assert y.shape == (len(classes), 1000) and y.dtype == torch.float32
    for row, class_id in zip(y, classes, strict=True):
        assert row.sum() == (class_id is not None) and (class_id is None or row[class_id] == 1)


@given(SEEDS, SEEDS)
def test_seeds_differ_and_repeat(a: int, b: int) -> None:
    assert torch.equal(draw_z(a, 8), draw_z(a, 8))
    assert torch.equal(draw_z(a, 8), draw_z(b, 8)) == (a == b)


def test_the_global_generator_is_neither_used_nor_moved() -> None:
    torch.manual_seed(0)
    first = draw_z(5, 8)
    after = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1)) and torch.equal(first, draw_z(5, 8))


def test_known_values_stay_what_they_are() -> None:
    """Recipes in images that exist already must keep their meaning."""
    assert torch.allclose(draw_z(0, 3), torch.tensor([1.63205, 0.51970, -0.09733]), atol=1e-4)
    assert torch.allclose(draw_z(0, 3, 0.5, "std"), torch.tensor([0.94079, 0.27351, -0.05099]), atol=1e-4)


def big(truncation: float, mode: TruncationMode) -> np.ndarray:
    return draw_z(123, MANY, truncation, mode).double().numpy()


@pytest.mark.parametrize("truncation", [0.02, 0.4, 1.0])
@pytest.mark.parametrize("mode", MODES)
def test_each_mode_has_the_distribution_that_it_claims(mode: TruncationMode, truncation: float) -> None:
    claimed = {
        "scale": stats.truncnorm(-2, 2, scale=truncation),
        "resample": stats.truncnorm(-2 * truncation, 2 * truncation),
        "std": stats.norm(scale=truncation),
    }[mode]
    z = big(truncation, mode)
    assert stats.kstest(z, claimed.cdf).statistic < 1.7 / math.sqrt(MANY)
    assert abs(z.mean()) < 4 * claimed.std() / math.sqrt(MANY)
    assert abs(z.std() / claimed.std() - 1) < 0.01
    if mode != "std":
        bound = 2 * truncation
        assert np.abs(z).max() <= np.float32(bound) and np.abs(z).max() > 0.99 * bound
    else:
        assert np.abs(z).max() > 3.5 * truncation
        assert abs(stats.kurtosis(z)) < 0.1


def test_the_standard_deviation_of_the_released_weights_convention() -> None:
    assert abs(big(1.0, "scale").std() - 0.8796) < 0.005  # spec: 0.879 t


def test_scale_and_resample_agree_at_truncation_1_and_differ_below() -> None:
    assert torch.equal(draw_z(3, 50, 1.0, "scale"), draw_z(3, 50, 1.0, "resample"))
    assert not torch.allclose(draw_z(3, 50, 0.5, "scale"), draw_z(3, 50, 0.5, "resample"), atol=1e-3)


@given(SEEDS, st.sampled_from(MODES), st.floats(0.05, 0.95))
def test_truncation_moves_an_image_smoothly(seed: int, mode: TruncationMode, truncation: float) -> None:
    a, b = draw_z(seed, 8, truncation, mode), draw_z(seed, 8, truncation + 1e-4, mode)
    assert (a - b).abs().max() < 1e-3
    assert torch.equal(a.sign(), b.sign())


def test_truncation_in_w_leaves_z_alone() -> None:
    full = draw_latents([1, 2], [None, None], z_dim=8, truncation=1.0, mode="scale", truncates="w")
    half = draw_latents([1, 2], [None, None], z_dim=8, truncation=0.5, mode="scale", truncates="w")
    assert torch.equal(full.z, half.z) and half.truncation == 0.5
    assert torch.equal(full.z[0], draw_z(1, 8, 1.0, "std"))  # the whole normal distribution
    with pytest.raises(UsageError, match="use --truncation-mode scale"):
        draw_latents([1], [None], z_dim=8, truncation=0.5, mode="std", truncates="w")


@pytest.mark.parametrize("truncation", [0, -0.5, 1.0001, float("nan"), float("inf")])
def test_truncation_has_a_range(truncation: float) -> None:
    with pytest.raises(UsageError, match="above 0 and up to 1"):
        draw([0], [1], truncation)


@pytest.mark.parametrize("seed", [-1, LAST_SEED + 1, 2**63, 2**70])
def test_seeds_that_would_repeat_others_are_refused(seed: int) -> None:
    with pytest.raises(UsageError, match=f"use 0 to {LAST_SEED}"):
        draw([seed], [1])


def test_the_last_seed_works_and_is_its_own() -> None:
    assert not torch.equal(draw_z(LAST_SEED, 8), draw_z(0, 8))


@pytest.mark.parametrize("class_id", [-1, 1000])
def test_classes_that_do_not_exist_are_refused(class_id: int) -> None:
    with pytest.raises(UsageError, match="ids go from 0 to 999"):
        draw([0], [class_id])


def test_other_arguments_are_checked() -> None:
    with pytest.raises(UsageError, match="2 seeds and 1 classes"):
        draw([0, 1], [1])
    with pytest.raises(UsageError, match="Unknown truncation mode 'hard': use scale, resample, std"):
        draw([0], [1], 0.5, "hard")  # type: ignore[arg-type]
    assert draw([], []).z.shape == (0, 16) and len(draw([], [])) == 0


def test_moving_to_a_dtype_keeps_the_rest() -> None:
    moved = draw([3, 4], [1, None]).to(torch.device("cpu"), torch.bfloat16)
    assert moved.z.dtype == moved.y.dtype == torch.bfloat16
    assert (moved.seeds, moved.truncation, moved.mode, len(moved)) == ((3, 4), 0.5, "scale", 2)


def vectors(seed: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(32, generator=g, dtype=torch.float64), torch.randn(32, generator=g, dtype=torch.float64)


@given(st.integers(0, 1000), st.floats(0, 1))
def test_slerp_runs_along_the_great_arc(seed: int, t: float) -> None:
    a, b = vectors(seed)
    s = slerp(a, b, t)
    assert math.isclose(s.norm(), (1 - t) * a.norm() + t * b.norm(), rel_tol=1e-9)
    angle = torch.acos(torch.dot(a, b) / a.norm() / b.norm())
    turned = torch.acos((torch.dot(a, s) / a.norm() / s.norm()).clamp(-1, 1))
    assert math.isclose(turned, t * angle, abs_tol=1e-6)
    basis = torch.linalg.qr(torch.stack([a, b], 1))[0]
    assert torch.allclose(basis @ (basis.T @ s), s, atol=1e-9)  # it never leaves their plane
    assert torch.allclose(slerp(b, a, 1 - t), s, atol=1e-9)


def test_slerp_and_lerp_meet_their_ends_and_treat_rows_apart() -> None:
    a, b = torch.randn(5, 16), torch.randn(5, 16)
    for way in (slerp, lerp):
        assert torch.allclose(way(a, b, 0), a, atol=1e-5) and torch.allclose(way(a, b, 1), b, atol=1e-5)
        assert torch.allclose(way(a, b, 0.3)[2], way(a[2], b[2], 0.3), atol=1e-6)


@pytest.mark.parametrize("factor", [1.0, 2.0, -1.0, -0.5, 0.0])
def test_slerp_of_vectors_on_one_line_is_lerp(factor: float) -> None:
    a, _ = vectors(1)
    assert torch.allclose(slerp(a, a * factor, 0.25), lerp(a, a * factor, 0.25))


def test_a_walk_goes_from_end_to_end() -> None:
    start, end = draw([1], [207]), draw([2], [3])
    path = walk(start, end, 5)
    assert len(path) == 5 and path.seeds == (1,) * 5 and path.truncation == 0.5
    assert torch.allclose(path.z[0], start.z[0], atol=1e-6) and torch.allclose(path.z[-1], end.z[0], atol=1e-6)
    assert torch.allclose(path.y.sum(1), torch.ones(5))
    assert torch.allclose(path.y[2, [207, 3]], torch.tensor([0.5, 0.5]))
    steps = (path.z[1:] - path.z[:-1]).norm(dim=1)
    assert steps.max() < 2 * steps.min()


def test_walks_that_make_no_sense() -> None:
    one, two = draw([1], [207]), draw([1, 2], [207, 207])
    for start, end, steps in ((one, two, 3), (two, one, 3), (one, one, 1)):
        with pytest.raises(UsageError, match="at least 2 steps"):
            walk(start, end, steps)
    with pytest.raises(UsageError, match="one truncation"):
        walk(one, draw([1], [207], 0.6), 3)


def test_latents_are_picked_and_joined() -> None:
    latents = draw_latents([5, 6, 7], [207, 1, 2], z_dim=4, truncation=0.5, mode="scale")
    parts = [latents.pick([2]), latents.pick([0, 1])]
    assert parts[0].seeds == (7,) and torch.equal(parts[0].y, latents.y[2:])
    joined = join_latents(parts)
    assert torch.equal(joined.z, latents.z[[2, 0, 1]]) and joined.seeds == (7, 5, 6) and joined.truncation == 0.5
    other = draw_latents([5], [207], z_dim=4, truncation=0.7, mode="scale")
    for wrong in ([latents, other], []):
        with pytest.raises(UsageError, match=r"different truncations cannot be joined|to join"):
            join_latents(wrong)


def test_joined_latents_without_offsets_get_zeros() -> None:
    plain = draw_latents([5, 6], [207, 1], z_dim=4, truncation=0.5, mode="scale")
    moved = replace(draw_latents([7], [2], z_dim=4, truncation=0.5, mode="scale"), offsets=torch.ones(1, 3))
    joined = join_latents([plain, moved])
    assert joined.offsets is not None and joined.offsets.tolist() == [[0] * 3, [0] * 3, [1] * 3]
    picked = joined.pick([2, 0]).offsets
    assert picked is not None and picked.tolist() == [[1] * 3, [0] * 3]
    assert join_latents([plain, plain]).offsets is None
    longer = replace(moved, offsets=torch.ones(1, 4))
    with pytest.raises(UsageError, match="different numbers of offsets"):
        join_latents([moved, longer])


def test_a_repr_is_one_line() -> None:
    latents = draw_latents([3, 4], [207, 1], z_dim=8, truncation=0.5, mode="std")
    assert repr(latents) == "<Latents: z 2 x 8, seeds (3, 4), truncation 0.5 (std)>"
    moved = replace(latents, offsets=torch.ones(2, 5))
    assert repr(moved) == "<Latents: z 2 x 8, 5 offsets, seeds (3, 4), truncation 0.5 (std)>"

"""Property: an image is made from its own seed and class, whatever the order, the batch or the company."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stylegan2_weights import AVERAGE, public_checkpoint
from tiny import CLASSES, tiny_pipeline

from nsbgan_infer.errors import UsageError
from nsbgan_infer.latents import LAST_SEED
from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.samplers.stylegan2_layouts import from_public_layout

ONE_GREY_LEVEL = 1 / 255


@cache
def pipeline() -> NsbPipeline:
    return tiny_pipeline()


@cache
def unconditional() -> NsbPipeline:
    return NsbPipeline(from_public_layout(public_checkpoint(), AVERAGE))


@settings(deadline=None, max_examples=25)
@given(
    st.integers(0, LAST_SEED - 8),
    st.lists(st.sampled_from(CLASSES), min_size=1, max_size=3, unique=True),
    st.integers(1, 3),
)
def test_image_j_of_each_class_has_seed_s_plus_j(seed: int, classes: list[int], count: int) -> None:
    requests = pipeline().requests(classes, count, seeds=seed)
    assert [(r.class_id, r.seed) for r in requests] == [(c, seed + j) for c in classes for j in range(count)]


@settings(deadline=None, max_examples=10)
@given(st.lists(st.tuples(st.sampled_from(CLASSES), st.integers(0, LAST_SEED)), min_size=1, max_size=5), st.data())
def test_batches_do_not_change_pictures(images: list[tuple[int, int]], data: st.DataObject) -> None:
    from nsbgan_infer.pipeline import Request

    requests = [Request(c, s) for c, s in images]
    size = data.draw(st.integers(1, len(requests)))
    whole = torch.cat([o.tensors for o in pipeline().stream(requests, batch_size=size)])
    order = data.draw(st.permutations(range(len(requests))))
    alone = torch.cat([o.tensors for o in pipeline().stream([requests[i] for i in order], batch_size=1)])
    assert (whole[list(order)] - alone).abs().max() < ONE_GREY_LEVEL


@settings(deadline=None, max_examples=10)
@given(st.lists(st.integers(0, LAST_SEED), min_size=2, max_size=4, unique=True), st.floats(0.1, 1))
def test_an_unconditional_sampler_with_noise_too(seeds: list[int], psi: float) -> None:
    together = unconditional()(None, len(seeds), seeds=seeds, truncation=psi, batch_size=len(seeds)).tensors
    for picture, seed in zip(together, seeds, strict=True):
        assert (picture - unconditional()(None, seeds=seed, truncation=psi).tensors[0]).abs().max() < ONE_GREY_LEVEL
    assert len({t.numpy().tobytes() for t in together}) == len(seeds)


@pytest.mark.parametrize("seed", [-1, LAST_SEED + 1])
def test_seeds_without_a_picture_of_their_own_are_refused(seed: int) -> None:
    with pytest.raises(UsageError, match="out of range"):
        pipeline()(207, seeds=seed)
    with pytest.raises(UsageError, match="out of range"):
        pipeline()(207, 2, seeds=LAST_SEED)


def test_a_truncation_mode_that_acts_on_z_is_refused_where_w_is_truncated() -> None:
    with pytest.raises(UsageError, match="use --truncation-mode scale"):
        unconditional()(None, truncation_mode="std")

"""From classes, mixes and seeds to latents, and what is wrong with them in one sentence."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny import CLASSES, tiny_sampler

from nsbgan_infer.errors import NsbError, UsageError, WrongTypeError
from nsbgan_infer.frame.asking import class_ids, mixed_latents, seeds_of, shares_of
from nsbgan_infer.frame.calls import Drawing

INFO = tiny_sampler().info


@given(st.dictionaries(st.sampled_from(CLASSES), st.floats(0.001, 1000), min_size=1))
def test_shares_are_divided_by_their_sum(mix: dict[str | int, float]) -> None:
    shares = shares_of(INFO, mix)
    assert sum(shares.values()) == pytest.approx(1)
    first = next(iter(mix))
    assert shares[int(first)] == pytest.approx(mix[first] / sum(mix.values()))


def test_a_mix_stands_among_classes_and_takes_every_seed() -> None:
    latents = mixed_latents(INFO, [{"golden retriever": 3, "goldfish": 1}, 217], [4, 9], Drawing())
    assert latents.seeds == (4, 9, 4, 9) and latents.y.sum(1).tolist() == [1, 1, 1, 1]
    assert latents.y[:2, [207, 1]].tolist() == [[0.75, 0.25]] * 2 and latents.y[2:, 217].tolist() == [1, 1]
    assert torch.equal(latents.z[:2], latents.z[2:])


@pytest.mark.parametrize(
    ("mix", "message"),
    [
        ({207: -1}, "share of 207 is -1"),
        ({207: float("nan")}, "share of 207 is nan"),
        ({207: "half"}, "share of 207 is 'half'"),
        ({207: 0, 1: 0}, "shares above 0"),
        ({}, "shares above 0"),
        ({"golden retriever": 0.5, "tabby": 0.5}, "cannot draw class 281"),
    ],
)
def test_what_is_no_mix(mix: dict[Any, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        shares_of(INFO, mix)


@pytest.mark.parametrize("wrong", [2.5, None.__class__, b"207", [207, None], True, {207}, torch.tensor(207)])
def test_what_names_no_class_is_told_in_a_sentence(wrong: Any) -> None:
    with pytest.raises(WrongTypeError, match="A class is an id, a name, a range or a mix") as caught:
        class_ids(INFO, wrong)
    assert isinstance(caught.value, TypeError) and isinstance(caught.value, NsbError)


def test_without_classes_there_is_nothing_to_name_or_mix() -> None:
    free = replace(INFO, classes=None)
    assert class_ids(free, None) == class_ids(free, ()) == [None]
    with pytest.raises(UsageError, match="leave out the class"):
        class_ids(free, 207)
    with pytest.raises(UsageError, match="none to mix"):
        shares_of(free, {207: 1})


@pytest.mark.parametrize(
    ("seeds", "count", "message"),
    [(0, 0, "at least 1"), (0, 1.5, "at least 1"), ("5", 1, "whole number"), ([1.5], 1, "whole"), ([1], 2, "1 seeds")],
)
def test_seeds_are_whole_numbers_one_an_image(seeds: Any, count: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        seeds_of(seeds, count)

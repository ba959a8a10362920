"""Rejection: thresholds, balance, bounded tries, seeds that make the picture again, and the tally."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import CLASSES, TinyClassifier, tiny_pipeline
from torch import Tensor

from nsbgan_infer.classifiers.base import ClassifierInfo, Scores
from nsbgan_infer.errors import UsageError
from nsbgan_infer.latents import LAST_SEED
from nsbgan_infer.pipeline import Drawing, Request
from nsbgan_infer.rejection import Rule, Tally, attempt_seed, draw_accepted, reject, rejected_outputs, retry, scores


def draw_z(wish: Request) -> Tensor:
    """A 2 x 2 'picture' that depends on class and seed alone."""
    g = torch.Generator().manual_seed(wish.seed)
    return torch.rand(3, 2, 2, generator=g) + (wish.class_id or 0)


class Draws:
    def __init__(self) -> None:
        self.batches: list[int] = []
        self.requests: list[Request] = []

    def __call__(self, requests: list[Request]) -> tuple[Tensor, list[str]]:
        self.batches.append(len(requests))
        self.requests += requests
        return torch.stack([draw_z(w) for w in requests]), [f"seed {w.seed}" for w in requests]


class Judge:
    """Knows the class of a picture from its level and is as sure as its first pixel says."""

    info = ClassifierInfo("judge", 1, "none", "none")

    def __call__(self, pictures: Tensor) -> Scores:
        level = pictures.floor()[:, 0, 0, 0].long()
        sure = (pictures[:, 0, 0, 0] - level).clamp(1e-6, 1 - 1e-6)
        logits = torch.full((len(pictures), 1000), -1e9)
        logits[torch.arange(len(level)), level] = sure.log()
        logits[torch.arange(len(level)), level + 1] = (1 - sure).log()
        return Scores(pictures.flatten(1), logits)


REQUESTS = [Request(c, s) for c in (3, 7) for s in range(20)]


def test_every_wish_gets_a_picture_over_the_threshold_and_classes_stay_balanced() -> None:
    tally = Tally()
    chosen = list(reject(REQUESTS, Draws(), Judge(), Rule(0.8), batch_size=8, tally=tally))
    assert sorted(c.index for c in chosen) == list(range(40))
    assert Counter(c.request.class_id for c in chosen) == {3: 20, 7: 20}
    for c in chosen:
        assert c.accepted and c.score >= 0.8
        assert c.request == REQUESTS[c.index]
        assert torch.equal(draw_z(c.drawn), c.picture)
        assert c.drawn == Request(c.request.class_id, attempt_seed(c.request.seed, c.attempt))
        assert c.extra == f"seed {c.drawn.seed}"
        assert c.tries == c.attempt + 1
    assert {c.attempt for c in chosen} != {0}
    report = tally.report()
    assert report["wanted"] == report["accepted"] == 40
    assert report["drawn"] == sum(c.tries for c in chosen)
    assert 0.1 < float(str(report["acceptance"])) < 0.4  # one in five is over 0.8
    assert tally.shortfall == 0


@settings(max_examples=15, deadline=None)
@given(batch=st.integers(1, 50))
def test_batch_size_changes_nothing_but_the_order(batch: int) -> None:
    draws = Draws()
    chosen = sorted(reject(REQUESTS, draws, Judge(), Rule(0.6), batch_size=batch), key=lambda c: c.index)
    expected = sorted(reject(REQUESTS, Draws(), Judge(), Rule(0.6), batch_size=7), key=lambda c: c.index)
    assert [(c.index, c.attempt, c.score) for c in chosen] == [(c.index, c.attempt, c.score) for c in expected]
    assert max(draws.batches) <= batch
    assert len(draws.requests) == sum(c.tries for c in chosen)


def test_tries_are_bounded_and_the_best_is_kept_aside() -> None:
    tally = Tally()
    chosen = list(reject(REQUESTS[:4], Draws(), Judge(), Rule(0.999999, max_tries=5), batch_size=3, tally=tally))
    assert len(chosen) == 4
    for c in chosen:
        tried = [Judge()(draw_z(Request(3, attempt_seed(c.request.seed, k)))[None]) for k in range(5)]
        values = [float(scores(s.logits, [c.request], Rule(0.5))) for s in tried]
        assert not c.accepted and c.tries == 5
        assert c.score == pytest.approx(max(values)) and c.attempt == values.index(max(values))
    assert tally.shortfall == 4
    assert tally.report()["draws_per_image"] is None
    assert tally.report()["drawn"] == 20


def test_label_mode_asks_for_the_class_and_max_mode_does_not() -> None:
    logits = torch.full((2, 1000), -1e9)
    logits[:, 5], logits[:, 9] = torch.tensor(0.9).log(), torch.tensor(0.1).log()
    requests = [Request(5, 0), Request(9, 0)]
    assert scores(logits, requests, Rule(0.5)).tolist() == pytest.approx([0.9, 0.1])
    assert scores(logits, requests, Rule(0.5, "max")).tolist() == pytest.approx([0.9, 0.9])
    assert scores(logits, [Request(None, 0)] * 2, Rule(0.5, "max")).tolist() == pytest.approx([0.9, 0.9])


def test_probabilities_are_taken_over_the_samplers_classes() -> None:
    logits = torch.zeros(1, 1000)
    logits[0, 100] = 10  # a class that the sampler cannot draw
    logits[0, 3] = 2
    subset = Rule(0.5, classes=(7, 3))
    expected = float(torch.tensor([2.0, 0.0]).softmax(0)[0])
    assert float(scores(logits, [Request(3, 0)], subset)) == pytest.approx(expected)
    assert float(scores(logits, [Request(7, 0)], Rule(0.5, "max", classes=(7, 3)))) == pytest.approx(expected)
    assert float(scores(logits, [Request(3, 0)], Rule(0.5))) < 0.01


@given(seed=st.integers(0, LAST_SEED), attempt=st.integers(0, 10**6))
def test_attempt_seeds_stay_in_range_and_differ(seed: int, attempt: int) -> None:
    assert attempt_seed(seed, 0) == seed
    assert 0 <= attempt_seed(seed, attempt) <= LAST_SEED
    assert attempt_seed(seed, attempt) != attempt_seed(seed, attempt + 1)


def test_a_long_run_repeats_no_seed() -> None:
    """Seeds S..S+999,999 collide across attempts only if some multiple of the step comes that near to 0."""
    nearest = min(min(attempt_seed(0, k), LAST_SEED + 1 - attempt_seed(0, k)) for k in range(1, 1000))
    assert nearest >= 10**6


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"threshold": 1.0}, "out of range"),
        ({"threshold": -0.1}, "out of range"),
        ({"mode": "best"}, "label or max"),
        ({"max_tries": 0}, "at least 1"),
        ({"classes": ()}, "no classes"),
    ],
)
def test_rules_that_cannot_work(change: dict[str, object], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        Rule(**({"threshold": 0.9} | change))  # type: ignore[arg-type]


def test_requests_that_cannot_be_judged_are_refused_before_any_draw() -> None:
    draws = Draws()
    for wish, rule in ((Request(None, 0), Rule(0.9)), (Request(5, 0), Rule(0.9, classes=(6, 7)))):
        with pytest.raises(UsageError):
            list(reject([wish], draws, Judge(), rule))
    assert not draws.batches
    with pytest.raises(UsageError, match="1000 classes"):
        scores(torch.zeros(1, 1008), [Request(3, 0)], Rule(0.5))


def test_a_pipelines_recipe_makes_the_accepted_image_again() -> None:
    pipeline = tiny_pipeline()
    requests = pipeline.requests("all", 3)
    judge, tally = TinyClassifier(), Tally()
    rule = Rule(0.5, max_tries=6)  # over the classes of the sampler
    found = list(
        rejected_outputs(pipeline, requests, judge, rule, drawing=Drawing(resolution=64), batch_size=4, tally=tally)
    )
    assert sorted(chosen.index for chosen, _ in found) == list(range(len(requests)))
    assert any(chosen.attempt for chosen, _ in found) and 0 < tally.shortfall < len(requests)
    for chosen, output in found:
        recipe = output.recipes[0]
        assert output.requests == (requests[chosen.index],)
        assert (recipe.attempt, recipe.seed) == (chosen.attempt, attempt_seed(chosen.request.seed, chosen.attempt))
        assert recipe.rejection is not None and recipe.rejection["accepted"] == chosen.accepted
        assert (recipe.rejection["score"] >= 0.5) == chosen.accepted
        over_its_classes = float(scores(judge(output.tensors).logits, [chosen.request], Rule(0.5, classes=CLASSES)))
        assert chosen.score == pytest.approx(over_its_classes, abs=1e-5)
        assert type(recipe).from_json(recipe.to_json()) == recipe
        again = pipeline(recipe.class_id, seeds=recipe.seed, truncation=recipe.truncation, resolution=64)
        assert torch.allclose(again.tensors, output.tensors, atol=1e-4)
    assert {type(v) for v in pipeline.stream(requests[:1], Drawing(resolution=64))} == {type(found[0][1])}


def test_one_call_returns_what_was_accepted_and_what_was_not_in_the_order_asked_for() -> None:
    pipeline = tiny_pipeline()
    judge, rule = TinyClassifier(), Rule(0.5, max_tries=6)
    for batch in (1, 5):
        found = draw_accepted(pipeline, "all", 3, rule=rule, classifier=judge, resolution=64, batch_size=batch)
        asked = pipeline.requests("all", 3)
        kept, below = found.accepted.requests, found.below.requests
        assert kept and below and sorted([*kept, *below], key=asked.index) == asked
        assert list(kept) == [r for r in asked if r in kept] and list(below) == [r for r in asked if r in below]
        assert len(found.accepted.images) == len(kept) == found.report["accepted"]
        assert all(r.rejection and r.rejection["accepted"] for r in found.accepted.recipes)
        assert not any(r.rejection and r.rejection["accepted"] for r in found.below.recipes)
    everything = draw_accepted(pipeline, 207, 2, rule=Rule(0.0), classifier=TinyClassifier())
    assert everything.below.images == [] and everything.below.requests == ()
    assert torch.equal(everything.accepted.tensors, pipeline(207, 2).tensors)


def test_every_draw_is_told_and_open_ones_come_first() -> None:
    scored = iter([0.1, 0.9, 0.2, 0.1, 0.3, 0.95])  # of requests 0 and 1, then 0 and 2, then 2
    asked: list[list[Request]] = []

    def judge(drawn: list[Request]) -> list[float]:
        asked.append(drawn)
        return [next(scored) for _ in drawn]

    requests = [Request(3, s) for s in (10, 20, 30)]
    tries = list(retry(requests, judge, Rule(0.5, max_tries=2), batch_size=2))
    assert [(t.index, t.attempt, t.row, t.accepted, t.last) for t in tries] == [
        (0, 0, 0, False, False),
        (1, 0, 1, True, True),
        (0, 1, 0, False, True),
        (2, 0, 1, False, False),
        (2, 1, 0, False, True),
    ]
    assert [t.drawn for t in tries] == [r for batch in asked for r in batch]
    assert tries[2].drawn == Request(3, attempt_seed(10, 1)) and tries[2].request == requests[0]

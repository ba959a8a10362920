"""Whatever classifier is registered keeps its promises, and the check names what is wrong with others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
from tiny import TinyClassifier
from torch import Tensor

from nsbgan_infer.classifiers.base import ClassifierInfo, Scores
from nsbgan_infer.classifiers.conformance import check_classifier
from nsbgan_infer.errors import CheckpointError, MissingExtraError
from nsbgan_infer.registry import BUILT_IN, load_classifier

GOOD = TinyClassifier()


@dataclass
class Plugin:
    """A classifier made of a function."""

    call: Callable[[Tensor], Any]
    info: ClassifierInfo = GOOD.info

    def __call__(self, pictures: Tensor) -> Any:
        return self.call(pictures)


def failures(classifier: Any) -> dict[str, str]:
    return {c.name: c.message for c in check_classifier(classifier) if not c.ok}


@pytest.mark.parametrize("name", [n for n, e in BUILT_IN["classifier"].items() if e.source == "package"])
def test_whatever_is_registered_conforms(name: str) -> None:
    try:
        classifier = load_classifier(name)
    except (CheckpointError, MissingExtraError) as error:
        pytest.skip(str(error))
    assert failures(classifier) == {}


def test_a_tiny_one_conforms() -> None:
    checks = check_classifier(GOOD)
    assert len(checks) == 7 and all(c.ok for c in checks), checks


CALLS = iter(range(10**6))
BROKEN: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "scores": (lambda p: GOOD(p).logits, "not Scores"),
    "any size": (lambda p: GOOD(p.view(-1, 3, 64, 64)), "raised RuntimeError"),
    "clamps": (lambda p: Scores(p.mean((2, 3)).repeat(1, 4), GOOD(p).logits), "allowed"),
    "determinism": (lambda p: Scores(GOOD(p).features + next(CALLS), GOOD(p).logits), "two calls differ"),
    "batch independence": (lambda p: Scores(GOOD(p).features * p.mean(), GOOD(p).logits), "at a time differ"),
    "input untouched": (lambda p: GOOD(p.clamp_(0, 1)), "overwritten"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_promise_is_named(name: str) -> None:
    call, message = BROKEN[name]
    found = failures(Plugin(call))
    assert message in found[name], found


def test_without_info_nothing_else_is_tried() -> None:
    assert [(c.name, c.ok) for c in check_classifier(Plugin(GOOD, info=None))] == [("info", False)]  # type: ignore[arg-type]
    message = failures(Plugin(GOOD, replace(GOOD.info, name="", features=0, licence="")))["info"]
    assert all(word in message for word in ("name", "features", "licence"))

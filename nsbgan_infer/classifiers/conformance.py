"""Does a classifier keep its promises (see `classifiers.base.Classifier`)? Used by `nsbgan plugins check NAME`."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nsbgan_infer.classifiers.base import Classifier, ClassifierInfo, Scores
from nsbgan_infer.encoders.conformance import Check, Outcome, run_checks

TOLERANCE = 1e-3  # relative, of features


def check_classifier(classifier: Classifier) -> list[Check]:
    """All checks of `classifier`, on its device. Nothing is raised: a check that fails says why."""
    return run_checks(
        classifier,
        _info,
        {
            "scores": _scores,
            "any size": _sizes,
            "clamps": _clamps,
            "determinism": _determinism,
            "batch independence": _batch,
            "input untouched": _untouched,
        },
    )


def _info(classifier: Classifier) -> Outcome:
    info = getattr(classifier, "info", None)
    if not isinstance(info, ClassifierInfo):
        return False, f"`info` is a {type(info).__name__}, not a ClassifierInfo"
    wrong = [f"{f} is empty" for f in ("name", "resize", "licence") if not getattr(info, f)]
    if not isinstance(info.features, int) or info.features < 1:
        wrong.append(f"features is {info.features!r}, not a whole number of at least 1")
    return not wrong, "; ".join(wrong) or f"{info.name}: {info.features} features, licence {info.licence}"


def _scores(classifier: Classifier) -> Outcome:
    scores = classifier(_noise(classifier, 2, 64, 64))
    if not isinstance(scores, Scores):
        return False, f"returned a {type(scores).__name__}, not Scores"
    features, logits = tuple(scores.features.shape), tuple(scores.logits.shape)
    if features != (2, classifier.info.features) or len(logits) != 2 or logits[0] != 2 or logits[1] < 2:
        return False, f"2 pictures gave features {features} and logits {logits}"
    if {scores.features.dtype, scores.logits.dtype} != {torch.float32}:
        return False, f"features are {scores.features.dtype} and logits {scores.logits.dtype}, not float32"
    finite = bool(scores.features.isfinite().all() and scores.logits.isfinite().all())
    return finite, f"{features[1]} features and {logits[1]} logits each, {'' if finite else 'not '}finite"


def _sizes(classifier: Classifier) -> Outcome:
    for h, w in ((32, 32), (48, 97), (300, 200)):
        if (got := len(classifier(_noise(classifier, 1, h, w)).features)) != 1:
            return False, f"a picture of {h} x {w} gave {got} rows"
    return True, "32 x 32, 48 x 97 and 300 x 200 are judged"


def _clamps(classifier: Classifier) -> Outcome:
    pictures = _noise(classifier, 1, 64, 64) * 2 - 0.5  # as unclamped results of decoders are
    off = _apart(classifier(pictures).features, classifier(pictures.clamp(0, 1)).features)
    return off <= TOLERANCE, f"values outside [0, 1] change features by {off:.2g}, allowed {TOLERANCE}"


def _determinism(classifier: Classifier) -> Outcome:
    pictures = _noise(classifier, 2, 64, 64)
    same = torch.equal(classifier(pictures).features, classifier(pictures).features)
    return same, "two calls agree exactly" if same else "two calls differ"


def _batch(classifier: Classifier) -> Outcome:
    pictures = _noise(classifier, 3, 64, 64)
    single = torch.cat([classifier(pictures[i : i + 1]).features for i in range(3)])
    off = _apart(single, classifier(pictures).features)
    return off <= TOLERANCE, f"one at a time and three at a time differ by {off:.2g}, allowed {TOLERANCE}"


def _untouched(classifier: Classifier) -> Outcome:
    pictures = _noise(classifier, 1, 64, 64) * 2 - 0.5
    before = pictures.clone()
    classifier(pictures)
    kept = torch.equal(pictures, before)
    return kept, "the input keeps its values" if kept else "input overwritten"


def _apart(one: Tensor, other: Tensor) -> float:
    return float((one - other).norm() / other.norm().clamp_min(1e-6))


def _noise(classifier: Classifier, b: int, h: int, w: int) -> Tensor:
    """Pseudo-random pictures in [0, 1], each brighter than the one before, on the classifier's device."""
    pictures = torch.rand(b, 3, h, w, generator=torch.Generator("cpu").manual_seed(h * 1009 + w))
    pictures = pictures * (torch.arange(1, b + 1) / b)[:, None, None, None]
    weight = next(classifier.parameters(), None) if isinstance(classifier, nn.Module) else None
    return pictures if weight is None else pictures.to(weight.device)

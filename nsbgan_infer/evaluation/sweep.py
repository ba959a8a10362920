"""Truncation and rejection sweeps: Frechet distance against score.

First the truncations; then, at the truncation with the lowest distance, the rejection thresholds (paper, appendix B).
All thresholds share one pool of draws: attempt k of a request is drawn once, and each threshold takes the first attempt
that reaches it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from nsbgan_infer.errors import UsageError
from nsbgan_infer.evaluation.frechet import Moments, gaussian_distance
from nsbgan_infer.evaluation.judged_cache import Judged, Studio
from nsbgan_infer.evaluation.scores import InceptionScore, score_parts
from nsbgan_infer.pipeline import Request
from nsbgan_infer.rejection import Rule, retry

TRUNCATIONS = (0.2, 0.4, 0.6, 0.8, 1.0)
THRESHOLDS = (0.70, 0.80, 0.90, 0.95)  # the paper's


@dataclass(frozen=True)
class Point:
    """One point: `fd` and `score` (with its deviation over splits) of `n` pictures at a truncation and a rejection
    threshold (None: all pictures). `share` of them is given to the class asked for, by the judge of the distance if it
    knows the 1000 classes, else by the classifier of rejection; `draws` is how many pictures were drawn for each that
    was kept; `short` how many requests stayed without a picture."""

    truncation: float
    threshold: float | None
    fd: float
    score: float
    deviation: float
    n: int
    share: float | None
    draws: float
    short: int = 0


@dataclass(frozen=True)
class Sweep:
    """All points of one pipeline under one judge, against `real` (`n_real` pictures)."""

    sampler: str
    decoder: str
    resolution: int
    judge: str
    real: str
    n_real: int
    mode: str
    points: tuple[Point, ...]

    @property
    def min_fd(self) -> Point:
        """The point with the lowest distance: the paper's column `min FID / IS`."""
        return min(self.points, key=lambda p: p.fd)

    @property
    def max_score(self) -> Point:
        """The point with the highest score: the paper's column `FID / max IS`."""
        return max(self.points, key=lambda p: p.score)


@dataclass(frozen=True)
class Real:
    """What the pictures are measured against."""

    name: str
    n: int
    mean: Tensor
    covariance: Tensor


def sweep(
    studio: Studio,
    requests: Sequence[Request],
    real: Real,
    *,
    truncations: Sequence[float] = TRUNCATIONS,
    thresholds: Sequence[float] = THRESHOLDS,
    mode: str = "label",
    max_tries: int = 4,
    note: Callable[[Point], None] | None = None,
) -> Sweep:
    """Measure the pictures at every truncation, then at every threshold at the best one; `note` receives each point.

    Raises UsageError before any work for an empty grid, or thresholds and modes that cannot work.
    """
    if not truncations or not requests:
        raise UsageError("A sweep needs at least one truncation and one picture.")
    rules = [Rule(t, mode, max_tries, studio.pipeline.sampler.info.classes) for t in thresholds]  # type: ignore[arg-type]
    for rule in rules:
        rule.check(requests)
    points: list[Point] = []

    def add(point: Point) -> None:
        points.append(point)
        if note:
            note(point)

    labelled = requests[0].class_id is not None
    for truncation in truncations:
        add(_point(studio.judged(requests, truncation), real, truncation, labelled=labelled))
    if rules:
        best = min(points, key=lambda p: p.fd).truncation
        for point in _rejected(studio, requests, real, best, rules):
            add(point)
    info = studio.pipeline.sampler.info
    decoders = dict.fromkeys(s.decoder.info.name for s in studio.pipeline.stages)
    return Sweep(
        sampler=info.name,
        decoder=" + ".join(decoders) or "none",
        resolution=studio.resolution or studio.pipeline.resolutions[-1],
        judge=studio.judges.name,
        real=real.name,
        n_real=real.n,
        mode=mode,
        points=tuple(points),
    )


def _rejected(
    studio: Studio, requests: Sequence[Request], real: Real, truncation: float, rules: Sequence[Rule]
) -> Iterator[Point]:
    """A point for each rule from one pool of draws: those that the strictest rule asks for."""
    pool: list[Judged] = []
    attempts: list[list[int]] = [[] for _ in requests]  # request -> rows of the pool, by attempt

    def by_mode(judged: Judged) -> list[float]:
        values: list[float] = (judged.label if rules[0].mode == "label" else judged.best).tolist()
        return values

    def judge(drawn: list[Request]) -> list[float]:
        pool.append(studio.judged(drawn, truncation))
        return by_mode(pool[-1])

    for t in retry(requests, judge, max(rules, key=lambda r: r.threshold), batch_size=len(requests)):
        attempts[t.index].append(sum(map(len, pool[:-1])) + t.row)
    joined = Judged.join(pool)
    values = by_mode(joined)
    for rule in sorted(rules, key=lambda r: r.threshold):
        taken, drawn = [], 0
        for tries in attempts:
            hit = next((n for n, row in enumerate(tries) if values[row] >= rule.threshold), None)
            drawn += len(tries) if hit is None else hit + 1
            if hit is not None:
                taken.append(tries[hit])
        if len(taken) < 2:
            continue
        point = _point(joined[taken], real, truncation, labelled=requests[0].class_id is not None)
        yield replace(point, threshold=rule.threshold, draws=drawn / len(taken), short=len(requests) - len(taken))


def _point(judged: Judged, real: Real, truncation: float, *, labelled: bool) -> Point:
    moments, score = Moments(judged.features.shape[1]), InceptionScore(score_parts(len(judged)))
    moments.update(judged.features)
    score.update(judged.logits, judged.keys)
    spread = score.result()
    fd = gaussian_distance(moments.mean, moments.covariance, real.mean, real.covariance)
    share = float(judged.right.float().mean()) if labelled else None
    return Point(truncation, None, fd, spread.mean, spread.deviation, len(judged), share, 1.0)

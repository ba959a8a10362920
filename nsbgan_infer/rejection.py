"""Rejection sampling: draw, decode, let a classifier judge the decoded picture, keep it or try again (paper, app. B).

Mode `label` keeps a picture whose probability of the class asked for reaches the threshold; mode `max` one whose
largest probability does, whatever the class (what the authors did). Every request gets its own picture, so classes stay
balanced, which the authors' loop did not guarantee. Attempt k of the image with seed S is drawn with the seed
`attempt_seed(S, k)`, so the accepted picture can be made again from class and seed alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, Literal, TypeVar, get_args

import torch
from torch import Tensor, nn

from nsbgan_infer.classes import NUM_CLASSES
from nsbgan_infer.errors import UsageError
from nsbgan_infer.latents import LAST_SEED
from nsbgan_infer.pipeline import AS_TRAINED, Drawing, Request, join_outputs
from nsbgan_infer.registry import load_classifier

if TYPE_CHECKING:
    from nsbgan_infer.classifiers.base import Classifier
    from nsbgan_infer.latents import TruncationMode
    from nsbgan_infer.pipeline import NsbPipeline, Output, Progress

Mode = Literal["label", "max"]
GOLDEN = 2654435769  # 2^32 / golden ratio: multiples stay far apart (Knuth, TAOCP 3, section 6.4)
T = TypeVar("T")


@dataclass(frozen=True)
class Rule:
    """When a picture is kept. `threshold` in [0, 1); at most `max_tries` draws for each picture.

    `classes` are the ids that the sampler can draw: probabilities, and the largest one of `max`, are taken over these
    (None: those of the pipeline's sampler; without a pipeline all 1000). Raises UsageError for values that cannot work.
    """

    threshold: float
    mode: Mode = "label"
    max_tries: int = 100
    classes: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.threshold < 1:
            raise UsageError(
                f"The rejection threshold {self.threshold:g} is out of range: use 0 up to, not including, 1."
            )
        if self.mode not in get_args(Mode):
            raise UsageError(f"Unknown rejection mode '{self.mode}': use label or max.")
        if self.max_tries < 1:
            raise UsageError(f"At most {self.max_tries} tries a picture cannot work: use at least 1.")
        if self.classes is not None and not self.classes:
            raise UsageError("Rejection over no classes cannot work: name those that the sampler can draw.")

    def check(self, requests: Iterable[Request]) -> None:
        """Raise UsageError for requests that this rule cannot judge."""
        for request in requests:
            if self.mode == "label" and request.class_id is None:
                raise UsageError("Pictures without a class cannot be rejected by label: use --reject-mode max.")
            if request.class_id is not None and self.classes is not None and request.class_id not in self.classes:
                raise UsageError(f"Class {request.class_id} is not among those that the sampler can draw.")


@dataclass(frozen=True)
class Chosen(Generic[T]):
    """The picture chosen for a request: the first accepted one, or the best of all tries.

    `index` is the place of the request, `drawn` what was drawn (its class and the attempt's seed), `attempt` counts
    from 0, `tries` the number of draws, `score` the classifier's probability, `picture` (3, H, W) as decoded,
    `extra` what `draw` returned beside it.
    """

    index: int
    request: Request
    drawn: Request
    attempt: int
    tries: int
    score: float
    accepted: bool
    picture: Tensor
    extra: T


def attempt_seed(seed: int, attempt: int) -> int:
    """The seed of attempt k of an image: (seed + k * 2654435769) mod 2^32; attempt 0 is the seed itself.

    Different attempts of an image have different seeds, and so have equal attempts of different images; a run of a
    million seeds in a row and 1,000 attempts each repeats none.
    """
    return (seed + attempt * GOLDEN) % (LAST_SEED + 1)


def attempt_request(request: Request, attempt: int) -> Request:
    """What is drawn in attempt k of an image."""
    return Request(request.class_id, attempt_seed(request.seed, attempt))


def scores(logits: Tensor, requests: Sequence[Request], rule: Rule) -> Tensor:
    """The probability that is judged, (B,) float32, from logits (B, 1000). Raises UsageError for other classifiers."""
    if logits.shape[1] != NUM_CLASSES:
        raise UsageError(f"Rejection needs a classifier of {NUM_CLASSES} classes, this one has {logits.shape[1]}.")
    classes = list(range(NUM_CLASSES)) if rule.classes is None else list(rule.classes)
    p = logits.float().cpu()[:, classes].softmax(1)
    if rule.mode == "max":
        return p.max(1).values
    place = {class_id: i for i, class_id in enumerate(classes)}
    columns = torch.tensor([place[r.class_id] for r in requests if r.class_id is not None])
    return p.gather(1, columns[:, None])[:, 0]


@dataclass(frozen=True)
class Try:
    """One draw for the request at `index`: `drawn` is row `row` of its batch; with `last` the request is settled."""

    index: int
    request: Request
    drawn: Request
    attempt: int
    row: int
    score: float
    accepted: bool
    last: bool


def retry(
    requests: Sequence[Request], judge: Callable[[list[Request]], Sequence[float]], rule: Rule, *, batch_size: int = 8
) -> Iterator[Try]:
    """Draw each request again until `rule` accepts it or its tries end; every draw in turn.

    `judge` gives the score of each of at most `batch_size` requests. Unsettled requests are tried again before new
    ones begin, so at most `batch_size` are open at once. Raises UsageError before any work.
    """
    rule.check(requests)
    waiting = deque(enumerate(requests))
    open_tries: list[tuple[int, Request, int]] = []  # index, request, attempt
    while waiting or open_tries:
        while waiting and len(open_tries) < batch_size:
            index, request = waiting.popleft()
            open_tries.append((index, request, 0))
        drawn = [attempt_request(request, k) for _, request, k in open_tries]
        again = []
        for row, (found, (index, request, attempt)) in enumerate(zip(judge(drawn), open_tries, strict=True)):
            accepted = found >= rule.threshold
            last = accepted or attempt + 1 == rule.max_tries
            yield Try(index, request, drawn[row], attempt, row, found, accepted, last)
            if not last:
                again.append((index, request, attempt + 1))
        open_tries = again


def reject(
    requests: Sequence[Request],
    draw: Callable[[list[Request]], tuple[Tensor, Sequence[T]]],
    classifier: Classifier,
    rule: Rule,
    *,
    batch_size: int = 8,
    tally: Tally | None = None,
) -> Iterator[Chosen[T]]:
    """Choose a picture for every request, in the order in which they are settled (`index` tells which).

    `draw` makes the pictures (B, 3, H, W) of at most `batch_size` requests, nominally [0, 1], and something to go with
    each. `tally` counts. Raises UsageError before any work.
    """
    best: dict[int, Chosen[T]] = {}
    batch: list[tuple[Tensor, T]] = []

    def judge(drawn: list[Request]) -> list[float]:
        pictures, extras = draw(drawn)
        batch[:] = zip(pictures, extras, strict=True)
        found: list[float] = scores(classifier(pictures).logits, drawn, rule).tolist()
        return found

    for t in retry(requests, judge, rule, batch_size=batch_size):
        if t.index not in best or t.score > best[t.index].score or t.accepted:
            tries = t.attempt + 1
            best[t.index] = Chosen(t.index, t.request, t.drawn, t.attempt, tries, t.score, t.accepted, *batch[t.row])
        if t.last:
            settled = replace(best.pop(t.index), tries=t.attempt + 1)
            if tally is not None:
                tally.add(settled)
            yield settled


def rejected_outputs(
    pipeline: NsbPipeline,
    requests: Sequence[Request],
    classifier: Classifier,
    rule: Rule,
    *,
    drawing: Drawing = AS_TRAINED,
    batch_size: int = 8,
    keep_steps: bool = False,
    progress: Progress | None = None,
    tally: Tally | None = None,
) -> Iterator[tuple[Chosen[Output], Output]]:
    """A pipeline's images under rejection: one `Output` of one image for each request, in the order of settling.

    `Chosen.accepted` is False for a request whose tries ended: its output is the best one so far, to be kept aside. The
    recipe holds the seed of the accepted attempt, so `regenerate` needs to know nothing of rejection, the number of
    the attempt, and the classifier, mode, threshold and score. Other arguments as in `NsbPipeline.stream`; `progress`
    receives the steps of every batch of draws. The classifier works on the pipeline's device if it is a module.
    """

    def draw(drawn: list[Request]) -> tuple[Tensor, list[Output]]:
        stream = pipeline.stream(drawn, drawing, batch_size=len(drawn), keep_steps=keep_steps, progress=progress)
        made = next(stream)
        return made.tensors, [_row_of(made, i) for i in range(len(drawn))]

    if pipeline.sampler.info.labels == "numbers":
        raise UsageError(
            f"The classes of {pipeline.sampler.info.name} are not ImageNet's, which a classifier knows: draw without "
            "rejection."
        )
    rule = rule if rule.classes else replace(rule, classes=pipeline.sampler.info.classes)
    if isinstance(classifier, nn.Module):
        classifier.to(pipeline.device)
    about = {"classifier": classifier.info.name, "mode": rule.mode, "threshold": rule.threshold}
    for chosen in reject(requests, draw, classifier, rule, batch_size=batch_size, tally=tally):
        noted = {**about, "score": round(chosen.score, 6), "accepted": chosen.accepted}
        recipe = replace(chosen.extra.recipes[0], attempt=chosen.attempt, rejection=noted)
        yield chosen, replace(chosen.extra, requests=(requests[chosen.index],), recipes=(recipe,))


@dataclass(frozen=True)
class Accepted:
    """What `draw_accepted` returns, each in the order asked for: the images that were `accepted`, the best ones `below`
    the threshold of the requests whose tries ended, and `report`, the acceptance by class (see `Tally.report`)."""

    accepted: Output
    below: Output
    report: dict[str, object]


def draw_accepted(
    pipeline: NsbPipeline,
    classes: str | int | Sequence[str | int] | None = None,
    num_images: int = 1,
    *,
    rule: Rule,
    classifier: Classifier | str = "efficientnet-lite0",
    seeds: int | Sequence[int] = 0,
    truncation: float | None = None,
    truncation_mode: TruncationMode | None = None,
    resolution: int | None = None,
    batch_size: int = 1,
) -> Accepted:
    """`num_images` of each class that `rule` accepts, for example ``draw_accepted(pipeline, 207, 4, rule=Rule(0.9))``.

    `classifier` is a registry name or an object; other arguments as in a call of the pipeline. Raises as that call and
    `load_classifier` do. For more images than memory holds: `rejected_outputs`.
    """
    tally = Tally()
    found = rejected_outputs(
        pipeline,
        pipeline.requests(classes, num_images, seeds=seeds),
        load_classifier(classifier) if isinstance(classifier, str) else classifier,
        rule,
        drawing=Drawing(truncation, truncation_mode, resolution),
        batch_size=batch_size,
        tally=tally,
    )
    ordered = sorted(found, key=lambda pair: pair[0].index)
    accepted, below = (join_outputs([o for c, o in ordered if c.accepted is wanted]) for wanted in (True, False))
    return Accepted(accepted, below, tally.report())


def _row_of(output: Output, row: int) -> Output:
    part = slice(row, row + 1)
    steps = {name: tensor[part] for name, tensor in output.steps.items()}
    return replace(
        output, tensors=output.tensors[part], requests=output.requests[part], recipes=output.recipes[part], steps=steps
    )


@dataclass
class Tally:
    """What rejection cost: for each class how many pictures were wanted, accepted and drawn."""

    wanted: dict[int | None, int] = field(default_factory=dict)
    accepted: dict[int | None, int] = field(default_factory=dict)
    drawn: dict[int | None, int] = field(default_factory=dict)

    def add(self, chosen: Chosen[T]) -> None:
        """Count one settled request."""
        class_id = chosen.request.class_id
        for counts, number in ((self.wanted, 1), (self.accepted, int(chosen.accepted)), (self.drawn, chosen.tries)):
            counts[class_id] = counts.get(class_id, 0) + number

    @property
    def shortfall(self) -> int:
        """How many requests ended without an accepted picture."""
        return sum(self.wanted.values()) - sum(self.accepted.values())

    def report(self) -> dict[str, object]:
        """As JSON: totals, `acceptance` = accepted / drawn, `draws_per_image` = drawn / accepted (null if none was),
        and the same by class."""
        return {
            **_row(sum(self.wanted.values()), sum(self.accepted.values()), sum(self.drawn.values())),
            "classes": {
                "none" if c is None else str(c): _row(self.wanted[c], self.accepted[c], self.drawn[c])
                for c in sorted(self.wanted, key=lambda c: -1 if c is None else c)
            },
        }


def _row(wanted: int, accepted: int, drawn: int) -> dict[str, float | int | None]:
    return {
        "wanted": wanted,
        "accepted": accepted,
        "drawn": drawn,
        "acceptance": accepted / drawn if drawn else None,
        "draws_per_image": drawn / accepted if accepted else None,
    }

"""Measuring pictures against real ones: one pass over each set, as many measures as asked for.

FID, IS, KID, precision and recall carry these names only on the original Inception (see `inception`); on
EfficientNet-Lite they are called fd-lite0, is-lite0 and fd-lite2. A share is that of the pictures whose class has the
largest logit, among the classes that could have been asked for. Every figure comes with its number of pictures.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nsbgan_infer.classifiers.base import Classifier, ClassifierInfo
from nsbgan_infer.classifiers.efficientnet_lite import load_lite0, load_lite2, with_imagenet_colours
from nsbgan_infer.classifiers.inception import load_fid_inception
from nsbgan_infer.datasets.description import SetDescription, count_classes, sizes_text
from nsbgan_infer.engines.classifiers import in_bulk
from nsbgan_infer.errors import UsageError, unknown_name
from nsbgan_infer.evaluation.diversity import PatchSets, mean_ms_ssim, swd
from nsbgan_infer.evaluation.frechet import Moments, gaussian_distance
from nsbgan_infer.evaluation.pictures import PictureSet
from nsbgan_infer.evaluation.scores import (
    LEAST_IN_PART,
    InceptionScore,
    Pool,
    kernel_distance,
    picture_keys,
    precision_recall,
    score_parts,
)

LEAST = 2048  # pictures below which a Frechet distance says more about their number than about their quality
GALLERY = 1024  # pictures kept for MS-SSIM


@dataclass(frozen=True)
class Measure:
    """`judge` is pixels or one of those that `load_judges` knows; `needs` what is gathered; `real`: whether real
    pictures count."""

    judge: str
    needs: str
    real: bool


MEASURES = {
    "fid": Measure("inception", "moments", True),
    "is": Measure("inception", "score", False),
    "kid": Measure("inception", "pool", True),
    "pr": Measure("inception", "pool", True),
    "fd-lite0": Measure("lite0", "moments", True),
    "is-lite0": Measure("lite0", "score", False),
    "fd-lite2": Measure("lite2", "moments", True),
    "is-lite2": Measure("lite2", "score", False),
    "share-lite0": Measure("lite0", "share", False),
    "share-lite2": Measure("lite2", "share", False),
    "share-lite0-imagenet": Measure("lite0-imagenet", "share", False),  # after ImageNet's mean and deviation
    "share-lite2-imagenet": Measure("lite2-imagenet", "share", False),
    "swd": Measure("pixels", "patches", True),
    "ms-ssim": Measure("pixels", "gallery", False),
}


@dataclass
class Share:
    """How many pictures of each class a judge gave to it, the largest logit among the classes `among`."""

    among: tuple[int, ...]
    right: Counter[int | None] = field(default_factory=Counter)
    seen: Counter[int | None] = field(default_factory=Counter)

    def update(self, logits: Tensor, classes: Sequence[int | None]) -> None:
        """Add logits (B, 1000) of pictures of `classes`."""
        given = logits.cpu()[:, list(self.among)].argmax(1).tolist()
        self.right.update(c for g, c in zip(given, classes, strict=True) if self.among[g] == c)
        self.seen.update(classes)

    def result(self) -> dict[str, float]:
        """`value`, of all pictures, and `class N` of those of each class that was seen."""
        classes = sorted(c for c in self.seen if c is not None)
        by_class = {f"class {c}": self.right[c] / self.seen[c] for c in classes}
        return {"value": self.right.total() / self.seen.total(), **by_class}


@dataclass
class Judged:
    """What one judge says of one set: those parts that the measures need."""

    info: ClassifierInfo
    moments: Moments | None = None
    score: InceptionScore | None = None
    pool: Pool | None = None
    share: Share | None = None


@dataclass
class Gathered:
    """Everything that one pass over a set collects. `digest` is the sum of all picture keys, whatever their order."""

    name: str
    prepare: str
    n: int = 0
    side: tuple[int, int] = (0, 0)
    digest: int = 0
    classes: tuple[int | None, ...] = ()
    left_out: Mapping[str, int] = field(default_factory=dict)
    judged: dict[str, Judged] = field(default_factory=dict)
    patches: PatchSets | None = None
    gallery: Pool | None = None
    gallery_classes: Pool | None = None

    def describe(self) -> SetDescription:
        """What was seen."""
        known, pixels = count_classes(self.classes), f"pixels:{self.digest:016x}"
        return SetDescription(self.n, *known, sizes_text({self.side}), pixels, self.left_out)


@dataclass(frozen=True)
class Reference:
    """Statistics of real pictures, as `references` stores them: mean and covariance by judge."""

    name: str
    prepare: str
    n: int
    side: tuple[int, int]
    digest: int
    judges: Mapping[str, ClassifierInfo]
    moments: Mapping[str, tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class ImagesReport:
    """`values` by measure; each row holds its figures and the numbers of pictures behind them."""

    fake: str
    real: str | None
    n_fake: int
    n_real: int | None
    values: Mapping[str, Mapping[str, float | int | str]]
    fake_set: SetDescription
    """What was measured."""
    real_set: SetDescription | None = None
    """What it was compared with, unless that was a reference file."""


def check_measures(measures: Collection[str]) -> list[str]:
    """The measures without repetition. Raises UnknownNameError with near names, UsageError for none."""
    for name in measures:
        if name not in MEASURES:
            raise unknown_name("measure", name, MEASURES)
    if not measures:
        raise UsageError(f"Nothing to measure: name at least one of {', '.join(MEASURES)}.")
    return list(dict.fromkeys(measures))


def load_judges(
    measures: Collection[str], *, inception: Path | None = None, device: torch.device | None = None
) -> dict[str, Classifier]:
    """The judges that the measures need. Raises MissingExtraError, CheckpointError or OfflineError."""
    wanted = {MEASURES[m].judge for m in measures}
    loaders: dict[str, Callable[[], Any]] = {
        "inception": lambda: load_fid_inception(inception),
        "lite0": lambda: in_bulk(load_lite0()),
        "lite2": lambda: in_bulk(load_lite2()),
        "lite0-imagenet": lambda: in_bulk(with_imagenet_colours(load_lite0())),
        "lite2-imagenet": lambda: in_bulk(with_imagenet_colours(load_lite2())),
    }
    return {name: load().to(device or "cpu") for name, load in loaders.items() if name in wanted}


def gather(
    pictures: PictureSet,
    measures: Collection[str],
    judges: Mapping[str, Classifier],
    *,
    batch: int = 32,
    progress: Callable[[int], None] | None = None,
) -> Gathered:
    """One pass over `pictures`. Raises ImageFileError for a damaged picture or one of another size."""
    needs = {(MEASURES[m].judge, MEASURES[m].needs) for m in measures}
    found = Gathered(pictures.name, pictures.prepare, classes=pictures.classes, left_out=pictures.left_out)
    for name, judge in judges.items():
        found.judged[name] = Judged(
            judge.info,
            Moments(judge.info.features) if (name, "moments") in needs else None,
            InceptionScore(score_parts(pictures.count)) if (name, "score") in needs else None,
            Pool() if (name, "pool") in needs else None,
            Share(pictures.choices) if (name, "share") in needs else None,
        )
    if ("pixels", "patches") in needs:
        found.patches = PatchSets()
    if ("pixels", "gallery") in needs:
        found.gallery, found.gallery_classes = Pool(GALLERY), Pool(GALLERY)
    for part in pictures.batches(batch):
        _add(found, part, pictures.classes[found.n : found.n + len(part)], judges)
        if progress:
            progress(len(part))
    return found


def _add(found: Gathered, part: Tensor, classes: tuple[int | None, ...], judges: Mapping[str, Classifier]) -> None:
    keys = picture_keys(part)
    found.n += len(part)
    found.side = (part.shape[-1], part.shape[-2])
    found.digest = (found.digest + sum(keys)) % 2**64
    for name, judge in judges.items():
        row, scores = found.judged[name], judge(part.float() / 255)
        if row.moments is not None:
            row.moments.update(scores.features)
        if row.score is not None:
            row.score.update(scores.logits, keys)
        if row.pool is not None:
            row.pool.update(scores.features, keys)
        if row.share is not None:
            row.share.update(scores.logits, classes)
    if found.patches is not None:
        found.patches.update(part, keys)
    if found.gallery is not None and found.gallery_classes is not None:
        found.gallery.update(part, keys)
        found.gallery_classes.update(torch.tensor([-1 if c is None else c for c in classes]), keys)


def evaluate_images(
    fake: PictureSet,
    real: PictureSet | Reference | None,
    measures: Collection[str],
    judges: Mapping[str, Classifier],
    *,
    batch: int = 32,
    allow_small: bool = False,
    progress: Callable[[int], None] | None = None,
) -> tuple[ImagesReport, Gathered | Reference | None]:
    """Measure `fake`, against `real` where a measure needs it; returns the report and what is known of `real`.

    Raises UsageError before any work for fewer than 2,048 pictures without `allow_small`, for a missing `real`, for
    a reference that was made with another resize rule or other judges, and for a share of pictures of unknown class.
    """
    measures = check_measures(measures)
    against = [m for m in measures if MEASURES[m].real]
    _check_numbers(fake, real, against, allow_small)
    if any(MEASURES[m].needs == "share" for m in measures):
        _check_classes(fake)
    if any(MEASURES[m].needs == "score" for m in measures) and fake.count < LEAST_IN_PART:
        raise UsageError(
            f"{fake.name} has {fake.count} pictures, whose score is {fake.count} at most and says nothing: "
            f"give {LEAST_IN_PART} or more, better 50,000."
        )
    if isinstance(real, Reference):
        check_reference(real, fake.prepare, against, judges)
    used = {n: j for n, j in judges.items() if any(MEASURES[m].judge == n for m in measures)}
    fakes = gather(fake, measures, used, batch=batch, progress=progress)
    reals: Gathered | Reference | None = None
    if isinstance(real, PictureSet) and against:
        wanted = {MEASURES[m].judge for m in against}
        used = {n: j for n, j in judges.items() if n in wanted}
        reals = gather(real, against, used, batch=batch, progress=progress)
    elif isinstance(real, Reference):
        reals = real
    if reals is not None and reals.side != fakes.side:
        raise UsageError(
            f"The pictures of {fakes.name} are {fakes.side[0]} x {fakes.side[1]}, those of {reals.name} "
            f"{reals.side[0]} x {reals.side[1]}: bring both to one size with --size."
        )
    values = {m: value(m, fakes, reals) for m in measures}
    seen = reals.describe() if isinstance(reals, Gathered) else None
    name, n = (reals.name, reals.n) if reals else (None, None)
    return ImagesReport(fake.name, name, fakes.n, n, values, fakes.describe(), seen), reals


def value(measure: str, fake: Gathered, real: Gathered | Reference | None) -> dict[str, float | int | str]:
    """The figures of one measure, with their numbers of pictures."""
    row, n = MEASURES[measure], {"n_fake": fake.n, **({"n_real": real.n} if real and MEASURES[measure].real else {})}
    if row.needs == "moments":
        assert real is not None
        judged = fake.judged[row.judge].moments
        assert judged is not None
        return {"value": gaussian_distance(judged.mean, judged.covariance, *real_moments(real, row.judge)), **n}
    if row.needs == "score":
        score = fake.judged[row.judge].score
        assert score is not None
        result = score.result()
        return {"value": result.mean, "deviation": result.deviation, "splits": len(score.counts), **n}
    if row.needs == "share":
        share = fake.judged[row.judge].share
        assert share is not None
        return {**share.result(), "among": len(share.among), **n}
    if row.needs == "gallery":
        assert fake.gallery is not None and fake.gallery_classes is not None
        classes = [None if c < 0 else int(c) for c in fake.gallery_classes.features.tolist()]
        similar = mean_ms_ssim(fake.gallery.features, classes)
        return {"value": similar.mean, "pairs": similar.pairs, "within": similar.within, **n}
    assert isinstance(real, Gathered)
    if row.needs == "patches":
        assert fake.patches is not None and real.patches is not None
        levels = swd(fake.patches, real.patches)
        used = min(fake.patches.n, real.patches.n)
        return {"value": levels.pop("mean"), **{f"level {k}": v for k, v in levels.items()}, "n_used": used, **n}
    a, b = fake.judged[row.judge].pool, real.judged[row.judge].pool
    assert a is not None and b is not None
    if measure == "kid":
        kid = kernel_distance(a.features, b.features)
        return {"value": kid.mean, "deviation": kid.deviation, **n}
    precision, recall = precision_recall(a.features, b.features)
    return {"precision": precision, "recall": recall, "n_used_fake": len(a), "n_used_real": len(b), **n}


def real_moments(real: Gathered | Reference, judge: str) -> tuple[Tensor, Tensor]:
    """Mean (D,) and covariance (D, D) of a set under a judge."""
    if isinstance(real, Reference):
        return real.moments[judge]
    moments = real.judged[judge].moments
    assert moments is not None
    return moments.mean, moments.covariance


def check_reference(
    reference: Reference, prepare: str, measures: Collection[str], judges: Mapping[str, Classifier]
) -> None:
    """Raise UsageError if statistics were made with another resize rule, or lack what the measures need."""
    for measure in measures:
        row = MEASURES[measure]
        if row.needs != "moments":
            raise UsageError(f"The measure {measure} needs the real pictures themselves, not the reference alone.")
        made, now = reference.judges.get(row.judge), judges[row.judge].info
        if made is None:
            raise UsageError(
                f"The reference {reference.name} holds nothing for {measure}: make it again with --measures {measure}."
            )
        if (made.name, made.resize, reference.prepare) != (now.name, now.resize, prepare):
            raise UsageError(
                f"The reference {reference.name} was made with another resize rule ({reference.prepare}; {made.name}, "
                f"{made.resize}) than asked for now ({prepare}; {now.name}, {now.resize}): give the same --size, or "
                "make it again."
            )


def _check_classes(fake: PictureSet) -> None:
    if None in fake.classes:
        raise UsageError(
            f"{fake.name} does not tell the class of every picture, which a share needs: give preset:NAME, what "
            "`nsbgan generate` wrote, or folders named by WordNet id (n02099601)."
        )
    if len(fake.choices) < 2:
        raise UsageError(f"{fake.name} has one class alone, and a share says nothing then: give pictures of several.")


def _check_numbers(
    fake: PictureSet, real: PictureSet | Reference | None, against: Collection[str], allow_small: bool
) -> None:
    if against and real is None:
        raise UsageError(f"The measure {next(iter(against))} needs real pictures: give them with --real.")
    sets = [(fake.name, fake.count)]
    if isinstance(real, PictureSet) and against:
        sets.append((real.name, real.count))
    elif isinstance(real, Reference):
        sets.append((real.name, real.n))
    for name, count in sets:
        if count < LEAST and not allow_small:
            raise UsageError(
                f"{name} has {count} pictures, and below {LEAST} the figures say more about their number than about "
                "their quality: give more, or add --allow-small."
            )

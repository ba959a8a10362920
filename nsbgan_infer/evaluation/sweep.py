"""Truncation and rejection sweeps: Frechet distance against score, with every judged picture cached by its recipe.

First the truncations; then, at the truncation with the lowest distance, the rejection thresholds (paper, appendix B).
All thresholds share one pool of draws: attempt k of a wish is drawn once, and each threshold takes the first attempt
that reaches it. What is judged is kept in small files named by the hash of everything that decides it (weights,
seeds, classes, truncation, judges), so a sweep that was stopped goes on where it was, and a second run costs nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from nsbgan_infer.classes import NUM_CLASSES
from nsbgan_infer.components import weights_sha256
from nsbgan_infer.encoders import encoder_config
from nsbgan_infer.engines.graph import Engined
from nsbgan_infer.errors import UsageError
from nsbgan_infer.evaluation.features import Classifier, to_8_bit
from nsbgan_infer.evaluation.frechet import Moments, gaussian_distance
from nsbgan_infer.evaluation.images import load_judges
from nsbgan_infer.evaluation.scores import InceptionScore, picture_keys
from nsbgan_infer.files import atomic_path, writable_folder
from nsbgan_infer.latents import TruncationMode
from nsbgan_infer.pipeline import NsbPipeline, Request
from nsbgan_infer.registry import load_classifier
from nsbgan_infer.samplers.rejection import Rule, Wish, attempt_seed, scores

CHUNK = 250  # pictures judged between two saves
TRUNCATIONS = (0.2, 0.4, 0.6, 0.8, 1.0)
THRESHOLDS = (0.70, 0.80, 0.90, 0.95)  # the paper's


@dataclass(frozen=True)
class Judges:
    """`distance` gives the features and logits that are measured, `rejection` the probabilities that are judged (the
    same object: asked once). `key` is inception, lite0 or lite2, `name` how its distance is called: FID, FD-lite0."""

    key: str
    name: str
    distance: Classifier
    rejection: Classifier


@dataclass(frozen=True)
class Point:
    """One point: `fd` and `score` (with its deviation over splits) of `n` pictures at a truncation and a rejection
    threshold (None: all pictures). `share` of them is given to the class asked for, by the judge of the distance if it
    knows the 1000 classes, else by the classifier of rejection; `draws` is how many pictures were drawn for each that
    was kept; `short` how many wishes stayed without a picture."""

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


@dataclass
class Judged:
    """Pictures as the judges saw them: `features` (n, D), `logits` (n, C), `label` and `best` probability (n,), `right`
    (n,) whether the class asked for has the largest one, `keys` of the pictures."""

    features: Tensor
    logits: Tensor
    label: Tensor
    best: Tensor
    right: Tensor
    keys: list[int]

    def __len__(self) -> int:
        return len(self.keys)

    def __getitem__(self, rows: list[int]) -> Judged:
        at, keys = torch.tensor(rows, dtype=torch.long), [self.keys[i] for i in rows]
        return Judged(self.features[at], self.logits[at], self.label[at], self.best[at], self.right[at], keys)

    @classmethod
    def join(cls, parts: Sequence[Judged]) -> Judged:
        """All parts in a row."""

        def column(name: str) -> Tensor:
            return torch.cat([getattr(p, name) for p in parts])

        keys = [k for p in parts for k in p.keys]
        return cls(column("features"), column("logits"), column("label"), column("best"), column("right"), keys)


@dataclass(frozen=True)
class Studio:
    """Draws and judges pictures of one pipeline, through a cache in `folder`.

    `resolution` None means the pipeline's last. `progress` is told how many pictures are done.
    """

    pipeline: NsbPipeline
    judges: Judges
    folder: Path
    truncation_mode: TruncationMode | None = None
    resolution: int | None = None
    batch: int = 8
    progress: Callable[[int], None] | None = None
    _hashes: dict[str, Any] = field(default_factory=dict)

    def judged(self, wishes: Sequence[Wish], truncation: float) -> Judged:
        """The wishes' pictures, judged: from the cache where they are there."""
        writable_folder(self.folder, what="cache of judged pictures")
        parts = []
        for start in range(0, len(wishes), CHUNK):
            chunk = wishes[start : start + CHUNK]
            file = self.folder / f"{self._key(chunk, truncation)}.safetensors"
            found = _load(file)
            if found is None or len(found) != len(chunk):
                _save(self._judge(chunk, truncation), file)
                found = _load(file)  # rounded as a second run will read it
                assert found is not None
            parts.append(found)
            if self.progress:
                self.progress(len(chunk))
        return Judged.join(parts)

    def _judge(self, wishes: Sequence[Wish], truncation: float) -> Judged:
        classes = self.pipeline.sampler.info.classes
        label_rule, best_rule = (Rule(0, mode, classes=classes) for mode in ("label", "max"))
        columns: list[list[Tensor]] = [[] for _ in range(5)]
        keys: list[int] = []
        for pictures, part in self._draw(wishes, truncation):
            measured = self.judges.distance(pictures)
            same = self.judges.rejection is self.judges.distance
            logits = measured.logits if same else self.judges.rejection(pictures).logits
            best = scores(logits, part, best_rule)
            label = best if classes is None else scores(logits, part, label_rule)
            right = label >= best
            if classes is not None and not same and measured.logits.shape[1] == NUM_CLASSES:
                right = scores(measured.logits, part, label_rule) >= scores(measured.logits, part, best_rule)
            rows = (measured.features, measured.logits, label, best, right)
            for column, row in zip(columns, rows, strict=True):
                column.append(row.cpu())
            keys += picture_keys(to_8_bit(pictures))
        features, logits, label, best, right = (torch.cat(c) for c in columns)
        return Judged(features.float(), logits.float(), label, best, right, keys)

    def _draw(self, wishes: Sequence[Wish], truncation: float) -> Iterator[tuple[Tensor, list[Wish]]]:
        stream = self.pipeline.stream(
            [Request(w.class_id, w.seed) for w in wishes],
            truncation=truncation,
            truncation_mode=self.truncation_mode,
            resolution=self.resolution,
            batch_size=self.batch,
        )
        for output in stream:
            yield output.tensors, [Wish(r.class_id, r.seed) for r in output.requests]

    def _key(self, wishes: Sequence[Wish], truncation: float) -> str:
        """The hash of everything that decides what the judges say."""
        line, judges = self.pipeline, self.judges
        if not self._hashes:
            self._hashes["sampler"] = [line.sampler.info.name, _identity(line.sampler)]
            self._hashes["decoders"] = [[s.decoder.info.name, _identity(s.decoder)] for s in line.stages]
            self._hashes["encoders"] = [s.encoder and encoder_config(s.encoder) for s in line.stages]
        about = {
            **self._hashes,
            "judges": [asdict(judges.distance.info), asdict(judges.rejection.info)],
            "classes": line.sampler.info.classes,
            "truncation": [truncation, self.truncation_mode or line.sampler.info.truncation_mode],
            "resolution": self.resolution or line.resolutions[-1],
            "dtype": str(line.computes_in or line.dtype),
            "engine": line.engine,
            "wishes": [[w.class_id, w.seed] for w in wishes],
        }
        return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:40]


def load_sweep_judges(
    judge: str, *, classifier: str = "efficientnet-lite0", inception: Path | None = None, device: torch.device
) -> Judges:
    """The judge of the distance (lite0 | lite2 | fid) and the classifier of rejection, by registry name.

    Raises UnknownNameError, MissingExtraError, CheckpointError or OfflineError.
    """
    key, name, measure = {
        "lite0": ("lite0", "FD-lite0", "fd-lite0"),
        "lite2": ("lite2", "FD-lite2", "fd-lite2"),
        "fid": ("inception", "FID", "fid"),
    }[judge]
    distance = load_judges([measure], inception=inception, device=device)[key]
    rejection = distance if classifier == f"efficientnet-{judge}" else load_classifier(classifier)
    if isinstance(rejection, nn.Module):
        rejection.to(device)
    return Judges(key, name, distance, rejection)


def sweep(
    studio: Studio,
    wishes: Sequence[Wish],
    real: Real,
    *,
    truncations: Sequence[float] = TRUNCATIONS,
    thresholds: Sequence[float] = THRESHOLDS,
    mode: str = "label",
    max_tries: int = 4,
    note: Callable[[Point], None] | None = None,
) -> Sweep:
    """Measure the wishes at every truncation, then at every threshold at the best one; `note` is told each point.

    Raises UsageError before any work for an empty grid, or thresholds and modes that cannot work.
    """
    if not truncations or not wishes:
        raise UsageError("A sweep needs at least one truncation and one picture.")
    rules = [Rule(t, mode, max_tries, studio.pipeline.sampler.info.classes) for t in thresholds]  # type: ignore[arg-type]
    for rule in rules:
        rule.check(wishes)
    points: list[Point] = []

    def add(point: Point) -> None:
        points.append(point)
        if note:
            note(point)

    for truncation in truncations:
        add(_point(studio.judged(wishes, truncation), real, truncation, labelled=wishes[0].class_id is not None))
    if rules:
        best = min(points, key=lambda p: p.fd).truncation
        for point in _rejected(studio, wishes, real, best, rules):
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
    studio: Studio, wishes: Sequence[Wish], real: Real, truncation: float, rules: Sequence[Rule]
) -> Iterator[Point]:
    """A point for each rule from one pool of draws."""
    strictest = max(rule.threshold for rule in rules)
    pool: list[Judged] = []
    attempts: list[list[int]] = [[] for _ in wishes]  # wish -> rows of the pool, by attempt
    unsettled, rows = list(range(len(wishes))), 0
    for attempt in range(rules[0].max_tries):
        if not unsettled:
            break
        again = [Wish(wishes[i].class_id, attempt_seed(wishes[i].seed, attempt)) for i in unsettled]
        judged = studio.judged(again, truncation)
        value = judged.label if rules[0].mode == "label" else judged.best
        for place, i in enumerate(unsettled):
            attempts[i].append(rows + place)
        rows += len(judged)
        pool.append(judged)
        unsettled = [i for place, i in enumerate(unsettled) if value[place] < strictest]
    joined = Judged.join(pool)
    values = (joined.label if rules[0].mode == "label" else joined.best).tolist()
    for rule in sorted(rules, key=lambda r: r.threshold):
        taken, drawn = [], 0
        for tries in attempts:
            hit = next((n for n, row in enumerate(tries) if values[row] >= rule.threshold), None)
            drawn += len(tries) if hit is None else hit + 1
            if hit is not None:
                taken.append(tries[hit])
        if len(taken) < 2:
            continue
        point = _point(joined[taken], real, truncation, labelled=wishes[0].class_id is not None)
        yield Point(
            truncation, rule.threshold, point.fd, point.score, point.deviation, point.n, point.share,
            drawn / len(taken), len(wishes) - len(taken),
        )  # fmt: skip


def _point(judged: Judged, real: Real, truncation: float, *, labelled: bool) -> Point:
    moments, score = Moments(judged.features.shape[1]), InceptionScore()
    moments.update(judged.features)
    score.update(judged.logits, judged.keys)
    spread = score.result()
    fd = gaussian_distance(moments.mean, moments.covariance, real.mean, real.covariance)
    share = float(judged.right.float().mean()) if labelled else None
    return Point(truncation, None, fd, spread.mean, spread.deviation, len(judged), share, 1.0)


def _identity(part: object) -> str | None:
    """The SHA-256 of a component's file, or of its tensors where it has none; None without weights."""
    found = weights_sha256(part)
    part = part.graph.module if isinstance(part, Engined) else part
    if found or not isinstance(part, nn.Module):
        return found
    digest = hashlib.sha256()
    for name, tensor in sorted(part.state_dict().items()):
        digest.update(name.encode() + tensor.cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _save(judged: Judged, file: Path) -> None:
    tensors = {
        "features": judged.features.half(),
        "logits": judged.logits.half(),
        "label": judged.label,
        "best": judged.best,
        "right": judged.right,
        "keys": torch.tensor([k - 2**64 if k >= 2**63 else k for k in judged.keys]),
    }
    with atomic_path(file) as part:
        save_file({k: v.contiguous() for k, v in tensors.items()}, part)


def _load(file: Path) -> Judged | None:
    """What was kept, None if it is not there or damaged."""
    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as f:
            t = {k: f.get_tensor(k) for k in ("features", "logits", "label", "best", "right", "keys")}
    except (SafetensorError, OSError):
        return None
    keys = [k % 2**64 for k in t["keys"].tolist()]
    return Judged(t["features"].float(), t["logits"].float(), t["label"], t["best"], t["right"], keys)

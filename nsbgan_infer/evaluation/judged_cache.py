"""Pictures of a pipeline, drawn and judged, through a cache.

What is judged is kept in small files named by the hash of everything that decides it (weights, seeds, classes,
truncation, judges), so a sweep that was stopped goes on where it was, and a second run costs nothing.
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
from nsbgan_infer.classifiers.base import Classifier, to_8_bit
from nsbgan_infer.encoders import encoder_config
from nsbgan_infer.engines.graph import Engined
from nsbgan_infer.evaluation.images import load_judges
from nsbgan_infer.evaluation.scores import picture_keys
from nsbgan_infer.pipeline import Drawing, NsbPipeline, Request
from nsbgan_infer.registry import load_classifier
from nsbgan_infer.rejection import Rule, scores
from nsbgan_infer.storage.components import weights_sha256
from nsbgan_infer.storage.files import atomic_path, writable_folder

CHUNK = 250  # pictures judged between two saves


@dataclass(frozen=True)
class Judges:
    """`distance` gives the features and logits that are measured, `rejection` the probabilities that are judged (the
    same object: asked once). `key` is inception, lite0 or lite2, `name` how its distance is called: FID, FD-lite0."""

    key: str
    name: str
    distance: Classifier
    rejection: Classifier


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

    `resolution` None means the pipeline's last. `progress` receives the number of finished pictures.
    """

    pipeline: NsbPipeline
    judges: Judges
    folder: Path
    resolution: int | None = None
    batch: int = 8
    progress: Callable[[int], None] | None = None
    _hashes: dict[str, Any] = field(default_factory=dict)

    def judged(self, requests: Sequence[Request], truncation: float) -> Judged:
        """The requests' pictures, judged: from the cache where they are there."""
        writable_folder(self.folder, what="cache of judged pictures")
        parts = []
        for start in range(0, len(requests), CHUNK):
            chunk = requests[start : start + CHUNK]
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

    def _judge(self, requests: Sequence[Request], truncation: float) -> Judged:
        classes = self.pipeline.sampler.info.classes
        label_rule, best_rule = (Rule(0, mode, classes=classes) for mode in ("label", "max"))
        columns: list[list[Tensor]] = [[] for _ in range(5)]
        keys: list[int] = []
        for pictures, part in self._draw(requests, truncation):
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

    def _draw(self, requests: Sequence[Request], truncation: float) -> Iterator[tuple[Tensor, list[Request]]]:
        for output in self.pipeline.stream(requests, self._drawing(truncation), batch_size=self.batch):
            yield output.tensors, list(output.requests)

    def _drawing(self, truncation: float) -> Drawing:
        return Drawing(truncation, resolution=self.resolution)

    def _key(self, requests: Sequence[Request], truncation: float) -> str:
        """The hash of everything that decides what the judges say."""
        line, judges = self.pipeline, self.judges
        if not self._hashes:
            self._hashes["tensors"] = [_tensors_sha256(p) for p in (line.sampler, *(s.decoder for s in line.stages))]
            self._hashes["encoders"] = [s.encoder and encoder_config(s.encoder) for s in line.stages]
        about = {
            **line.identity(self._drawing(truncation)),
            **self._hashes,
            "judges": [asdict(judges.distance.info), asdict(judges.rejection.info)],
            "classes": line.sampler.info.classes,
            "requests": [[r.class_id, r.seed] for r in requests],
        }
        del about["versions"]  # hours of judging outlast an update that may move a grey level
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


def _tensors_sha256(part: object) -> str | None:
    """The SHA-256 of the tensors of a component that came from no file, which `identity` cannot tell; else None."""
    from_file = weights_sha256(part)
    part = part.graph.module if isinstance(part, Engined) else part
    if from_file or not isinstance(part, nn.Module):
        return None
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

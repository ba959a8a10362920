"""How near do inverted photos come? Beside it, how near the nearest of many drawn pictures of the class happens to be.

Judged by EfficientNet-Lite2's pooled features, which no inversion uses: `ratio` is the distance from the photo to what
its latents give, over that to the nearest of the drawn pictures. `bound` is the same for the photo's own exact sample,
decoded: what latents could reach that give the best possible sample, as far as pixels go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from nsbgan_infer.classifiers.base import Classifier
from nsbgan_infer.datasets import ImageSource
from nsbgan_infer.decoders.anchor import decode_over
from nsbgan_infer.errors import UsageError
from nsbgan_infer.inversion import Freedom, invert
from nsbgan_infer.inversion.photo import reduce_to_sample, working_side
from nsbgan_infer.pipeline import Drawing, NsbPipeline, Request

BATCH = 10
Progress = Callable[[str, int], None]  # what is done, and how many more of it


@dataclass(frozen=True)
class PhotoRow:
    """One photo: distances by the judge, PSNR in dB."""

    name: str
    class_id: int
    found: float
    nearest: float
    bound: float
    psnr: float

    @property
    def ratio(self) -> float:
        """At most 0.5 is the aim."""
        return self.found / self.nearest


def measure_photos(
    pipeline: NsbPipeline,
    source: ImageSource,
    judge: Classifier,
    *,
    drawn: int = 100,
    steps: int,
    freedom: Freedom,
    drawer: NsbPipeline | None = None,
    progress: Progress = lambda _what, _more: None,
) -> Iterator[PhotoRow]:
    """A row for each photo, whose class is that of its path. `drawer` draws the pictures that are compared (default:
    the pipeline; an engine may be faster). Raises UsageError for photos of unknown or other classes."""
    available = pipeline.sampler.info.classes or ()
    for name, class_id in zip(source.names, source.classes, strict=True):
        if class_id not in available:
            raise UsageError(f"{name} is of no class that {pipeline.sampler.info.name} draws: leave it out.")
    kept: dict[int, Tensor] = {}
    drawer = drawer or pipeline
    for index, (name, class_id) in enumerate(zip(source.names, source.classes, strict=True)):
        assert class_id is not None
        if class_id not in kept:
            kept[class_id] = drawn_features(drawer, class_id, drawn, judge, working_side(pipeline), progress)
        found = invert(source.image(index), pipeline, class_id=class_id, steps=steps, freedom=freedom)
        wanted = judge(found.photo).features
        exact = decode_exact(pipeline, found.photo)
        yield PhotoRow(
            name,
            class_id,
            float((judge(found.picture).features - wanted).norm()),
            float((kept[class_id] - wanted).norm(dim=1).min()),
            float((judge(exact).features - wanted).norm()),
            found.after.psnr,
        )
        progress("photos", 1)


def measure_own(
    pipeline: NsbPipeline, count: int, *, steps: int, freedom: Freedom, progress: Progress = lambda _what, _more: None
) -> list[float]:
    """The PSNR (dB) with which `count` drawn pictures, seeds from 1000 on, classes in turn, are given back."""
    classes: Sequence[Any] = pipeline.sampler.info.classes or (None,)
    found = []
    for i in range(count):
        request = Request(classes[i % len(classes)], 1000 + i)
        image = next(pipeline.stream([request], Drawing(resolution=working_side(pipeline)))).images[0]
        result = invert(image, pipeline, class_id=request.class_id, steps=steps, freedom=freedom)
        found.append(result.after.psnr)
        progress("own pictures", 1)
    return found


def drawn_features(
    pipeline: NsbPipeline, class_id: int, count: int, judge: Classifier, side: int, progress: Progress
) -> Tensor:
    """The judge's features of the pictures with seeds 0 to `count` - 1: (count, D)."""
    requests = [Request(class_id, seed) for seed in range(count)]
    features = []
    for output in pipeline.stream(requests, Drawing(resolution=side), batch_size=min(BATCH, count)):
        features.append(judge(output.tensors).features)
        progress("drawn pictures", len(output.requests))
    return torch.cat(features)


@torch.no_grad()
def decode_exact(pipeline: NsbPipeline, photo: Tensor) -> Tensor:
    """The photo reduced to a sample and decoded: (1, 3, S, S)."""
    x = reduce_to_sample(pipeline, photo)
    for stage, came in zip(pipeline.stages, pipeline.reductions, strict=True):
        if x.shape[-1] >= photo.shape[-1]:
            break
        x = decode_over(stage.decoder, stage.encoder(x) if stage.encoder else x, came.anchor).float()
    return x


def summary(rows: Sequence[PhotoRow], own: Sequence[float]) -> dict[str, Any]:
    """The figures as JSON values."""
    value: dict[str, Any] = {"photos": len(rows), "own": len(own)}
    if rows:
        value |= {
            "ratio": mean(r.ratio for r in rows),
            "at_most_half": sum(r.ratio <= 0.5 for r in rows),
            "bound_ratio": mean(r.bound / r.nearest for r in rows),
            "psnr": mean(r.psnr for r in rows),
        }
    if own:
        value |= {"own_psnr": mean(own), "own_lowest": min(own), "own_from_30": sum(p >= 30 for p in own)}
    return value

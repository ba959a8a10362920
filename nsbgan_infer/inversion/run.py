"""From a photo back to latents: a first guess by an inverter, refined by gradient through the pipeline.

A photo is made a square and reduced to what the sampler emits. The guess is a vector of the sampler
(`samplers.vectors`) and is moved until the sample, and at the end the decoded picture, is near the photo: in its
pixels, and in what EfficientNet-Lite0 and -Lite1 see. Where a vector cannot reach the photo, what it gives inside the
sampler may be moved too (`Freedom`). Spec-seeds 4.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import torch
from PIL import Image
from torch import Tensor

from nsbgan_infer.classes import find_class
from nsbgan_infer.errors import UsageError
from nsbgan_infer.inversion.photo import read_square, working_side
from nsbgan_infer.inversion.search import Distances, Freedom, Search
from nsbgan_infer.inverters.base import Inverter
from nsbgan_infer.latents import Latents, draw_latents
from nsbgan_infer.latents.file import Origin
from nsbgan_infer.photos.reading import Photo
from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.registry import inverter_for, load_classifier, load_inverter
from nsbgan_infer.samplers.vectors import vectors
from nsbgan_infer.storage.components import weights_sha256

STEPS = 80
CLASS_JUDGE = "efficientnet-lite0"
Progress = Callable[[int, int], None]  # steps done, steps in all


@dataclass(frozen=True)
class Inversion:
    """A photo's latents, and how near they come."""

    latents: Latents
    """Of one image; `pipeline(latents=...)` draws it, `latents_file.save_latents` keeps it."""
    origin: Origin
    class_id: int | None
    certainty: float | None
    """Probability of the class, where it was guessed."""
    inverter: str | None
    """What made the first guess; None: the mean of drawn vectors."""
    before: Distances
    """The first guess."""
    after: Distances
    picture: Tensor
    """(1, 3, S, S) float32: what the latents give."""
    photo: Tensor
    """(1, 3, S, S) float32 in [0, 1]: the square of the photo that was looked for."""


def invert(
    photo: str | Path | Photo | Image.Image,
    pipeline: NsbPipeline,
    *,
    class_id: int | None = None,
    inverter: Inverter | str | None = None,
    steps: int = STEPS,
    freedom: Freedom = "pixels",
    seed: int = 0,
    progress: Progress | None = None,
) -> Inversion:
    """The latents from which `pipeline` draws a picture like the photo, whose central square is taken.

    `class_id`: None lets EfficientNet-Lite0 guess among the sampler's classes. `inverter`: None is the one that ships
    for the sampler, or the mean of drawn vectors where none does. `steps` 0 keeps the first guess. `freedom`: what may
    be moved, `vector` alone, also what it gives inside the sampler (`layers`), or the sample itself at last (`pixels`).
    Samplers without `SamplerInfo.offsets` have the vector only. Raises UsageError, ImageFileError, CheckpointError or
    MissingExtraError (extra `train`) before the work, NonFiniteError during it.

    >>> from nsbgan_infer import NsbPipeline
    >>> pipeline = NsbPipeline.from_pretrained("embedded")
    >>> drawn = pipeline("church", seeds=3, resolution=256).images[0]
    >>> found = invert(drawn, pipeline, class_id=497, steps=0)
    >>> found.latents.z.shape, found.inverter
    (torch.Size([1, 256]), 'invert-embedded-w-64')
    """
    work = invert_in_steps(
        photo, pipeline, class_id=class_id, inverter=inverter, steps=steps, freedom=freedom, seed=seed
    )
    while True:
        try:
            done = next(work)
        except StopIteration as finished:
            found: Inversion = finished.value
            return found
        if progress:
            progress(done, steps)


def invert_in_steps(
    photo: str | Path | Photo | Image.Image,
    pipeline: NsbPipeline,
    *,
    class_id: int | None = None,
    inverter: Inverter | str | None = None,
    steps: int = STEPS,
    freedom: Freedom = "pixels",
    seed: int = 0,
) -> Generator[int, None, Inversion]:
    """`invert` as a generator of steps done, for whoever may want to stop between two of them."""
    if steps < 0 or freedom not in get_args(Freedom):
        raise UsageError(f"steps is at least 0, and freedom one of {', '.join(get_args(Freedom))}.")
    if pipeline.engine != "eager":
        raise UsageError(f"An inversion needs gradients, which the engine {pipeline.engine} has not: use eager.")
    guesser = find_inverter(pipeline, inverter)
    side = working_side(pipeline)
    picture = read_square(photo, side).to(pipeline.device)
    certainty = None
    if class_id is None and pipeline.sampler.info.classes is not None:
        class_id, certainty = guess_class(pipeline, picture)
    blank = blank_latents(pipeline, class_id, seed)
    search = Search(pipeline, picture, freedom)
    with torch.no_grad():
        vector = guesser(search.sample, blank.y.to(pipeline.device)) if guesser else mean_vector(pipeline, blank)
    first = search.finish(vector, None, blank)
    before = search.distances(search.draw_whole(first))
    latents = (yield from search.refine(vector, blank, steps)) if steps else first
    made = search.draw_whole(latents)
    return Inversion(
        latents.to(torch.device("cpu")),
        origin_of(pipeline),
        class_id,
        certainty,
        guesser.info.name if guesser else None,
        before,
        search.distances(made),
        made.cpu(),
        picture.cpu(),
    )


def guess_class(pipeline: NsbPipeline, picture: Tensor) -> tuple[int, float]:
    """The class among the sampler's that EfficientNet-Lite0 gives the most, and how much. Raises UsageError."""
    info = pipeline.sampler.info
    assert info.classes is not None
    if info.labels != "imagenet":
        raise UsageError(f"The classes of {info.name} have no names, so they cannot be guessed: give the class.")
    judge = load_classifier(CLASS_JUDGE)
    chances = judge(picture).logits[0, list(info.classes)].float().softmax(0)
    best = int(chances.argmax())
    return info.classes[best], float(chances[best])


def find_inverter(pipeline: NsbPipeline, given: Inverter | str | None) -> Inverter | None:
    """The inverter of a pipeline's sampler: the one given, else the one that ships for these weights, if any.

    Raises UsageError for one that belongs to another sampler.
    """
    info, weights = pipeline.sampler.info, weights_sha256(pipeline.sampler)
    name = inverter_for(info.name) if given is None else given
    if name is None:
        return None
    found = load_inverter(name) if isinstance(name, str) else name
    about = found.info
    if (about.sampler, about.resolution, about.makes) != (info.name, info.resolution, info.makes) or (
        about.weights and weights and about.weights != weights
    ):
        if given is None:
            return None  # other weights of that name: those that ship know nothing of them
        raise UsageError(
            f"The inverter {about.name} was trained for {about.sampler} (weights {about.weights[:12] or 'unknown'}), "
            f"not for {info.name} (weights {(weights or 'unknown')[:12]}): train one with `nsbgan train inverter`."
        )
    if isinstance(found, torch.nn.Module):
        found.to(pipeline.device)
    return found


def blank_latents(pipeline: NsbPipeline, class_id: int | None, seed: int) -> Latents:
    """Latents of a class whose z is still to be found. Raises UsageError for a class that the sampler has not."""
    info = pipeline.sampler.info
    if (class_id is None) != (info.classes is None):
        raise UsageError(f"The sampler {info.name} draws {'without classes' if info.classes is None else 'classes'}.")
    if class_id is not None and info.classes is not None and class_id not in info.classes:
        named = find_class(class_id).name if info.labels == "imagenet" else "unknown"
        raise UsageError(f"The sampler {info.name} cannot draw class {class_id} ({named}): choose one that it has.")
    truncation = 1.0 if info.truncates == "w" else info.truncation  # w is found, not pulled to its mean
    return draw_latents(
        [seed], [class_id], z_dim=info.z_dim, truncation=truncation, mode=info.truncation_mode, truncates=info.truncates
    )


def redraw_as(pipeline: NsbPipeline, latents: Latents, class_id: int) -> Latents:
    """Latents of the same pictures as another class, as near as may be; what an inversion moved beside z is left out.

    Raises UsageError for a class that the sampler has not.
    """
    y = blank_latents(pipeline, class_id, 0).y.expand(len(latents), -1)
    moved = vectors(pipeline.sampler).as_class(latents.to(pipeline.device), y.to(pipeline.device))
    return moved.to(latents.z.device)


def mean_vector(pipeline: NsbPipeline, blank: Latents, count: int = 64) -> Tensor:
    """Where a search without an inverter begins: (1, length), the mean over drawn latents of the same class."""
    info = pipeline.sampler.info
    drawn = draw_latents(
        list(range(count)), [None] * count, z_dim=info.z_dim, truncation=info.truncation, mode=info.truncation_mode,
        truncates=info.truncates,
    )  # fmt: skip
    many = replace(drawn, y=blank.y.expand(count, -1)).to(pipeline.device)
    return vectors(pipeline.sampler).vector_of(many).mean(0, keepdim=True)


def origin_of(pipeline: NsbPipeline) -> Origin:
    """What latents of this pipeline belong to."""
    sampler = pipeline.sampler
    return Origin(pipeline.name, sampler.info.name, weights_sha256(sampler) or "")

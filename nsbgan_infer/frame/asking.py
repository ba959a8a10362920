"""Steps 0 and 1 for one sampler: from classes, mixes of classes and seeds to requests and latents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from nsbgan_infer.classes import NUM_CLASSES, find_class, parse_classes, parse_numbers
from nsbgan_infer.errors import UsageError, WrongTypeError
from nsbgan_infer.frame.calls import Drawing, Mix, Request
from nsbgan_infer.latents import Latents, check_seed, draw_latents
from nsbgan_infer.samplers.base import Sampler, SamplerInfo


def class_ids(info: SamplerInfo, classes: Any) -> list[int | None]:
    """The ids of `classes` (no mixes), each once; one None for a sampler without classes.

    Raises UsageError, UnknownNameError, WrongTypeError.
    """
    items = list(classes) if _is_list(classes) else [] if classes is None else [classes]
    for item in items:
        if isinstance(item, bool) or not isinstance(item, str | int):
            raise WrongTypeError(
                f"A class is an id, a name, a range or a mix, not a {type(item).__name__}: for example 207, "
                "'golden retriever' or {'golden retriever': 0.5, 'church': 0.5}."
            )
    if info.classes is None:
        if items:
            raise UsageError(f"The sampler {info.name} draws without classes: leave out the class.")
        return [None]
    if not items:
        raise UsageError("Which class? Give at least one, for example 207 or 'golden retriever'.")
    numbered = info.labels == "numbers"
    ids = parse_numbers(items, info.classes) if numbered else parse_classes(items, available=info.classes)
    if numbered and not set(ids) <= set(info.classes):
        raise UsageError(f"The sampler {info.name} has the classes 0 to {max(info.classes)}, not {max(ids)}.")
    check_available(ids, info.classes, info.name)
    return list(ids)


def seeds_of(seeds: int | Sequence[int], num_images: int) -> list[int]:
    """A seed for each of the images of a class. Raises UsageError, WrongTypeError."""
    if type(num_images) is not int or num_images < 1:
        raise UsageError(f"{num_images!r} images were asked for: ask for at least 1.")
    if not (isinstance(seeds, int) or (_is_list(seeds) and all(isinstance(s, int) for s in seeds))):
        raise WrongTypeError("Seeds are a whole number, or a list with one for each image of a class.")
    each = [seeds + j for j in range(num_images)] if isinstance(seeds, int) else list(seeds)
    if len(each) != num_images:
        raise UsageError(f"{len(each)} seeds for {num_images} images of each class: give one seed an image.")
    for seed in each:
        check_seed(seed)
    return each


def holds_mix(classes: object) -> bool:
    """Whether a class is a mix of several."""
    return any(isinstance(item, Mapping) for item in (classes if _is_list(classes) else [classes]))  # type: ignore[attr-defined]


def latents_of(info: SamplerInfo, requests: Sequence[Request], drawing: Drawing) -> Latents:
    """The latents of requests. Raises UsageError as `draw_latents`."""
    return draw_latents(
        [r.seed for r in requests],
        [r.class_id for r in requests],
        z_dim=info.z_dim,
        truncation=info.truncation if drawing.truncation is None else drawing.truncation,
        mode=drawing.mode or info.truncation_mode,
        truncates=info.truncates,
    )


def mixed_latents(info: SamplerInfo, classes: Any, seeds: Sequence[int], drawing: Drawing) -> Latents:
    """The latents of classes and mixes, each with all the seeds. Raises as `class_ids` and `shares_of`."""
    shares: list[dict[int, float]] = []
    for item in classes if _is_list(classes) else [classes]:
        if isinstance(item, Mapping):
            shares.append(shares_of(info, item))
        else:
            shares += [{} if c is None else {c: 1.0} for c in class_ids(info, item)]
    most = [max(share, key=share.__getitem__) if share else None for share in shares]
    latents = latents_of(info, [Request(c, seed) for c in most for seed in seeds], drawing)
    for rows, share in zip(torch.split(latents.y, len(seeds)), shares, strict=True):
        for class_id, weight in share.items():
            rows[:, class_id] = weight
    return latents


def shares_of(info: SamplerInfo, mix: Mix) -> dict[int, float]:
    """A mix by class id, its shares divided by their sum. Raises UsageError for what are no shares."""
    if info.classes is None:
        raise UsageError(f"The sampler {info.name} draws without classes: there are none to mix.")
    shares: dict[int, float] = {}
    for name, share in mix.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share < float("inf"):
            raise UsageError(f"The share of {name} is {share!r}: give a number of at least 0, such as 0.5.")
        for class_id in class_ids(info, name):
            assert class_id is not None
            shares[class_id] = shares.get(class_id, 0.0) + share
    total = sum(shares.values())
    if not total:
        raise UsageError("A mix needs shares above 0, such as {'golden retriever': 0.5, 'church': 0.5}.")
    return {class_id: share / total for class_id, share in shares.items() if share}


def requests_of(latents: Latents) -> list[Request]:
    """A request for each of the latents: its seed, and the class with the most weight (None without classes)."""
    classes = [int(y.argmax()) if bool((y > 0).any()) else None for y in latents.y]
    return [Request(c, s) for c, s in zip(classes, latents.seeds, strict=False)]  # `check_latents` compares lengths


def check_latents(latents: Latents, sampler: Sampler) -> None:
    """Raise UsageError for latents that `sampler` cannot draw: another length of z, or classes that it has not."""
    if not isinstance(latents, Latents):
        raise WrongTypeError(f"Latents are what `pipeline.latents(...)` returns, not a {type(latents).__name__}.")
    info, (count, length) = sampler.info, latents.z.shape
    if length != info.z_dim:
        raise UsageError(f"The latents have {length} numbers, the sampler {info.name} takes {info.z_dim}.")
    if count != len(latents.seeds) or latents.y.shape != (count, NUM_CLASSES):
        raise UsageError(f"{count} latents need {count} seeds and weights of {NUM_CLASSES} classes each.")
    if latents.offsets is not None and latents.offsets.shape != (count, sum(info.offsets)):
        places = f"takes {sum(info.offsets)}" if sum(info.offsets) else "takes none"
        raise UsageError(f"The latents have {latents.offsets.shape[-1]} offsets, the sampler {info.name} {places}.")
    used = latents.y.ne(0).any(0).nonzero().flatten().tolist()
    if info.classes is None and used:
        raise UsageError(f"The sampler {info.name} draws without classes, but the latents have class {used[0]}.")
    if info.classes is not None:
        if not used:
            raise UsageError(f"The sampler {info.name} draws classes, but the latents have none.")
        check_available(used, info.classes, info.name)


def check_available(ids: Sequence[int], available: Sequence[int], sampler: str) -> None:
    """Raise UsageError for a class that the sampler cannot draw, with the list of those that it can."""
    missing = [i for i in ids if i not in available]
    if missing:
        listed = ", ".join(f"{i} {find_class(i).name}" for i in available[:40])
        raise UsageError(
            f"The sampler {sampler} cannot draw class {missing[0]} ({find_class(missing[0]).name}). It has: {listed}. "
            "For all 1000 classes use --preset pretrained-256-128 (fetches BigGAN's weights, 234 MB)."
        )


def _is_list(classes: object) -> bool:
    return isinstance(classes, Sequence) and not isinstance(classes, str | bytes)

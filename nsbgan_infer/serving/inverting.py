"""One's own photo on the page, found among the pictures of a sampler, and what was found drawn otherwise.

Plain functions of a `Studio`, without gradio. A search writes nothing before it is over.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nsbgan_infer.classes import find_class
from nsbgan_infer.images import save_image, to_pil
from nsbgan_infer.inversion import Freedom, Inversion, invert_in_steps, redraw_as
from nsbgan_infer.inversion.photo import SMALLEST_PHOTO, read_square
from nsbgan_infer.latents import Latents, vary, walk
from nsbgan_infer.latents.file import save_latents
from nsbgan_infer.photos.batch import shorten
from nsbgan_infer.serving import darkroom
from nsbgan_infer.serving.actions import Studio, Walk
from nsbgan_infer.serving.fragments import Card
from nsbgan_infer.serving.problems import PageError, Problem

FIELD = "invert-photo"
LATE_COST = 5  # a step through the decoder costs as much as so many others
SURE = 0.5  # probability from which a class is not doubted
VARIATIONS = 4
FRAMES = 16


@dataclass(frozen=True)
class Found:
    """A photo's latents, and what is shown of them."""

    stem: str
    """The name of the photo's file, short and without its ending."""
    preset: str
    latents: Latents
    report: str
    picture: str
    """The path of what the latents give, with its recipe."""
    file: str
    """The path of the latents."""
    compared: dict[str, Any]
    """The photo's square and the picture, for the page's viewer."""


def look_at(studio: Studio, file: Path) -> darkroom.Looked:
    """A photo as it will be read. Raises PageError: not to be read, too large, or too small."""
    looked = darkroom.look(studio, file, field=FIELD, square=True)
    if min(looked.size) < SMALLEST_PHOTO:
        size = f"{looked.size[0]} x {looked.size[1]} pixels"
        raise PageError(Problem(FIELD, f"{looked.name} has {size}: at least {SMALLEST_PHOTO} a side are needed."))
    return looked


def find_photo(
    studio: Studio, file: Path, preset: str, *, class_id: int | None, steps: int, freedom: Freedom
) -> Generator[int, None, Found]:
    """Search for a photo's latents: tells the steps done, and at the end what was found. `class_id` None: a classifier
    says. Raises PageError and NsbError."""
    photo = darkroom.open_upload(file, field=FIELD)
    pipeline = studio.pipeline(preset)
    found = yield from invert_in_steps(photo, pipeline, class_id=class_id, steps=steps, freedom=freedom)
    output = pipeline(latents=found.latents, progress=False)
    image, stem = output.images[0], shorten(file.stem, 60)
    folder = studio.new_folder()
    picture = folder / f"{stem}_inverted.png"
    save_image(image, picture, recipe=output.recipes[0])
    latents = save_latents(found.latents, folder / f"{stem}.safetensors", found.origin)
    square = to_pil(read_square(photo, image.width))[0]
    sides = [
        darkroom.save_side(studio, square, folder / "photo", "your photo"),
        darkroom.save_side(studio, image, folder / "found", "what came back"),
    ]
    report = f"{distances_text(found, steps)} {class_text(found, len(pipeline.sampler.info.classes or ()))}".strip()
    compared = darkroom.compared(sides, image.size)
    return Found(stem, preset, found.latents, report, str(picture), str(latents), compared)


def distances_text(found: Inversion, steps: int) -> str:
    """Both distances before and after, in one sentence."""
    before, after = found.before, found.after
    if not steps:
        return (
            f"Your photo and the first guess are {after.psnr:.1f} dB alike (more is nearer) and {after.features:.1f} "
            "apart in what a classifier sees (less is nearer)."
        )
    return (
        f"In {steps} steps the likeness to your photo went from {before.psnr:.1f} to {after.psnr:.1f} dB (more is "
        f"nearer), and what a classifier sees from {before.features:.1f} to {after.features:.1f} apart (less is "
        "nearer)."
    )


def class_text(found: Inversion, classes: int) -> str:
    """As which class it was drawn, and how sure the classifier was of it; empty for a sampler without classes."""
    if found.class_id is None:
        return ""
    name = find_class(found.class_id).name
    if found.certainty is None:
        return f"Drawn as {name}."
    if found.certainty >= SURE:
        return f"Drawn as {name}, which a classifier took it for ({found.certainty:.0%} sure)."
    return (
        f"Drawn as {name}, the likeliest of {classes} classes, but only at {found.certainty:.0%}: if you know better, "
        "name the class and search again."
    )


def seconds_left(done: int, steps: int, late: int, seconds: float) -> float:
    """The time for the rest of a search whose steps after the first took `seconds`; its last `late` steps cost more."""

    def cost(until: int) -> int:
        return until + (LATE_COST - 1) * max(0, until - (steps - late))

    return seconds * (cost(steps) - cost(done)) / max(1, cost(done) - cost(1))


def draw_as(studio: Studio, found: Found, class_id: int) -> Card:
    """The photo as another class."""
    pipeline, c = studio.pipeline(found.preset), find_class(class_id)
    return _draw(studio, found, redraw_as(pipeline, found.latents, class_id), c.slug, f"{found.stem} as {c.name}")


def draw_variations(studio: Studio, found: Found, amount: float, first: int) -> Iterator[Card]:
    """Four variations of the photo, with the seeds from `first` on."""
    for seed in range(first, first + VARIATIONS):
        latents = vary(found.latents, amount, [seed])
        yield _draw(studio, found, latents, f"seed{seed}", f"variation of {found.stem}", seed)


def film_to(studio: Studio, found: Found, class_id: int) -> Iterator[tuple[int, Walk | None]]:
    """The way from the photo to itself as another class, as `Studio.film` tells it."""
    pipeline, c = studio.pipeline(found.preset), find_class(class_id)
    way = walk(found.latents, redraw_as(pipeline, found.latents, class_id), FRAMES)
    about = {"from": {"latents": Path(found.file).name}, "to": {"class": str(class_id)}}
    return studio.film(pipeline, way, about, f"{found.stem}_to_{c.slug}")


def film_between(studio: Studio, first: Found, found: Found) -> Iterator[tuple[int, Walk | None]]:
    """The way from one photo to another of the same preset, as `Studio.film` tells it."""
    about = {"from": {"latents": Path(first.file).name}, "to": {"latents": Path(found.file).name}}
    way = walk(first.latents, found.latents, FRAMES)
    return studio.film(studio.pipeline(found.preset), way, about, f"{first.stem}_to_{found.stem}")


def _draw(studio: Studio, found: Found, latents: Latents, what: str, label: str, seed: int | None = None) -> Card:
    output = studio.pipeline(found.preset)(latents=latents, progress=False)
    path = studio.new_folder() / f"{found.stem}_{what}.png"
    save_image(output.images[0], path, recipe=output.recipes[0])
    return Card(studio.url(path), path.name, label, seed, output.images[0].width)

"""What the web page can do with classes, as plain functions of a `Studio`: no gradio here, so tests call it directly.

One pipeline is kept loaded per (preset, decoder), four at most. Every call writes into a folder of its own, so two
browsers never mix, and a folder goes after a day. Errors are the package's own sentences.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from nsbgan_infer.classes import NUM_CLASSES, find_class
from nsbgan_infer.classifiers.base import Classifier, ClassifierInfo, Scores
from nsbgan_infer.devices import pick_device
from nsbgan_infer.encoders.lifting import dwt2
from nsbgan_infer.errors import NsbError
from nsbgan_infer.images import EXIF_DESCRIPTION, file_name, save_image, to_pil
from nsbgan_infer.latents import LAST_SEED, Latents, join_latents, walk
from nsbgan_infer.pipeline import Drawing, NsbPipeline, Output, Progress, Request
from nsbgan_infer.presets import PRESETS
from nsbgan_infer.registry import entries, load_classifier
from nsbgan_infer.rejection import Rule, Tally, rejected_outputs
from nsbgan_infer.serving import choices
from nsbgan_infer.serving.clock import Clock
from nsbgan_infer.serving.fragments import Card
from nsbgan_infer.serving.problems import ask_classes, typed
from nsbgan_infer.serving.settings import Settings

MOST_TRIES = 20  # draws for each picture under rejection
FILM_SIDE = 512  # pixels of a walk's frames, or the largest that the pipeline makes
THUMB = 96  # pixels of a class's picture
STEPS_AWAY = 4  # a picture like another lies a third of the way to a third one
KEPT = 24 * 3600  # seconds that a folder stays while the page is served
MADE = "made"  # the folder of what is made, and where the page serves it
BANDS = ("across (cH)", "along (cV)", "diagonal (cD)")
WALK_KEY = "nsbgan-walk"  # before a walk's recipe in its file's image description


@dataclass(frozen=True)
class Finished:
    """Pictures made so far, of `total`, and one line on the time of each step and on rejection."""

    files: tuple[str, ...]
    cards: tuple[Card, ...]
    total: int
    report: str


@dataclass(frozen=True)
class Walk:
    """A walk's animation: its file, side, and recipe."""

    file: str
    side: int
    recipe: dict[str, Any]


class Studio:
    """Loads pipelines on demand and makes pictures with them, in files below `folder`."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="nsbgan-demo-"))
        self.made = self.folder / MADE
        self._pipeline = lru_cache(maxsize=4)(self._load)
        self._drawing_thumbs, self._closed = threading.Lock(), threading.Event()

    def close(self) -> None:
        """Remove every file that was made."""
        self._closed.set()
        with self._drawing_thumbs:  # the one that is being drawn
            shutil.rmtree(self.folder, ignore_errors=True)

    def pipeline(self, preset: str, decoder: str = "") -> NsbPipeline:
        """The pipeline of a preset with its own decoders, or another one in every stage."""
        return self._pipeline(preset, decoder)

    def presets(self) -> Mapping[str, str]:
        """The presets on offer, with what is said of them."""
        return choices.presets()

    def decoders(self, preset: str) -> Mapping[str, str]:
        """The decoders that fit a preset, with what is said of them."""
        return choices.decoders(preset)

    def invertible(self) -> Mapping[str, str]:
        """The presets on offer whose latents of a photo can be found."""
        return choices.invertible()

    def to_fetch(self, preset: str) -> str | None:
        """How much would be fetched before a preset can draw, None for nothing."""
        return choices.to_fetch(preset)

    def available(self, preset: str) -> tuple[int, ...] | None:
        """The classes that a preset draws, None for one without classes. Nothing is fetched: the released samplers
        draw every class."""
        if entries("sampler")[PRESETS[preset].sampler].source == "released":
            return tuple(range(NUM_CLASSES))
        return self.pipeline(preset).sampler.info.classes

    @cached_property
    def known(self) -> tuple[int, ...]:
        """The classes that `thumb` can show."""
        return self.pipeline("embedded", "iwt").sampler.info.classes or ()

    def thumb(self, class_id: int) -> Path | None:
        """A small picture of a class by the embedded sampler, None for one that it does not know, or once closed.

        Made once, without a trained decoder for speed.
        """
        if class_id not in self.known:
            return None
        path = self.folder / "thumbs" / f"{class_id}.webp"
        with self._drawing_thumbs:
            if not path.exists() and not self._closed.is_set():
                artist = self.pipeline("embedded", "iwt")
                made = artist(class_id, seeds=2, truncation=0.5, resolution=min(artist.resolutions), progress=False)[0]
                path.parent.mkdir(parents=True, exist_ok=True)
                save_image(made.resize((THUMB, THUMB), Image.Resampling.LANCZOS), path, quality=85)
            return path if path.exists() else None

    def draw_thumbs(self) -> None:
        """Draw the pictures of all classes, so that the first visitor need not wait for them.

        Ends when closed, and where a picture cannot be made or kept: whoever asks for it is told.
        """
        for class_id in self.known:
            if self._closed.is_set():
                return
            try:
                self.thumb(class_id)
            except (NsbError, OSError):
                return

    def generate(
        self,
        preset: str,
        classes: Sequence[str],
        *,
        seed: int,
        count: int,
        truncation: float,
        decoder: str = "",
        threshold: float = 0.0,
        like: str = "",
        progress: Progress | None = None,
    ) -> Iterator[Finished]:
        """Make `count` images of each class one after the other; each step tells what is finished.

        `threshold` above 0: draw each again, up to 20 times, until a classifier gives its class that probability.
        `like`: near the image of the class and the seed instead; the numbers say which (`draw_near`).
        """
        pipeline = self.pipeline(preset, decoder)
        asked = list(classes) if pipeline.sampler.info.classes is not None else None
        requests = pipeline.requests(asked, count, seeds=seed)
        latents = draw_near(pipeline, requests[::count], count, like, truncation) if like else None
        if latents is not None:
            requests = [Request(r.class_id, seed) for r in requests]
        folder, clock, tally = self.new_folder(), Clock(), Tally()
        files: list[str] = []
        cards: list[Card] = []

        def step(name: str, done: int, total: int) -> None:
            clock.mark(name)
            if progress:
                progress(name, len(files), len(requests))

        for output, note in _made(pipeline, requests, latents, truncation, threshold, step, clock, tally):
            recipe, request = output.recipes[0], output.requests[0]
            name = Path(file_name(request.class_id, request.seed, labels=recipe.labels))
            way = nth_near(like, len(files) % count)
            if way:
                name = name.with_stem(f"{name.stem}_like{way.replace('.', '-')}")
            save_image(output.images[0], folder / name, recipe=recipe)
            files.append(str(folder / name))
            called, label = "", ""
            if request.class_id is not None:
                found = find_class(request.class_id)
                called, label = typed(found), found.name
            note = note or (f"variation {way}" if way else "")
            url = self.url(folder / name)
            cards.append(Card(url, name.name, label, request.seed, recipe.resolution, note, called, way))
            clock.mark("write")
            yield Finished(tuple(files), tuple(cards), len(requests), clock.report(len(files)) + _acceptance(tally))

    def generate_as(self, settings: Settings, progress: Progress | None = None) -> Iterator[Finished]:
        """`generate` as checked settings say. Raises PageError where a class cannot be drawn."""
        return self.generate(
            settings.preset,
            ask_classes(settings.text, self.available(settings.preset)),
            seed=settings.seed,
            count=settings.count,
            truncation=settings.truncation,
            decoder=settings.decoder,
            threshold=settings.threshold,
            like=settings.like,
            progress=progress,
        )

    def archive(self, files: Sequence[str]) -> str:
        """The address of one file with all of `files`, of one folder, in it."""
        path = Path(files[0]).parent / "pictures.zip"
        with zipfile.ZipFile(path, "w") as together:
            for file in files:
                together.write(file, Path(file).name)
        return self.url(path)

    def stages(
        self, preset: str, class_name: str, *, seed: int, truncation: float, decoders: tuple[str, str]
    ) -> tuple[list[tuple[Image.Image, str]], Image.Image, Image.Image]:
        """Every intermediate of one image with its details, and the pictures of two decoders on the same latents."""
        shown: list[tuple[Image.Image, str]] = []
        finals = []
        for number, decoder in enumerate(decoders):
            pipeline = self.pipeline(preset, decoder)
            asked = None if pipeline.sampler.info.classes is None else class_name
            output = pipeline(asked, seeds=seed, truncation=truncation, keep_steps=True, progress=False)
            finals.append(output.images[0])
            if number == 0:
                shown = [(to_pil(t)[0], f"{name} ({t.shape[-1]})") for name, t in output.steps.items()]
                shown += _details(output.tensors)
        return shown, finals[0], finals[1]

    def walk(
        self, preset: str, start: tuple[str, int], end: tuple[str, int], *, steps: int, truncation: float
    ) -> Iterator[tuple[int, Walk | None]]:
        """Walk from (class, seed) to (class, seed): yields frames done, and at the end the animated WebP, its recipe
        inside."""
        pipeline = self.pipeline(preset)
        ends = [
            pipeline.latents(pipeline.requests(name or None, seeds=seed), Drawing(truncation))
            for name, seed in (start, end)
        ]
        recipe = {
            "from": {"class": start[0], "seed": start[1]},
            "to": {"class": end[0], "seed": end[1]},
        }
        yield from self.film(pipeline, walk(ends[0], ends[1], steps), recipe)

    def film(
        self, pipeline: NsbPipeline, latents: Latents, about: Mapping[str, Any], name: str = "walk"
    ) -> Iterator[tuple[int, Walk | None]]:
        """The pictures of `latents` as an animated WebP there and back, in which its recipe is, `about` first: yields
        frames done, and the file at the end."""
        side = min((r for r in pipeline.resolutions if r >= FILM_SIDE), default=max(pipeline.resolutions))
        frames: list[Image.Image] = []
        for i in range(len(latents)):
            *_, (_name, picture) = pipeline.steps(latents[i : i + 1], resolution=side)
            frames += to_pil(picture)
            yield i + 1, None
        drawing = Drawing(latents.truncation, latents.mode, side)
        recipe = {**about, "frames": len(latents), "identity": pipeline.identity(drawing)}
        path = self.new_folder() / f"{name}.webp"
        exif = Image.Exif()
        exif[EXIF_DESCRIPTION] = f"{WALK_KEY}:{json.dumps(recipe, sort_keys=True, default=str)}"
        there_and_back = frames[1:] + frames[-2:0:-1]
        frames[0].save(path, save_all=True, append_images=there_and_back, duration=80, loop=0, quality=80, exif=exif)
        yield len(latents), Walk(str(path), side, recipe)

    def url(self, path: Path) -> str:
        """Where the page serves a file that was made, relative to the page."""
        return f"{MADE}/{path.relative_to(self.made).as_posix()}"

    def new_folder(self) -> Path:
        """An empty folder for one call. Those older than a day go."""
        self.made.mkdir(parents=True, exist_ok=True)
        for old in self.made.iterdir():
            if time.time() - old.stat().st_mtime > KEPT:
                shutil.rmtree(old, ignore_errors=True)
        return Path(tempfile.mkdtemp(dir=self.made))

    def _load(self, preset: str, decoder: str) -> NsbPipeline:
        return NsbPipeline.from_pretrained(preset, decoder=decoder or None).to(pick_device())


def draw_near(pipeline: NsbPipeline, bases: Sequence[Request], count: int, like: str, truncation: float) -> Latents:
    """`count` latents near those of each of `bases`, which have one class each.

    `like` is a way, such as `7.3`: a third of the distance to the latents of seed 7, from there to those of seed 3, of
    4, and so on.
    """
    drawing, near = Drawing(truncation), []

    def towards(here: Latents, class_id: int | None, seed: int) -> Latents:
        away = pipeline.latents([Request(class_id, seed % (LAST_SEED + 1))], drawing)
        return walk(here, away, STEPS_AWAY)[1:2]

    *before, first = (int(n) for n in like.split("."))
    for base in bases:
        here = pipeline.latents([base], drawing)
        for seed in before:
            here = towards(here, base.class_id, seed)
        near += [towards(here, base.class_id, first + n) for n in range(count)]
    return join_latents(near)


def nth_near(like: str, number: int) -> str:
    """The way to the picture of that number among those of `like`; empty where there is none."""
    *before, first = like.split(".")
    return ".".join([*before, str(int(first) + number)]) if like else ""


class _TimedJudge:
    """A classifier whose time the clock counts as `judge`."""

    def __init__(self, classifier: Classifier, clock: Clock) -> None:
        self.classifier, self.clock = classifier, clock

    @property
    def info(self) -> ClassifierInfo:
        return self.classifier.info

    def __call__(self, pictures: Tensor) -> Scores:
        scores = self.classifier(pictures)
        self.clock.mark("judge")
        return scores


def _made(
    pipeline: NsbPipeline,
    requests: Sequence[Request],
    latents: Latents | None,
    truncation: float,
    threshold: float,
    step: Progress,
    clock: Clock,
    tally: Tally,
) -> Iterator[tuple[Output, str]]:
    """One image after the other with what is to be said of it; under rejection the best one where tries ended."""
    if not threshold or latents is not None:
        drawing = Drawing(truncation) if latents is None else Drawing(truncation, latents.mode)
        for output in pipeline.stream(requests, drawing, latents=latents, progress=step):
            yield output, ""
        return
    judge = _TimedJudge(load_classifier("efficientnet-lite0"), clock)
    rule = Rule(threshold, max_tries=MOST_TRIES)
    for chosen, output in rejected_outputs(
        pipeline, requests, judge, rule, drawing=Drawing(truncation), batch_size=1, progress=step, tally=tally
    ):
        what = f"try {chosen.tries}" if chosen.accepted else f"not accepted, the best of {chosen.tries}"
        yield output, f"{chosen.score:.2f}, {what}"


def _acceptance(tally: Tally) -> str:
    drawn, accepted = sum(tally.drawn.values()), sum(tally.accepted.values())
    return f"; accepted {accepted} of {drawn} drawn ({accepted / drawn:.0%})" if drawn else ""


def _details(picture: Tensor) -> list[tuple[Image.Image, str]]:
    """What the decoder put into the finest level of (1, 3, H, W), each band made visible by a whole factor."""
    shown = []
    for band, name in zip(dwt2(picture)[1][0], BANDS, strict=True):  # (3, 3, h, w)
        factor = max(1, round(0.4 / max(float(band.abs().flatten().quantile(0.999)), 1e-3)))
        shown.append((to_pil((0.5 + factor * band)[None])[0], f"details {name}, x {factor}"))
    return shown

"""What the web page can do, as plain functions of a `Studio`: no gradio here, so tests call it directly.

One pipeline is kept loaded per (preset, decoder), four at most. Every call writes into a folder of its own, so two
browsers never mix. Errors are the package's own sentences.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from torch import Tensor

from nsbgan_infer.classes import NUM_CLASSES
from nsbgan_infer.classifiers.base import Classifier, ClassifierInfo, Scores
from nsbgan_infer.devices import pick_device
from nsbgan_infer.encoders.lifting import dwt2
from nsbgan_infer.engines import place_part
from nsbgan_infer.errors import UsageError
from nsbgan_infer.images import to_pil
from nsbgan_infer.latents import walk
from nsbgan_infer.outputs.writer import ImageWriter
from nsbgan_infer.photos import enlarge_in_steps, open_photo, save_photo
from nsbgan_infer.photos.batch import shorten
from nsbgan_infer.photos.engine import pick_photo_engine
from nsbgan_infer.photos.reading import to_srgb
from nsbgan_infer.photos.resizing import resize, spread_hidden
from nsbgan_infer.pipeline import Drawing, NsbPipeline, Output, Progress, Request
from nsbgan_infer.presets import PRESETS
from nsbgan_infer.registry import entries, load_classifier, load_decoder
from nsbgan_infer.rejection import Rule, Tally, rejected_outputs
from nsbgan_infer.serving.choices import ClassSearch
from nsbgan_infer.serving.clock import Clock
from nsbgan_infer.storage.shipped import default_upscaler

MOST_IMAGES = 64
MOST_TRIES = 20  # draws for each picture under rejection
MOST_PIXELS = 1 << 20  # of a photo to enlarge: 16 times as many come out
FILM_SIDE = 256  # pixels of a walk's frames, or the next larger size that the pipeline makes
BANDS = ("across (cH)", "along (cV)", "diagonal (cD)")


@dataclass(frozen=True)
class Finished:
    """Files made so far, of `total`, a caption for each, and one line on the time of each step and on rejection."""

    files: tuple[str, ...]
    captions: tuple[str, ...]
    total: int
    report: str


class Enlarged(NamedTuple):
    """A photo before, enlarged by plain bicubic, and after, both as sRGB to be shown; its PNG file, and a report."""

    before: Image.Image
    after: Image.Image
    file: str
    report: str


class Studio:
    """Loads pipelines on demand and makes pictures with them, in files below `folder`."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="nsbgan-demo-"))
        self._pipeline = lru_cache(maxsize=4)(self._load)

    def close(self) -> None:
        """Remove every file that was made."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def pipeline(self, preset: str, decoder: str = "") -> NsbPipeline:
        """The pipeline of a preset with its own decoders, or another one in every stage."""
        return self._pipeline(preset, decoder)

    def thumbnails(self, preset: str, text: str) -> list[tuple[Image.Image, str]]:
        """The classes of a preset that match `text`, with pictures by the embedded sampler where it knows them.

        Nothing is fetched for this: the released samplers draw every class.
        """
        released = entries("sampler")[PRESETS[preset].sampler].source == "released"
        available = tuple(range(NUM_CLASSES)) if released else self.pipeline(preset).sampler.info.classes
        if available is None:
            raise UsageError(f"The preset {preset} draws without classes: leave the field empty.")
        return self.search(text, available)

    @cached_property
    def search(self) -> ClassSearch:
        """Classes with pictures, made without a trained decoder for speed."""
        return ClassSearch(self.pipeline("embedded", "iwt"))

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
        progress: Progress | None = None,
    ) -> Iterator[Finished]:
        """Make `count` images of each class one after the other; each step tells what is finished.

        `threshold` above 0: draw each again, up to 20 times, until a classifier gives its class that probability.
        """
        pipeline = self.pipeline(preset, decoder)
        requests = pipeline.requests(_asked(pipeline, *classes), count, seeds=seed)
        if len(requests) > MOST_IMAGES:
            raise UsageError(f"{len(requests)} images were asked for: the page makes at most {MOST_IMAGES} at once.")
        writer, clock, tally = ImageWriter(self._new_folder()), Clock(), Tally()
        files: list[str] = []
        captions: list[str] = []

        def step(name: str, done: int, total: int) -> None:
            clock.mark(name)
            if progress:
                progress(name, len(files), len(requests))

        for output, caption in _made(pipeline, requests, truncation, threshold, step, clock, tally):
            (row,) = writer.write(output)
            files.append(row["file"])
            captions.append(f"{Path(row['file']).stem}{caption}")
            clock.mark("write")
            report = clock.report(len(files)) + _acceptance(tally)
            yield Finished(tuple(files), tuple(captions), len(requests), report)

    def enlarge(self, file: Path, decoder: str = "") -> Enlarged:
        """One's own photo, enlarged and written with its profile, EXIF data and resolution."""
        steps = self.enlarge_in_steps(file, decoder)
        while True:
            try:
                next(steps)
            except StopIteration as finished:
                made: Enlarged = finished.value
                return made

    def enlarge_in_steps(self, file: Path, decoder: str = "") -> Generator[tuple[int, int], None, Enlarged]:
        """`enlarge` as a generator of tiles done, of how many; nothing is written before all are."""
        photo = open_photo(file, name=file.name, max_pixels=MOST_PIXELS)
        tool = load_decoder(decoder or default_upscaler())
        device, scale = pick_device(), tool.info.scale
        engine = pick_photo_engine("auto", device, tool, photo.size[0] * photo.size[1])
        start = time.perf_counter()
        large = yield from enlarge_in_steps(photo, place_part(tool, engine, device, torch.float32))
        seconds = time.perf_counter() - start
        before = resize(to_srgb(spread_hidden(photo)), large.size)
        path = self._new_folder() / f"{shorten(file.stem, 60)}_x{scale}.png"
        save_photo(large, path)
        size = f"{photo.size[0]} x {photo.size[1]} -> {large.size[0]} x {large.size[1]}"
        notes = "".join(f"; {note}" for note in photo.notes)
        licence = f"Licence of its weights: {tool.info.licence}"
        report = f"{size} with {tool.info.name} in {seconds:.2f} s{notes}. {licence}"
        shown = (before.image.convert("RGB"), to_srgb(large).image.convert("RGB"))
        return Enlarged(*shown, str(path), report)

    def stages(
        self, preset: str, class_name: str, *, seed: int, truncation: float, decoders: tuple[str, str]
    ) -> tuple[list[tuple[Image.Image, str]], Image.Image, Image.Image]:
        """Every intermediate of one image with its details, and the pictures of two decoders on the same latents."""
        shown: list[tuple[Image.Image, str]] = []
        finals = []
        for number, decoder in enumerate(decoders):
            pipeline = self.pipeline(preset, decoder)
            output = pipeline(_asked(pipeline, class_name), seeds=seed, truncation=truncation, keep_steps=True)
            finals.append(output.images[0])
            if number == 0:
                shown = [(to_pil(t)[0], f"{name} ({t.shape[-1]})") for name, t in output.steps.items()]
                shown += _details(output.tensors)
        return shown, finals[0], finals[1]

    def walk(
        self, preset: str, start: tuple[str, int], end: tuple[str, int], *, steps: int, truncation: float
    ) -> Iterator[tuple[int, str | None]]:
        """Walk from (class, seed) to (class, seed): yields frames done, and at the end the animated WebP's path."""
        pipeline = self.pipeline(preset)
        ends = [
            pipeline.latents(pipeline.requests(_asked(pipeline, name), seeds=seed), Drawing(truncation))
            for name, seed in (start, end)
        ]
        latents = walk(ends[0], ends[1], steps)
        side = min((r for r in pipeline.resolutions if r >= FILM_SIDE), default=max(pipeline.resolutions))
        frames: list[Image.Image] = []
        for i in range(steps):
            *_, (_name, picture) = pipeline.steps(latents[i : i + 1], resolution=side)
            frames += to_pil(picture)
            yield i + 1, None
        path = self._new_folder() / "walk.webp"
        frames[0].save(path, save_all=True, append_images=frames[1:] + frames[-2:0:-1], duration=80, loop=0, quality=80)
        yield steps, str(path)

    def _load(self, preset: str, decoder: str) -> NsbPipeline:
        return NsbPipeline.from_pretrained(preset, decoder=decoder or None).to(pick_device())

    def _new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))


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


def _asked(pipeline: NsbPipeline, *classes: str) -> list[str] | None:
    """The classes to ask a pipeline for: none where it draws without, whatever was typed."""
    return None if pipeline.sampler.info.classes is None else [c for c in classes if c]


def _made(
    pipeline: NsbPipeline,
    requests: Sequence[Request],
    truncation: float,
    threshold: float,
    step: Progress,
    clock: Clock,
    tally: Tally,
) -> Iterator[tuple[Output, str]]:
    """One image after the other with what is to be said of it; under rejection the best one where tries ended."""
    if not threshold:
        for output in pipeline.stream(requests, Drawing(truncation), progress=step):
            yield output, ""
        return
    judge = _TimedJudge(load_classifier("efficientnet-lite0"), clock)
    rule = Rule(threshold, max_tries=MOST_TRIES)
    for chosen, output in rejected_outputs(
        pipeline, requests, judge, rule, drawing=Drawing(truncation), batch_size=1, progress=step, tally=tally
    ):
        what = f"try {chosen.tries}" if chosen.accepted else f"not accepted, the best of {chosen.tries}"
        yield output, f": {chosen.score:.2f}, {what}"


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

"""What the service makes: tasks in, files out. It runs in the service's own process, or in a replica on Ray.

Names in a task are of the tables that the service was started with; nothing of a request is ever a path or an address.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch

from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.devices import pick_device
from nsbgan_infer.errors import NsbError, WorkError
from nsbgan_infer.images import Recipe, encode_image
from nsbgan_infer.inversion import Freedom, invert
from nsbgan_infer.photos import enlarge_in_steps, open_photo
from nsbgan_infer.photos.writing import encode_photo
from nsbgan_infer.pipeline import Drawing, NsbPipeline, Request
from nsbgan_infer.registry import load_decoder

GivenUp = Callable[[], bool]


@dataclass(frozen=True)
class GenerateTask:
    """One picture of a preset."""

    preset: str
    class_id: int | None
    seed: int
    drawing: Drawing


@dataclass(frozen=True)
class UpscaleTask:
    """One photo, the bytes of its file, to be enlarged by the decoder of this name."""

    photo: bytes
    decoder: str
    pixels: int


@dataclass(frozen=True)
class InvertTask:
    """One photo, the bytes of its file, whose latents are looked for. `class_id` None: as a classifier sees it."""

    photo: bytes
    preset: str
    class_id: int | None
    steps: int
    freedom: Freedom
    pixels: int


@dataclass(frozen=True)
class Made:
    """A PNG file; of a picture from latents also its recipe, the latent z, and how near it comes to a photo in dB."""

    png: bytes
    recipe: Recipe | None = None
    z: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    psnr: float | None = None


Task = GenerateTask | UpscaleTask | InvertTask


class GivenUpError(WorkError):
    """Nobody waits for the result any more."""


class Maker:
    """Makes pictures with pipelines that are loaded once. One thread at a time."""

    def __init__(self, load: Callable[[str], NsbPipeline] | None = None) -> None:
        self._load = load or (lambda preset: NsbPipeline.from_pretrained(preset).to(pick_device()))
        self.pipeline = lru_cache(maxsize=8)(self._load)
        self.decoder: Callable[[str], Decoder] = lru_cache(maxsize=8)(_load_decoder)

    def __call__(self, tasks: Sequence[Task], given_up: GivenUp = lambda: False) -> list[Made | NsbError]:
        """A result for each of tasks that belong together: of one preset and drawing, or a single photo.

        What is wrong with one photo is its result. Work ends early once `given_up()`.
        """
        first = tasks[0]
        if isinstance(first, UpscaleTask):
            return [self._one_photo(task, given_up) for task in tasks if isinstance(task, UpscaleTask)]
        if isinstance(first, InvertTask):
            return [self._inverted(task, given_up) for task in tasks if isinstance(task, InvertTask)]
        generate = [task for task in tasks if isinstance(task, GenerateTask)]
        return list(self._pictures(first.preset, first.drawing, generate, given_up))

    def _pictures(self, preset: str, drawing: Drawing, tasks: Sequence[GenerateTask], given_up: GivenUp) -> list[Made]:
        pipeline = self.pipeline(preset)
        requests = [Request(task.class_id, task.seed) for task in tasks]

        def step(_name: str, _done: int, _total: int) -> None:
            if given_up():
                raise GivenUpError("Nobody waits for these pictures any more.")

        latents = pipeline.latents(requests, drawing)
        output = next(pipeline.stream(requests, drawing, batch_size=len(requests), progress=step))
        return [
            Made(encode_image(image, recipe=recipe), recipe, tuple(z.tolist()))
            for image, recipe, z in zip(output.images, output.recipes, latents.z, strict=True)
        ]

    def _one_photo(self, task: UpscaleTask, given_up: GivenUp) -> Made | NsbError:
        try:
            photo = open_photo(task.photo, max_pixels=task.pixels)
            steps = enlarge_in_steps(photo, self.decoder(task.decoder))
            while True:
                try:
                    next(steps)
                except StopIteration as finished:
                    return Made(encode_photo(finished.value), notes=photo.notes)
                if given_up():
                    raise GivenUpError("Nobody waits for this photo any more.")
        except NsbError as error:
            return error

    def _inverted(self, task: InvertTask, given_up: GivenUp) -> Made | NsbError:
        def step(_done: int, _steps: int) -> None:
            if given_up():
                raise GivenUpError("Nobody waits for this photo any more.")

        try:
            pipeline = self.pipeline(task.preset)
            photo = open_photo(task.photo, max_pixels=task.pixels)
            found = invert(
                photo, pipeline, class_id=task.class_id, steps=task.steps, freedom=task.freedom, progress=step
            )
            output = pipeline(latents=found.latents)
        except NsbError as error:
            return error
        recipe, z = output.recipes[0], tuple(found.latents.z[0].tolist())
        return Made(encode_image(output.images[0], recipe=recipe), recipe, z, photo.notes, found.after.psnr)


def _load_decoder(name: str) -> Decoder:
    decoder = load_decoder(name)
    return decoder.to(pick_device()) if isinstance(decoder, torch.nn.Module) else decoder

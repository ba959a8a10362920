"""What the web page can do, as plain functions of a `Studio`: no gradio here, so tests call it directly.

One pipeline is kept loaded per (preset, decoder), four at most. Every call writes into a folder of its own, so two
browsers never mix. Errors are the package's own sentences.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from PIL import Image

from nsbgan_infer.classes import all_classes, find_class, search
from nsbgan_infer.decoders.tiling import decode
from nsbgan_infer.encoders.lifting import dwt2
from nsbgan_infer.errors import UsageError
from nsbgan_infer.images import file_name, save_image, to_pil
from nsbgan_infer.latents import draw_latents, walk
from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.registry import load_decoder
from nsbgan_infer.sources import to_tensor
from nsbgan_infer.storage import default_decoder

MOST_IMAGES = 64
MOST_PIXELS = 4 << 20  # of a photo to enlarge: 16 times as many come out


@dataclass(frozen=True)
class Finished:
    """Files made so far, of `total`, and one line on the time of each step."""

    files: tuple[str, ...]
    total: int
    report: str


class Studio:
    """Loads pipelines on demand and makes pictures with them, in files below `folder`."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder or Path(tempfile.mkdtemp(prefix="nsbgan-demo-"))
        self._pipeline = lru_cache(maxsize=4)(self._load)

    def pipeline(self, preset: str, decoder: str = "") -> NsbPipeline:
        """The pipeline of a preset with its own decoders, or another one in every stage."""
        return self._pipeline(preset, decoder)

    def classes(self, preset: str, text: str = "") -> list[tuple[int, str]]:
        """(id, name) of the classes that a preset's sampler draws and that match `text` (all of them if empty)."""
        available = self.pipeline(preset).sampler.info.classes or ()
        found = search(text) if text.strip() else list(all_classes())
        return [(c.id, c.name) for c in found if c.id in available]

    def thumbnails(self, preset: str, text: str, most: int = 12) -> list[tuple[Image.Image, str]]:
        """A small picture of each class that matches `text`, at the preset's first resolution, seed 0."""
        pipeline = self.pipeline(preset)
        found = self.classes(preset, text)[:most]
        if not found:
            find_class(text)  # an unknown name ends in its suggestion, a known one goes on
            raise UsageError(f"The preset {preset} has no class that matches '{text}'.")
        images = pipeline([i for i, _ in found], resolution=min(pipeline.resolutions), batch_size=4).images
        return [(image.resize((128, 128)), f"{i} {name}") for image, (i, name) in zip(images, found, strict=True)]

    def generate(
        self,
        preset: str,
        classes: Sequence[str],
        *,
        seed: int,
        count: int,
        truncation: float,
        decoder: str = "",
        resolution: int | None = None,
    ) -> Iterator[Finished]:
        """Make `count` images of each class one after the other; each step tells what is finished."""
        pipeline = self.pipeline(preset, decoder)
        requests = pipeline.requests(list(classes) or None, count, seeds=seed)
        if len(requests) > MOST_IMAGES:
            raise UsageError(f"{len(requests)} images were asked for: the page makes at most {MOST_IMAGES} at once.")
        folder, files, clock = self._new_folder(), [], Clock()
        made = pipeline.stream(requests, truncation=truncation, resolution=resolution, progress=clock.step)
        for output in made:
            request = output.requests[0]
            path = folder / file_name(request.class_id, request.seed)
            save_image(output.images[0], path, recipe=output.recipes[0])
            files.append(str(path))
            clock.mark("write")
            yield Finished(tuple(files), len(requests), clock.report(len(files)))

    def enlarge(self, photo: Image.Image, decoder: str = "") -> tuple[Image.Image, Image.Image, str]:
        """(before enlarged by plain bicubic, after, report) of one's own photo, four times as wide and high."""
        if photo.width * photo.height > MOST_PIXELS:
            raise UsageError(f"The photo has {photo.width} x {photo.height} pixels: the page takes up to 4 million.")
        tool = load_decoder(decoder or default_decoder("wavelet", "upscale"))
        start = time.perf_counter()
        with torch.inference_mode():
            out = decode(tool, to_tensor(photo.convert("RGB"))[None])
        seconds = time.perf_counter() - start
        after = to_pil(out)[0]
        before = photo.convert("RGB").resize(after.size, Image.Resampling.BICUBIC)
        size = f"{photo.width} x {photo.height} -> {after.width} x {after.height}"
        return before, after, f"{size} with {tool.info.name} ({tool.info.licence}) in {seconds:.2f} s"

    def stages(
        self, preset: str, class_name: str, *, seed: int, truncation: float, decoders: tuple[str, str]
    ) -> tuple[list[tuple[Image.Image, str]], Image.Image, Image.Image]:
        """Every intermediate of one image with its details, and the pictures of two decoders on the same latents."""
        shown: list[tuple[Image.Image, str]] = []
        finals = []
        for number, decoder in enumerate(decoders):
            pipeline = self.pipeline(preset, decoder)
            output = pipeline(class_name, seeds=seed, truncation=truncation, keep_steps=True)
            finals.append(output.images[0])
            if number == 0:
                for name, tensor in output.steps.items():
                    shown.append((to_pil(tensor)[0], f"{name} ({tensor.shape[-1]})"))
                details = dwt2(output.tensors)[1][0]  # (3, 3, h, w): what the decoder put into the finest level
                shown += [
                    (to_pil((0.5 + 4 * d)[None])[0], f"details {n}, x4") for d, n in zip(details, BANDS, strict=True)
                ]
        return shown, finals[0], finals[1]

    def walk(
        self, preset: str, start: tuple[str, int], end: tuple[str, int], *, steps: int, truncation: float
    ) -> Iterator[tuple[int, str | None]]:
        """Walk from (class, seed) to (class, seed): yields frames done, and at the end the animated WebP's path."""
        pipeline = self.pipeline(preset)
        info = pipeline.sampler.info
        ends = [
            draw_latents(
                [seed],
                [find_class(name).id],
                z_dim=info.z_dim,
                truncation=truncation,
                mode=info.truncation_mode,
                truncates=info.truncates,
            )
            for name, seed in (start, end)
        ]
        pipeline.requests([start[0], end[0]])  # refuses a class that the sampler lacks
        latents = walk(ends[0], ends[1], steps)
        frames = []
        for i in range(steps):
            *_, (_name, picture) = pipeline.steps(latents[i : i + 1], resolution=min(pipeline.resolutions))
            frames += to_pil(picture)
            yield i + 1, None
        path = self._new_folder() / "walk.webp"
        frames[0].save(path, save_all=True, append_images=frames[1:] + frames[-2:0:-1], duration=80, loop=0, quality=80)
        yield steps, str(path)

    def _load(self, preset: str, decoder: str) -> NsbPipeline:
        return NsbPipeline.from_pretrained(preset, decoder=decoder or None)

    def _new_folder(self) -> Path:
        return Path(tempfile.mkdtemp(dir=self.folder))


BANDS = ("across (cH)", "along (cV)", "diagonal (cD)")


class Clock:
    """Adds up the seconds of each step by name."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.last = now()
        self.seconds: dict[str, float] = {}

    def mark(self, name: str) -> None:
        """The time since the last mark belongs to `name`."""
        now = self.now()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.last
        self.last = now

    def step(self, name: str, _done: int, _total: int) -> None:
        """A pipeline's progress callback."""
        self.mark(name)

    def report(self, images: int) -> str:
        """`sample 0.02 s, decoded 1 0.05 s, ...; 0.11 s an image`."""
        parts = ", ".join(f"{name} {s / images:.3f} s" for name, s in self.seconds.items())
        return f"{parts}; {sum(self.seconds.values()) / images:.2f} s an image"

"""`nsbgan generate`: steps 0 to 5, from class ids to image files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nsbgan_infer.cli.bulk import MANY, Bulk, bulk_options, check_bulk, engined, run_bulk
from nsbgan_infer.cli.loading import check_choice, choose, load
from nsbgan_infer.cli.options import (
    Choice,
    Files,
    Images,
    Machine,
    choice_options,
    console_options,
    file_options,
    image_options,
    machine_options,
)
from nsbgan_infer.cli.output import Bar, Console

if TYPE_CHECKING:
    from PIL import Image

    from nsbgan_infer.pipeline import NsbPipeline, Output, Request

SHEET_SIDE = 8192  # pixels of the longer side of a contact sheet; its pictures shrink to fit


@click.command("generate")
@image_options
@choice_options
@file_options
@machine_options
@bulk_options
@console_options
def command(images: Images, choice: Choice, files: Files, machine: Machine, bulk: Bulk, console: Console) -> None:
    """Make pictures of classes.

    For example: nsbgan generate --class 207 --class 'espresso' --per-class 4 --res 512

    Files are named 207_golden-retriever_seed0.png and written as they are made. The same command makes the same
    pictures, whatever the batch size.

    Many images: nsbgan generate --class all --per-class 50, or --count 50000 --classes uniform; --resume goes on after
    any stop. plan.json and manifest.jsonl in --out say what was made.
    """
    images = check_bulk(bulk, images)
    check_choice(choice, images)
    from nsbgan_infer.files import writable_folder

    writable_folder(files.out)
    ref, reason = choose(choice, console, fetch=True)
    pipeline = load(ref, choice, machine, console)
    count = bulk.count or len(pipeline.requests(images.classes)) * images.per_class
    pipeline = engined(pipeline, machine, count, console)
    if bulk.asked or count > MANY:
        run_bulk(pipeline, choice, images, files, machine, bulk, console)
        return
    requests = pipeline.requests(images.classes, images.per_class, seeds=images.seed)
    columns = images.per_class if images.per_class > 1 else math.isqrt(len(requests) - 1) + 1
    writer = Writer(files, columns, cell=SHEET_SIDE // max(columns, math.ceil(len(requests) / columns)))
    make(pipeline, requests, images, machine, writer, console)
    grid = writer.write_grid()
    value = {"pipeline": pipeline.name, "reason": reason, "images": writer.rows, "grid": grid and str(grid)}
    console.result(value, "\n".join([row["file"] for row in writer.rows] + ([str(grid)] if grid else [])))


def make(
    pipeline: NsbPipeline,
    requests: Sequence[Request],
    images: Images,
    machine: Machine,
    writer: Writer,
    console: Console,
) -> None:
    """Run the pipeline batch by batch and write each batch before the next begins."""
    following = _labels(pipeline, images.resolution)
    with console.bar(len(requests)) as bar:
        stream = pipeline.stream(
            requests,
            truncation=images.truncation,
            truncation_mode=images.truncation_mode,
            resolution=images.resolution,
            batch_size=machine.batch_size,
            keep_steps=writer.files.save_steps,
            progress=lambda step, _done, _all: bar.step(following[step]),
        )
        bar.step("2 samplers")
        for output in stream:
            writer.write(output, bar)
            bar.step("2 samplers")


@dataclass
class Writer:
    """Step 5 of `generate`: files in one folder, their rows for the report, and copies for the sheet, which has
    `columns` of pictures shrunk to `cell` pixels where they are larger.
    """

    files: Files
    columns: int
    cell: int
    rows: list[dict[str, Any]] = field(default_factory=list)
    copies: list[Image.Image] = field(default_factory=list)

    def write(self, output: Output, bar: Bar) -> None:
        """Write the images of one batch, and its steps where they were kept."""
        from nsbgan_infer.classes import find_class
        from nsbgan_infer.images import file_name, save_image

        for index, (image, request, recipe) in enumerate(
            zip(output.images, output.requests, output.recipes, strict=True)
        ):
            path = self.files.out / file_name(request.class_id, request.seed, self.files.fmt)
            save_image(image, path, recipe=recipe if self.files.recipe else None)
            for name, part in _step_images(output, index):
                save_image(part, path.with_name(f"{path.stem}_{name}{path.suffix}"))
            if self.files.grid:
                self.copies.append(_shrunk(image, self.cell))
            label = None if request.class_id is None else find_class(request.class_id).name
            row = {"file": str(path), "class_id": request.class_id, "class": label, "seed": request.seed}
            self.rows.append(row | {"width": image.width, "height": image.height})
            bar.advance()

    def write_grid(self) -> Path | None:
        """The contact sheet, if it was asked for: a row for each class, or near a square with one image a class."""
        from nsbgan_infer.images import SUFFIX, grid, save_image

        if not self.copies:
            return None
        path = self.files.out / f"grid{SUFFIX[self.files.fmt]}"
        save_image(grid(self.copies, self.columns), path)
        return path


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    return image if image.width <= side else image.resize((max(1, side), max(1, side)))


def _labels(pipeline: NsbPipeline, resolution: int | None) -> dict[str, str]:
    """For every step of the pipeline by name, the numbered step that runs after it."""
    names, labels = ["sample"], ["2 samplers"]
    for number, stage in enumerate(pipeline.stages[: pipeline.stages_for(resolution)], 1):
        if stage.encoder is not None:
            names.append(f"low band {number}")
            labels.append("3 encoders")
        names.append(f"decoded {number}")
        labels.append("4 decoders")
    return dict(zip(names, [*labels[1:], "5 images"], strict=True))


def _step_images(output: Output, index: int) -> list[tuple[str, Image.Image]]:
    """The intermediates of one image by the name that their files get; the last step is the image itself."""
    from nsbgan_infer.images import to_pil

    room = {"sample": 2, "low": 3, "decoded": 4}
    named = [(f"{room[name.split()[0]]}-{name.replace(' ', '-')}", tensor) for name, tensor in output.steps.items()]
    return [(name, to_pil(tensor[index : index + 1])[0]) for name, tensor in named[:-1]]

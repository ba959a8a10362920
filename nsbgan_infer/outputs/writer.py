"""Step 5 for many pictures: files named by class and seed in one folder, a row about each, and a contact sheet."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from nsbgan_infer.classes import find_class
from nsbgan_infer.datasets import ASIDE
from nsbgan_infer.images import SUFFIX, Format, Recipe, file_name, grid, save_image, to_pil
from nsbgan_infer.pipeline import Output, Request
from nsbgan_infer.storage.files import writable_folder

if TYPE_CHECKING:
    from nsbgan_infer.rejection import Chosen

SHEET_SIDE = 8192  # pixels of the longer side of a contact sheet; its pictures shrink to fit
ROOM = {"sample": 2, "low": 3, "decoded": 4}  # the numbered step that makes an intermediate


@dataclass(frozen=True)
class Sheet:
    """A contact sheet of `columns` pictures a row, each shrunk to `cell` pixels where it is larger."""

    columns: int
    cell: int


@dataclass
class ImageWriter:
    """Writes images into `folder`, each whole or not at all; a file of the same name is replaced."""

    folder: Path
    fmt: Format = "png"
    recipe: bool = True
    """Store in each image everything needed to make it again."""
    sheet: Sheet | None = None
    """Keep a copy of each image for `write_grid`."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    """What was written, in order: file, class_id, class, seed, width, height."""
    copies: list[Image.Image] = field(default_factory=list)

    def write(self, output: Output) -> list[dict[str, Any]]:
        """Write the images of one batch, and beside each its steps where they were kept; the new rows.

        Raises UsageError for a folder that cannot be written.
        """
        if not self.rows:
            writable_folder(self.folder)
        before = len(self.rows)
        made = zip(output.images, output.requests, output.recipes, strict=True)
        for index, (image, request, recipe) in enumerate(made):
            path = self.folder / file_name(request.class_id, request.seed, self.fmt, labels=recipe.labels)
            save_image(image, path, recipe=recipe if self.recipe else None)
            for name, part in _step_images(output, index):
                save_image(part, path.with_name(f"{path.stem}_{name}{path.suffix}"))
            if self.sheet:
                self.copies.append(_shrink(image, self.sheet.cell))
            self.rows.append(_row(path, image, request, recipe))
        return self.rows[before:]

    def reorder(self, places: Sequence[int], count: int) -> None:
        """Bring what was written into the order asked for: `places[k]` of `count` is where the k-th picture belongs.
        On the sheet, those that are missing stay white."""
        self.rows = [row for _, row in sorted(zip(places, self.rows, strict=True), key=lambda pair: pair[0])]
        if self.copies:
            at = dict(zip(places, self.copies, strict=True))
            blank = Image.new("RGB", self.copies[0].size, "white")
            self.copies = [at.get(place, blank) for place in range(count)]

    def write_grid(self) -> Path | None:
        """The contact sheet as `grid.png` (or .webp, .jpg); None without a `sheet` or without pictures."""
        if not self.copies or not self.sheet:
            return None
        path = self.folder / f"grid{SUFFIX[self.fmt]}"
        save_image(grid(self.copies, self.sheet.columns), path)
        return path


def plan_sheet(count: int, per_class: int) -> Sheet:
    """The sheet of `count` images, class by class: a row for each class, or near a square with one image a class."""
    columns = per_class if per_class > 1 else math.isqrt(count - 1) + 1
    return Sheet(columns, SHEET_SIDE // max(columns, math.ceil(count / columns)))


def write_accepted(found: Iterable[tuple[Chosen[Output], Output]], writer: ImageWriter, count: int) -> ImageWriter:
    """Write what `rejection.rejected_outputs` yields for `count` requests, each picture as soon as it is settled.

    Accepted ones go through `writer`, the best ones of requests whose tries ended into the folder `below-threshold`
    within its folder. Rows get score, attempt and tries, and stand in the order asked for at the end. Returns the
    writer of those kept aside.
    """
    aside = ImageWriter(writer.folder / ASIDE, writer.fmt, writer.recipe)
    places: dict[bool, list[int]] = {True: [], False: []}
    for chosen, output in found:
        for row in (writer if chosen.accepted else aside).write(output):
            row |= {"score": round(chosen.score, 6), "attempt": chosen.attempt, "tries": chosen.tries}
        places[chosen.accepted].append(chosen.index)
    writer.reorder(places[True], count)
    aside.reorder(places[False], count)
    return aside


def _row(path: Path, image: Image.Image, request: Request, recipe: Recipe) -> dict[str, Any]:
    label = None
    if request.class_id is not None and recipe.labels == "imagenet":
        label = find_class(request.class_id).name
    row = {"file": str(path), "class_id": request.class_id, "class": label, "seed": request.seed}
    return row | {"width": image.width, "height": image.height}


def _shrink(image: Image.Image, side: int) -> Image.Image:
    return image if image.width <= side else image.resize((max(1, side), max(1, side)))


def _step_images(output: Output, index: int) -> list[tuple[str, Image.Image]]:
    """The intermediates of one image by the name that their files get; the last step is the image itself."""
    named = [(f"{ROOM[name.split()[0]]}-{name.replace(' ', '-')}", tensor) for name, tensor in output.steps.items()]
    return [(name, to_pil(tensor[index : index + 1])[0]) for name, tensor in named[:-1]]

"""Step 5 of `nsbgan generate`: image files, their rows in the report, and the sheet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsbgan_infer.cli.options import Files
from nsbgan_infer.cli.output import Bar

if TYPE_CHECKING:
    from PIL import Image

    from nsbgan_infer.pipeline import NsbPipeline, Output


@dataclass
class Writer:
    """Files in one folder, their rows for the report, and copies for the sheet, which has `columns` of pictures shrunk
    to `cell` pixels where they are larger.
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
            path = self.files.out / file_name(request.class_id, request.seed, self.files.fmt, labels=recipe.labels)
            save_image(image, path, recipe=recipe if self.files.recipe else None)
            for name, part in _step_images(output, index):
                save_image(part, path.with_name(f"{path.stem}_{name}{path.suffix}"))
            if self.files.grid:
                self.copies.append(_shrunk(image, self.cell))
            label = None
            if request.class_id is not None and recipe.labels == "imagenet":
                label = find_class(request.class_id).name
            row = {"file": str(path), "class_id": request.class_id, "class": label, "seed": request.seed}
            self.rows.append(row | {"width": image.width, "height": image.height})
            bar.advance()

    def reorder(self, places: Sequence[int], count: int) -> None:
        """Bring what was written into the order asked for: `places[k]` of `count` is where the k-th picture belongs.
        On the sheet, those that are missing stay white."""
        from PIL import Image

        self.rows = [row for _, row in sorted(zip(places, self.rows, strict=True), key=lambda pair: pair[0])]
        if self.copies:
            at = dict(zip(places, self.copies, strict=True))
            blank = Image.new("RGB", self.copies[0].size, "white")
            self.copies = [at.get(place, blank) for place in range(count)]

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


def labels(pipeline: NsbPipeline, resolution: int | None) -> dict[str, str]:
    """For every step of the pipeline by name, the numbered step that runs after it."""
    names, running = ["sample"], ["2 samplers"]
    for number, stage in enumerate(pipeline.stages[: pipeline.stages_for(resolution)], 1):
        if stage.encoder is not None:
            names.append(f"low band {number}")
            running.append("3 encoders")
        names.append(f"decoded {number}")
        running.append("4 decoders")
    return dict(zip(names, [*running[1:], "5 images"], strict=True))


def _step_images(output: Output, index: int) -> list[tuple[str, Image.Image]]:
    """The intermediates of one image by the name that their files get; the last step is the image itself."""
    from nsbgan_infer.images import to_pil

    room = {"sample": 2, "low": 3, "decoded": 4}
    named = [(f"{room[name.split()[0]]}-{name.replace(' ', '-')}", tensor) for name, tensor in output.steps.items()]
    return [(name, to_pil(tensor[index : index + 1])[0]) for name, tensor in named[:-1]]

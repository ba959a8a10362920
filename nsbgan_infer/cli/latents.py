"""The part of `nsbgan generate` that draws given latents: as they are, as another class, varied, or on a walk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nsbgan_infer.cli.bulk import Bulk, use_engine
from nsbgan_infer.cli.loading import go_offline, load
from nsbgan_infer.cli.options import Choice, Decorator, Files, Images, Machine, bundled
from nsbgan_infer.cli.output import Console
from nsbgan_infer.cli.reject import Rejection
from nsbgan_infer.cli.steps import next_steps
from nsbgan_infer.errors import UsageError

if TYPE_CHECKING:
    from nsbgan_infer.latents import Latents
    from nsbgan_infer.latents.file import Origin
    from nsbgan_infer.pipeline import NsbPipeline

FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@dataclass(frozen=True)
class Given:
    """Latents that are drawn instead of classes and seeds."""

    file: Path | None
    to: Path | None
    vary: float | None


latents_options: Decorator = bundled(
    "given",
    Given,
    [
        click.option(
            "--latents",
            type=FILE,
            metavar="FILE",
            help="Draw what `nsbgan invert` wrote; --class redraws it as another class.",
        ),
        click.option(
            "--walk-to", type=FILE, metavar="FILE", help="Walk from --latents to these, in --per-class pictures."
        ),
        click.option(
            "--vary",
            type=click.FloatRange(0, 2, min_open=True),
            metavar="X",
            help="Add X times noise to --latents, from a seed for each of --per-class pictures.",
        ),
    ],
    {"file": "latents", "to": "walk_to", "vary": "vary"},
)


def check_given(given: Given, images: Images, rejection: Rejection, bulk: Bulk) -> None:
    """What can be told from the options alone. Raises UsageError."""
    if given.file is None:
        if given.to or given.vary:
            raise UsageError("--walk-to and --vary go with --latents FILE, which `nsbgan invert` writes.")
        return
    if given.to and (given.vary or images.classes):
        raise UsageError("A walk has both its ends: leave out --vary and --class beside --walk-to.")
    if given.to and images.per_class < 2:
        raise UsageError("A walk has at least 2 pictures: give their number with --per-class.")
    if not given.to and not given.vary and images.per_class > 1:
        raise UsageError("The same latents give the same picture: add --vary 0.3 for others, or leave out --per-class.")
    if images.truncation is not None or images.truncation_mode is not None:
        raise UsageError("Latents keep the truncation that they were found with: leave out --truncation.")
    if len(images.classes) > 1:
        raise UsageError("Latents are redrawn as one class: give --class once.")
    if bulk.asked or rejection.rule():
        raise UsageError("Latents are drawn one by one: leave out the options of bulk runs and of rejection.")


def draw_given(given: Given, choice: Choice, images: Images, files: Files, machine: Machine, console: Console) -> None:
    """Load the file and its pipeline, draw, write, and report."""
    from nsbgan_infer.latents.file import load_latents
    from nsbgan_infer.storage.files import writable_folder

    assert given.file is not None
    latents, origin = load_latents(given.file)
    end, end_origin = load_latents(given.to) if given.to else (None, None)
    writable_folder(files.out)
    pipeline = load(_reference(choice, origin), choice, machine, console)
    check_fit(pipeline, origin, given.file)
    if end_origin and given.to:
        check_fit(pipeline, end_origin, given.to)
    drawn, names = arrange(pipeline, latents, end, given, images)
    engine = "eager" if drawn.offsets is not None and machine.engine == "auto" else machine.engine
    pipeline = use_engine(pipeline, replace(machine, engine=engine), len(drawn), console)
    rows = _make(pipeline, drawn, names, images, files, machine, console)
    lines = [row["file"] for row in rows]
    console.result({"pipeline": pipeline.name, "images": rows, "grid": None}, "\n".join(lines))


def check_fit(pipeline: NsbPipeline, origin: Origin, file: Path) -> None:
    """Raise CheckpointError unless latents of `origin` are for the pipeline's sampler."""
    from nsbgan_infer.latents.file import check_origin
    from nsbgan_infer.storage.components import weights_sha256

    sampler = pipeline.sampler
    check_origin(origin, sampler.info.name, weights_sha256(sampler) or "", name=str(file))


def arrange(
    pipeline: NsbPipeline, latents: Latents, end: Latents | None, given: Given, images: Images
) -> tuple[Latents, list[str]]:
    """The latents to draw, and the names of their pictures without a suffix. Raises UsageError."""
    from nsbgan_infer.classes import find_class
    from nsbgan_infer.inversion import redraw_as
    from nsbgan_infer.latents import vary, walk

    assert given.file is not None
    stem, count = given.file.stem, images.per_class
    if end is not None and given.to:
        if len(latents) != 1 or len(end) != 1:
            raise UsageError("A walk goes from a file with one image's latents to another such file.")
        way = walk(latents, end, count)
        return way, [f"{stem}_to_{given.to.stem}_{i:03d}" for i in range(count)]
    names = [stem] if len(latents) == 1 else [f"{stem}_{i}" for i in range(len(latents))]
    if images.classes:
        (class_id,) = {r.class_id for r in pipeline.requests(images.classes)}
        assert class_id is not None
        latents = redraw_as(pipeline, latents, class_id)
        names = [f"{name}_{find_class(class_id).slug}" for name in names]
    if given.vary:
        if len(latents) != 1:
            raise UsageError("Variations are of one image's latents: the file holds several.")
        seeds = [images.seed + j for j in range(count)]
        return vary(latents, given.vary, seeds), [f"{names[0]}_seed{s}" for s in seeds]
    return latents, names


def _reference(choice: Choice, origin: Origin) -> str:
    """The pipeline asked for, else the preset that the latents were found with. Raises UsageError."""
    from nsbgan_infer.presets import PRESETS

    if choice.offline:
        go_offline()
    if choice.preset and choice.pipeline:
        raise UsageError("Give --preset or --pipeline, not both.")
    ref = choice.preset or choice.pipeline or (origin.preset if origin.preset in PRESETS else "")
    if not ref:
        raise UsageError(f"The latents belong to the pipeline '{origin.preset}', which is no preset: add --pipeline.")
    return ref


def _make(
    pipeline: NsbPipeline,
    latents: Latents,
    names: list[str],
    images: Images,
    files: Files,
    machine: Machine,
    console: Console,
) -> list[dict[str, Any]]:
    from nsbgan_infer.images import SUFFIX, save_image
    from nsbgan_infer.pipeline import Drawing, requests_of

    drawing = Drawing(latents.truncation, latents.mode, images.resolution)
    following = next_steps(pipeline, images.resolution)
    rows: list[dict[str, Any]] = []
    with console.bar(len(latents)) as bar:
        stream = pipeline.stream(
            requests_of(latents),
            drawing,
            latents=latents,
            batch_size=machine.batch_size,
            progress=lambda step, _done, _all: bar.step(following[step]),
        )
        bar.step("2 samplers")
        for output in stream:
            for image, request, recipe in zip(output.images, output.requests, output.recipes, strict=True):
                path = files.out / f"{names[len(rows)]}{SUFFIX[files.fmt]}"
                save_image(image, path, recipe=recipe if files.recipe else None)
                row = {"file": str(path), "class_id": request.class_id, "seed": request.seed}
                rows.append(row | {"width": image.width, "height": image.height})
            bar.advance(len(output.requests))
    return rows

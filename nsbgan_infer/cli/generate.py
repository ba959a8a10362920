"""`nsbgan generate`: steps 0 to 5, from class ids to image files."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from nsbgan_infer.cli.bulk import MANY, Bulk, bulk_options, check_bulk, run_bulk, use_engine
from nsbgan_infer.cli.latents import Given, check_given, draw_given, latents_options
from nsbgan_infer.cli.loading import check_choice, choose, load
from nsbgan_infer.cli.options import (
    Choice,
    Files,
    Images,
    Machine,
    WithClasses,
    choice_options,
    console_options,
    file_options,
    image_options,
    machine_options,
)
from nsbgan_infer.cli.output import Console
from nsbgan_infer.cli.reject import (
    Rejection,
    check_rejection,
    check_shortfall,
    make_accepted,
    rejection_options,
    rejection_text,
)
from nsbgan_infer.cli.steps import next_steps

if TYPE_CHECKING:
    from nsbgan_infer.outputs.writer import ImageWriter
    from nsbgan_infer.pipeline import NsbPipeline, Request


@click.command("generate", cls=WithClasses)
@image_options
@choice_options
@file_options
@machine_options
@rejection_options
@bulk_options
@latents_options
@console_options
def command(
    images: Images,
    choice: Choice,
    files: Files,
    machine: Machine,
    rejection: Rejection,
    bulk: Bulk,
    given: Given,
    console: Console,
) -> None:
    """Make pictures of classes.

    For example: nsbgan generate --class 207 --class 'espresso' --per-class 4 --res 512

    Files are named 207_golden-retriever_seed0.png and written as they are made. The same command makes the same
    pictures, whatever the batch size.

    Only what a classifier recognises: --reject 0.9. The best of what stayed below goes to below-threshold in --out.

    Many images: nsbgan generate --class all --per-class 50, or --count 50000 --classes uniform; --resume goes on after
    any stop. plan.json and manifest.jsonl in --out say what was made.

    A photo that `nsbgan invert` found latents for: --latents FILE, with --class, --vary or --walk-to.
    """
    check_given(given, images, rejection, bulk)
    if given.file:
        draw_given(given, choice, images, files, machine, console)
        return
    images = check_bulk(bulk, images)
    check_choice(choice, images)
    rule = rejection.rule()
    check_rejection(rule, bulk)
    from nsbgan_infer.outputs.writer import ImageWriter, plan_sheet
    from nsbgan_infer.storage.files import writable_folder

    writable_folder(files.out)
    classifier = rejection.load_classifier() if rule else None
    ref, reason = choose(choice, console, fetch=True)
    pipeline = load(ref, choice, machine, console)
    count = bulk.count or len(pipeline.requests(images.classes)) * images.per_class
    pipeline = use_engine(
        pipeline, machine, count, console, drawing=images.drawing(), resumes=files.out if bulk.resume else None
    )
    if bulk.asked or (count > MANY and not rule):
        run_bulk(pipeline, choice, images, files, machine, bulk, console)
        return
    requests = pipeline.requests(images.classes, images.per_class, seeds=images.seed)
    sheet = plan_sheet(len(requests), images.per_class) if files.grid else None
    writer = ImageWriter(files.out, files.fmt, files.recipe, sheet)
    report = None
    if rule and classifier:
        report = make_accepted(pipeline, requests, images, files, machine, rule, classifier, writer, console)
    else:
        make(pipeline, requests, images, files, machine, writer, console)
    grid = writer.write_grid()
    value = {"pipeline": pipeline.name, "reason": reason, "images": writer.rows, "grid": grid and str(grid)}
    lines = [row["file"] for row in writer.rows] + ([str(grid)] if grid else [])
    if report is None:
        console.result(value, "\n".join(lines))
        return
    console.result(value | {"rejection": report}, "\n".join([*lines, "", rejection_text(report)]))
    check_shortfall(report)


def make(
    pipeline: NsbPipeline,
    requests: Sequence[Request],
    images: Images,
    files: Files,
    machine: Machine,
    writer: ImageWriter,
    console: Console,
) -> None:
    """Run the pipeline batch by batch and write each batch before the next begins."""
    following = next_steps(pipeline, images.resolution)
    with (
        console.counted(lambda: f"{len(writer.rows)} of {len(requests)} pictures are in {files.out}"),
        console.bar(len(requests)) as bar,
    ):
        stream = pipeline.stream(
            requests,
            images.drawing(),
            batch_size=machine.batch_size,
            keep_steps=files.save_steps,
            progress=lambda step, _done, _all: bar.step(following[step]),
        )
        bar.step("2 samplers")
        for output in stream:
            bar.advance(len(writer.write(output)))
            bar.step("2 samplers")

"""`nsbgan generate` for many images: a plan, shards, a manifest, and --resume."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import click

from nsbgan_infer.cli.options import Choice, Files, Images, Machine, bundled
from nsbgan_infer.cli.output import Console
from nsbgan_infer.errors import UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from nsbgan_infer.bulk.plan import Plan, Progress
    from nsbgan_infer.engines import Pick
    from nsbgan_infer.pipeline import Drawing, NsbPipeline

WORTH_TELLING = 8  # images from which on it is told why they are made by plain torch
MANY = 1000  # images from which on a run is a bulk run without being asked


@dataclass(frozen=True)
class Bulk:
    """What only bulk runs have."""

    count: int | None
    draw: str | None
    sink: str | None
    resume: bool
    shard_size: int | None
    workers: str | None
    ray_actors: int
    ray_address: str | None

    @property
    def asked(self) -> bool:
        """Whether any option asks for a bulk run."""
        return self.resume or any((self.count, self.draw, self.sink, self.shard_size, self.workers, self.ray_address))


bulk_options = bundled(
    "bulk",
    Bulk,
    [
        click.option("--count", type=click.IntRange(min=1), help="Images in all, each of a class drawn by chance."),
        click.option("--classes", "draw", type=click.Choice(["uniform"]), help="How --count draws its classes."),
        click.option(
            "--sink",
            type=click.Choice(["folder", "tar", "npz"]),
            help="Where a bulk run puts its images: sub-folders of 1,000 (default), WebDataset tar shards, or one npz "
            f"with arr_0 and arr_1. This, --count, --resume, --workers or more than {MANY} images make it a bulk run.",
        ),
        click.option("--resume", is_flag=True, help="Resume an interrupted bulk run in --out."),
        click.option(
            "--shard-size", type=click.IntRange(min=1), metavar="N", help="Images of a shard.  [default: 1000]"
        ),
        click.option("--workers", type=click.Choice(["ray"]), help="Make the shards on Ray actors."),
        click.option("--ray-actors", type=click.IntRange(min=1), default=2, help="How many; each loads the models."),
        click.option("--ray-address", metavar="ADDR", help="A Ray cluster. Default: RAY_ADDRESS, else this machine."),
    ],
    {name: name for name in ("count", "draw", "sink", "resume", "shard_size", "workers", "ray_actors", "ray_address")},
)


def check_bulk(bulk: Bulk, images: Images) -> Images:
    """What can be told from the options alone. Returns the images with `all` classes where --count names none."""
    if bulk.draw and not bulk.count:
        raise UsageError("--classes uniform goes with --count N, the number of images in all.")
    if bulk.count and images.per_class > 1:
        raise UsageError("Give --count or --per-class, not both.")
    if bulk.ray_address and not bulk.workers:
        raise UsageError("--ray-address goes with --workers ray.")
    return replace(images, classes=("all",)) if bulk.count and not images.classes else images


def run_bulk(
    pipeline: NsbPipeline, choice: Choice, images: Images, files: Files, machine: Machine, bulk: Bulk, console: Console
) -> None:
    """Make the plan and run it, here or on Ray; report where the manifest is."""
    from nsbgan_infer.bulk.pipelines import pipeline_maker
    from nsbgan_infer.bulk.run import MANIFEST, PLAN, run

    if files.grid or files.save_steps:
        raise UsageError("A bulk run writes no grid and no steps: leave out --grid and --save-steps.")
    plan = make_plan(pipeline, images, files, machine, bulk)
    with console.resumable(files.out / PLAN), console.bar(plan.count) as bar:
        seen = [0]

        def progress(done: int, _count: int) -> None:
            if done > seen[0]:
                bar.advance(done - seen[0])
                seen[0] = done

        bar.step("2-5 images")
        if bulk.workers:
            _run_on_ray(plan, pipeline, choice, images, files, machine, bulk, progress)
        else:
            run(plan, files.out, pipeline_maker(pipeline, images.drawing()), resume=bulk.resume, progress=progress)
    manifest = files.out / MANIFEST
    value = {"pipeline": pipeline.name, "images": plan.count, "out": str(files.out), "manifest": str(manifest)}
    console.result(value, f"{plan.count} images in {files.out}, listed in {manifest}")


def make_plan(pipeline: NsbPipeline, images: Images, files: Files, machine: Machine, bulk: Bulk) -> Plan:
    """The plan that the options mean. Raises UsageError and UnknownNameError."""
    from nsbgan_infer.bulk.pipelines import plan_images
    from nsbgan_infer.bulk.sinks import Encoding

    everything = bulk.count and pipeline.sampler.info.classes is None and images.classes == ("all",)
    sink: Any = bulk.sink or "folder"
    return plan_images(
        pipeline,
        None if everything else images.classes,
        per_class=images.per_class,
        count=bulk.count,
        seed=images.seed,
        drawing=images.drawing(),
        batch_size=machine.batch_size,
        shard_size=bulk.shard_size or 1000,
        encoding=Encoding(sink, files.fmt, recipe=files.recipe, labels=pipeline.sampler.info.labels),
    )


def use_engine(
    pipeline: NsbPipeline,
    machine: Machine,
    count: int,
    console: Console,
    *,
    drawing: Drawing | None = None,
    resumes: Path | None = None,
) -> NsbPipeline:
    """The pipeline on the engine of --engine, or on the one that `auto` picks for that number of images and notes.

    `resumes`: the folder of a run that is resumed, whose engine `auto` then means.
    """
    from nsbgan_infer.devices import pick_dtype
    from nsbgan_infer.engines import pick_for, place

    dtype = None if machine.dtype == "auto" else pick_dtype(machine.dtype, pipeline.device)
    begun = _begun_with(resumes) if resumes and machine.engine == "auto" else None
    pick = begun or pick_for(
        pipeline, machine.engine, dtype=dtype, images=count, batch_size=machine.batch_size, drawing=drawing
    )
    computes_in = pick.dtype if pick.dtype and machine.dtype == "auto" else machine.dtype
    placed = place(pipeline, pick.engine, dtype=computes_in)
    if machine.engine == "auto" and (why := _note(pick, count)):
        console.note(why)
    return placed


def _note(pick: Pick, count: int) -> str | None:
    """Why `auto` took an engine; None for plain torch where there was nothing to choose, or for a few images."""
    if pick.engine != "eager":
        because = f" ({pick.why})" if pick.why else ""
        return f"Using the engine {pick.engine}{because}: --engine eager for plain torch."
    return f"Using plain torch ({pick.why})." if pick.why and count >= WORTH_TELLING else None


def _begun_with(folder: Path) -> Pick | None:
    """The engine and dtype of the run that `folder` holds, if it holds one."""
    from nsbgan_infer.bulk.run import PLAN
    from nsbgan_infer.devices import DTYPES
    from nsbgan_infer.engines import ENGINES, Pick
    from nsbgan_infer.storage.files import read_json

    file = folder / PLAN
    settings = read_json(file, limit=16 << 20).get("settings") if file.is_file() else None
    if not isinstance(settings, dict) or settings.get("engine") not in ENGINES[1:]:
        return None
    return Pick(settings["engine"], settings.get("dtype") if settings.get("dtype") in DTYPES else None)


def _run_on_ray(
    plan: Plan,
    pipeline: NsbPipeline,
    choice: Choice,
    images: Images,
    files: Files,
    machine: Machine,
    bulk: Bulk,
    progress: Progress,
) -> None:
    from nsbgan_infer.bulk.pipelines import PipelineFactory, absolute
    from nsbgan_infer.bulk.ray import run_on_ray
    from nsbgan_infer.devices import dtype_name

    ref = choice.preset or absolute(choice.pipeline) or pipeline.name  # what was chosen here is used there
    run_on_ray(
        plan,
        files.out,
        PipelineFactory(
            ref,
            absolute(choice.sampler),
            absolute(choice.decoder),
            drawing=images.drawing(),
            device=machine.device,
            dtype=dtype_name(pipeline.computes_in or pipeline.dtype),
            engine=pipeline.engine,  # what was chosen here: each machine has its own cache
            offline=choice.offline,
        ),
        workers=bulk.ray_actors,
        address=bulk.ray_address,
        gpus=1 if pipeline.device.type == "cuda" else 0,
        resume=bulk.resume,
        progress=progress,
    )

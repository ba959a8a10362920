"""`nsbgan evaluate images`: how good are these pictures?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nsbgan_infer.cli.options import console_options
from nsbgan_infer.cli.output import Console, table
from nsbgan_infer.errors import UsageError

if TYPE_CHECKING:
    from nsbgan_infer.evaluation.images import ImagesReport, Reference
    from nsbgan_infer.evaluation.pictures import PictureSet


@click.command("images")
@click.option(
    "--fake",
    required=True,
    metavar="SRC",
    help="The pictures to measure: a folder, ZIP, tar, npz, a run's "
    "folder or manifest.jsonl, or preset:NAME (with --sampler, --decoder, --class, --per-class, --seed, --truncation, "
    "--res).",
)
@click.option(
    "--real",
    multiple=True,
    metavar="SRC",
    help="Real pictures, as --fake, or a reference file (.safetensors). Repeat for more archives of one set.",
)
@click.option(
    "--measures",
    default="fd-lite0,is-lite0",
    metavar="LIST",
    help="Of fid, is, kid, pr, fd-lite0, is-lite0, fd-lite2, is-lite2, share-lite0, share-lite2, "
    "share-lite0-imagenet, share-lite2-imagenet, swd, ms-ssim.",
)
@click.option(
    "--size", type=click.IntRange(min=32), help="Bring all pictures to this side: short side resized, centre cropped."
)
@click.option("--allow-small", is_flag=True, help="Measure fewer than 2,048 pictures.")
@click.option(
    "--save-reference",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep the statistics of the real pictures as a .safetensors file for --real.",
)
@click.option(
    "--inception",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The Inception weights of torch-fidelity. Default: $NSBGAN_FID_INCEPTION, the cache, or its address.",
)
@click.option("--sampler", metavar="REF", help="Replace the sampler of preset:NAME, as in `nsbgan generate`.")
@click.option("--decoder", metavar="REF", help="Replace the decoder of every stage of preset:NAME.")
@click.option("-c", "--class", "classes", multiple=True, metavar="CLASS", help="Of preset:NAME. Default: all it has.")
@click.option("-n", "--per-class", type=click.IntRange(min=1), default=50, help="Pictures of each class.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Picture j of each class has seed SEED + j.")
@click.option("--truncation", type=float, metavar="T", help="Above 0 and up to 1.")
@click.option("--res", type=click.IntRange(min=1), metavar="SIDE", help="Stop after the stage that makes this size.")
@click.option("--batch-size", type=click.IntRange(min=1), default=16, help="Pictures judged together.")
@click.option("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
@click.option(
    "--engine",
    type=click.Choice(["auto", "eager", "compile", "openvino"]),
    default="auto",
    help="What runs the networks of preset:NAME, in fp32.",
)
@click.option("--offline", is_flag=True, help="Never use the network.")
@console_options
def command(
    fake: str,
    real: tuple[str, ...],
    measures: str,
    size: int | None,
    allow_small: bool,
    save_reference: Path | None,
    inception: Path | None,
    sampler: str | None,
    decoder: str | None,
    classes: tuple[str, ...],
    per_class: int,
    seed: int,
    truncation: float | None,
    res: int | None,
    batch_size: int,
    device: str,
    engine: str,
    offline: bool,
    console: Console,
) -> None:
    """Measure pictures, against real ones where a measure needs them.

    Every figure comes with its number of pictures. FID, IS, KID, precision and recall use the original Inception;
    FD-lite0, FD-lite2 and their scores use EfficientNet-Lite, which needs no network. A share is that of the pictures
    which a judge gives to their own class, among the classes that the sampler has (of files: among theirs); with
    -imagenet after ImageNet's mean and deviation instead of those that the judge was trained with.
    """
    import torch

    from nsbgan_infer.devices import pick_device
    from nsbgan_infer.engines import place
    from nsbgan_infer.evaluation.images import (
        MEASURES,
        Gathered,
        Reference,
        check_measures,
        evaluate_images,
        load_judges,
    )
    from nsbgan_infer.evaluation.pictures import PictureSet, open_pictures, pipeline_pictures
    from nsbgan_infer.evaluation.references import make_reference, real_pictures
    from nsbgan_infer.evaluation.references import save_reference as save
    from nsbgan_infer.pipeline import Drawing, NsbPipeline
    from nsbgan_infer.storage.hub import set_offline

    if offline:
        set_offline()
    names = check_measures([m.strip().lower() for m in measures.split(",") if m.strip()])
    chosen = pick_device(device)
    if fake.startswith("preset:"):
        pipeline = NsbPipeline.from_pretrained(fake.removeprefix("preset:"), sampler=sampler, decoder=decoder)
        wanted = list(classes) or (None if pipeline.sampler.info.classes is None else ["all"])
        requests = pipeline.requests(wanted, per_class, seeds=seed)
        drawing = Drawing(truncation, resolution=res)
        placed = place(pipeline, engine, device=chosen, dtype=torch.float32, images=len(requests), drawing=drawing)
        fakes = pipeline_pictures(placed, requests, drawing)
    else:
        fakes = open_pictures(fake, size=size)
    reals: PictureSet | Reference | None = real_pictures(real, size=size) if real else None
    if save_reference is not None and (isinstance(reals, Reference) or reals is None):
        raise UsageError("There are no real pictures to make a reference of: give them with --real.")
    if save_reference is not None and not any(MEASURES[m].needs == "moments" for m in names):
        raise UsageError("A reference holds statistics for fid, fd-lite0 or fd-lite2: add one of these measures.")
    note_pictures(fakes, console)
    if isinstance(reals, PictureSet):
        note_pictures(reals, console)
    judges = load_judges(names, inception=inception, device=chosen)
    total = fakes.count + (reals.count if reals is not None and not isinstance(reals, Reference) else 0)
    with console.bar(total) as bar:
        bar.step("evaluate images")
        report, seen = evaluate_images(
            fakes, reals, names, judges, batch=batch_size, allow_small=allow_small, progress=bar.advance
        )
    if save_reference is not None and isinstance(seen, Gathered):
        save(make_reference(seen), save_reference)
    console.result(asdict(report), _images_text(report))


def note_pictures(pictures: PictureSet, console: Console) -> None:
    """Say what was read, and what was left out."""
    from nsbgan_infer.datasets.description import read_text

    console.note(f"{pictures.name}: {read_text(pictures.count, pictures.classes, pictures.left_out)}")


def _images_text(report: ImagesReport) -> str:
    rows = []
    for measure, values in report.values.items():
        counts = ", ".join(
            f"{k} {v}" for k, v in values.items() if k.startswith("n_") or k in ("pairs", "within", "among")
        )
        figures = {k: v for k, v in values.items() if isinstance(v, float) and not k.startswith("class ")}
        text = "  ".join(f"{v:.4g}" if k == "value" else f"{k} {v:.4g}" for k, v in figures.items())
        rows.append((measure, text + _weakest_text(values), counts))
    against = f" against {report.real}" if report.real else ""
    return f"{report.fake}{against}\n" + table(rows, header=("measure", "value", "pictures"))


def _weakest_text(values: Mapping[str, float | int | str]) -> str:
    """The three classes with the smallest share, where a measure has shares by class."""
    from nsbgan_infer.classes import find_class

    shares = {k.removeprefix("class "): float(v) for k, v in values.items() if k.startswith("class ")}
    if len(shares) < 2:
        return ""
    weakest = sorted(shares, key=lambda c: shares[c])[:3]
    return "  weakest " + ", ".join(f"{find_class(int(c)).name} {shares[c]:.2f}" for c in weakest)

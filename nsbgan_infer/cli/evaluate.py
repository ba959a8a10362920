"""`nsbgan evaluate`: how good are these images, this decoder, this pipeline along a sweep?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nsbgan_infer.cli.options import FOLDER, console_options
from nsbgan_infer.cli.output import Console, table
from nsbgan_infer.errors import UsageError

if TYPE_CHECKING:
    import torch

    from nsbgan_infer.decoders.base import Decoder
    from nsbgan_infer.evaluation.images import ImagesReport, Reference
    from nsbgan_infer.evaluation.pictures import PictureSet
    from nsbgan_infer.evaluation.reconstruction import DecoderReport
    from nsbgan_infer.pipeline import NsbPipeline


@click.group("evaluate")
def command() -> None:
    """Measure images, decoders and pipelines (extra `eval`)."""


@command.command("decoder")
@click.option(
    "--decoder",
    "names",
    required=True,
    multiple=True,
    metavar="REF",
    help="A name, folder, .safetensors file, hf://owner/repo or spandrel:FILE. Repeat to compare: the pictures are "
    "read once, and --json gives a list.",
)
@click.option(
    "--images",
    "paths",
    required=True,
    multiple=True,
    metavar="SRC",
    help="A folder, ZIP or tar of real pictures, each side at least 32. Repeat for more.",
)
@click.option("--count", type=click.IntRange(min=1), help="Measure this many, spread evenly over all. Default: all.")
@click.option("--batch-size", type=click.IntRange(min=1), default=8, help="Pictures of one size decoded together.")
@click.option("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--dtype", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", help="auto is fp32.")
@click.option(
    "--engine",
    type=click.Choice(["eager", "compile", "openvino"]),
    default="eager",
    help="The others compile for every size of picture: worth it for many of one size.",
)
@click.option("--offline", is_flag=True, help="Never use the network.")
@console_options
def decoder_command(
    names: tuple[str, ...],
    paths: tuple[str, ...],
    count: int | None,
    batch_size: int,
    device: str,
    dtype: str,
    engine: str,
    offline: bool,
    console: Console,
) -> None:
    """Shrink real pictures by 4 in the decoder's own basis, restore them, and compare.

    Y-PSNR and SSIM on BT.601 luma (studio range, border of 4 cut), MSE on RGB in [0, 1], means over the pictures; from
    2,048 pictures on also FD-lite0 and FD-lite2 of the reconstructions.
    """
    from nsbgan_infer.devices import pick_device, pick_dtype
    from nsbgan_infer.evaluation.reconstruction import evaluate_decoders
    from nsbgan_infer.hub import set_offline
    from nsbgan_infer.registry import load_decoder
    from nsbgan_infer.sources import open_source

    if offline:
        set_offline()
    chosen = pick_device(device)
    precision = pick_dtype(dtype, chosen)
    source = open_source(list(paths))
    source = source.spread(count) if count else source
    decoders = [_placed(load_decoder(name), engine, chosen, precision) for name in names]
    with console.bar(len(source)) as bar:
        bar.step("4 decoders")
        reports = evaluate_decoders(decoders, source, batch=batch_size, progress=bar.advance)
    found = [
        ({"decoder": d.info.name, **asdict(r)}, _decoder_text(d.info.name, r))
        for d, r in zip(decoders, reports, strict=True)
    ]
    values = [value for value, _ in found]
    console.result(values[0] if len(values) == 1 else values, "\n".join(text for _, text in found))


def _placed(decoder: Decoder, engine: str, device: torch.device, dtype: torch.dtype) -> Decoder:
    """A decoder where it is to work, run by its engine."""
    import torch

    from nsbgan_infer.engines import pick_engine, with_engine_part

    chosen, _ = pick_engine(engine, device, 0)
    if isinstance(decoder, torch.nn.Module):
        decoder.to(device, torch.float32 if chosen == "openvino" else dtype)
    return decoder if chosen == "eager" else with_engine_part(decoder, chosen, dtype)


@command.command("images")
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
@click.option("--offline", is_flag=True, help="Never use the network.")
@console_options
def images_command(
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
    offline: bool,
    console: Console,
) -> None:
    """Measure pictures, against real ones where a measure needs them.

    Every figure comes with its number of pictures. FID, IS, KID, precision and recall use the original Inception;
    FD-lite0, FD-lite2 and their scores use EfficientNet-Lite, which needs no network. A share is that of the pictures
    which a judge gives to their own class, among the classes that the sampler has (of files: among theirs); with
    -imagenet after ImageNet's mean and deviation instead of those that the judge was trained with.
    """
    from nsbgan_infer.devices import pick_device
    from nsbgan_infer.evaluation.images import (
        MEASURES,
        Gathered,
        Reference,
        check_measures,
        evaluate_images,
        load_judges,
    )
    from nsbgan_infer.evaluation.pictures import open_pictures
    from nsbgan_infer.evaluation.references import make_reference, real_pictures
    from nsbgan_infer.evaluation.references import save_reference as save
    from nsbgan_infer.hub import set_offline
    from nsbgan_infer.pipeline import NsbPipeline

    if offline:
        set_offline()
    names = check_measures([m.strip().lower() for m in measures.split(",") if m.strip()])
    chosen = pick_device(device)
    if fake.startswith("preset:"):
        pipeline = NsbPipeline.from_pretrained(fake.removeprefix("preset:"), sampler=sampler, decoder=decoder)
        fakes = _made(pipeline.to(chosen), classes, per_class, seed, truncation, res)
    else:
        fakes = open_pictures(fake, size=size)
    reals: PictureSet | Reference | None = real_pictures(real, size=size) if real else None
    if save_reference is not None and (isinstance(reals, Reference) or reals is None):
        raise UsageError("There are no real pictures to make a reference of: give them with --real.")
    if save_reference is not None and not any(MEASURES[m].needs == "moments" for m in names):
        raise UsageError("A reference holds statistics for fid, fd-lite0 or fd-lite2: add one of these measures.")
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


@command.command("sweep")
@click.option("--preset", default="embedded", metavar="NAME", help="The pipeline, as in `nsbgan generate`.")
@click.option("--decoder", metavar="REF", help="Replace the decoder of every stage.")
@click.option(
    "--real",
    required=True,
    multiple=True,
    metavar="SRC",
    help="Real pictures, or a reference file (.safetensors). Repeat for more archives of one set.",
)
@click.option("-c", "--class", "classes", multiple=True, metavar="CLASS", help="Default: all that the sampler has.")
@click.option("-n", "--per-class", type=click.IntRange(min=1), default=250, help="Pictures of each class.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Picture j of each class has seed SEED + j.")
@click.option("--truncations", default="0.2,0.4,0.6,0.8,1.0", metavar="LIST", help="The grid, above 0 and up to 1.")
@click.option("--thresholds", default="0.70,0.80,0.90,0.95", metavar="LIST", help="Of rejection; empty: none.")
@click.option("--mode", type=click.Choice(["label", "max"]), default="label", help="The class asked for, or any class.")
@click.option("--max-tries", type=click.IntRange(min=1), default=4, help="Draws for each picture under rejection.")
@click.option("--judge", type=click.Choice(["lite0", "lite2", "fid"]), default="lite0", help="fid needs --inception.")
@click.option("--classifier", default="efficientnet-lite0", metavar="NAME", help="Of rejection (see `nsbgan models`).")
@click.option(
    "--inception",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The Inception weights of torch-fidelity, for --judge fid.",
)
@click.option("--res", type=click.IntRange(min=1), metavar="SIDE", help="Stop after the stage that makes this size.")
@click.option("--size", type=click.IntRange(min=32), help="Bring the real pictures to this side.")
@click.option(
    "-o",
    "--out",
    type=FOLDER,
    default=Path("out/sweep"),
    help="Folder for sweep.md, sweep.json, sweep.png and the cache of judged pictures, which a later run reads.",
)
@click.option("--allow-small", is_flag=True, help="Measure fewer than 2,048 pictures.")
@click.option("--batch-size", type=click.IntRange(min=1), default=8, help="Pictures made and judged together.")
@click.option("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--dtype", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", help="auto is fp32.")
@click.option(
    "--engine",
    type=click.Choice(["eager", "compile", "openvino"]),
    default="eager",
    help="What runs the networks; openvino with --dtype bf16 halves the time where the CPU knows bf16.",
)
@click.option("--offline", is_flag=True, help="Never use the network.")
@console_options
def sweep_command(
    preset: str,
    decoder: str | None,
    real: tuple[str, ...],
    classes: tuple[str, ...],
    per_class: int,
    seed: int,
    truncations: str,
    thresholds: str,
    mode: str,
    max_tries: int,
    judge: str,
    classifier: str,
    inception: Path | None,
    res: int | None,
    size: int | None,
    out: Path,
    allow_small: bool,
    batch_size: int,
    device: str,
    dtype: str,
    engine: str,
    offline: bool,
    console: Console,
) -> None:
    """Truncations, then rejection at the best of them: the paper's columns, and a plot.

    What is judged is kept below --out by its recipe: a run that was stopped goes on, a second one costs nothing.
    """
    from nsbgan_infer.devices import pick_device, pick_dtype
    from nsbgan_infer.engines import placed
    from nsbgan_infer.evaluation.images import LEAST
    from nsbgan_infer.evaluation.pictures import PictureSet
    from nsbgan_infer.evaluation.plots import plot_sweeps
    from nsbgan_infer.evaluation.references import real_pictures, statistics_of
    from nsbgan_infer.evaluation.sweep import Real, Studio, load_sweep_judges, sweep
    from nsbgan_infer.evaluation.tables import columns_of, sweep_markdown
    from nsbgan_infer.files import writable_folder, write_bytes, write_json
    from nsbgan_infer.hub import set_offline
    from nsbgan_infer.pipeline import NsbPipeline
    from nsbgan_infer.samplers.rejection import Wish

    if offline:
        set_offline()
    grids = numbers(truncations, "--truncations"), numbers(thresholds, "--thresholds")
    chosen = pick_device(device)
    writable_folder(out)
    pipeline = NsbPipeline.from_pretrained(preset, decoder=decoder)
    pipeline = placed(pipeline, chosen, pick_dtype(dtype, chosen), engine)
    wanted = list(classes) or (None if pipeline.sampler.info.classes is None else ["all"])
    wishes = [Wish(r.class_id, r.seed) for r in pipeline.requests(wanted, per_class, seeds=seed)]
    if len(wishes) < LEAST and not allow_small:
        raise UsageError(f"{len(wishes)} pictures are few: ask for {LEAST} or more, or add --allow-small.")
    judges = load_sweep_judges(judge, classifier=classifier, inception=inception, device=chosen)
    pictures = real_pictures(real, size=size)
    with console.bar(pictures.count if isinstance(pictures, PictureSet) else 0) as bar:
        bar.step("real pictures")
        reals = statistics_of(
            pictures, judges.key, judges.distance, keep=out, allow_small=allow_small, progress=bar.advance
        )
    draws = len(wishes) * (len(grids[0]) + (max_tries if grids[1] else 0))
    with console.bar(draws) as bar:
        bar.step("evaluate sweep")
        studio = Studio(pipeline, judges, out / "judged", resolution=res, batch=batch_size, progress=bar.advance)
        found = sweep(
            studio,
            wishes,
            Real(reals.name, reals.n, *reals.moments[judges.key]),
            truncations=grids[0],
            thresholds=grids[1],
            mode=mode,
            max_tries=max_tries,
        )
    value = {**asdict(found), "columns": columns_of(found)}
    write_json(out / "sweep.json", value)
    text = sweep_markdown(found)
    write_bytes(out / "sweep.md", (text + "\n").encode())
    plot_sweeps([found], out / "sweep.png")
    console.result(value, f"{text}\n\nWritten: {out / 'sweep.md'}, sweep.json, sweep.png")


def numbers(text: str, option: str) -> list[float]:
    """Numbers with commas between them. Raises UsageError naming the option."""
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise UsageError(f"{option} takes numbers with commas between them, not '{text}'.") from error


def _made(
    pipeline: NsbPipeline,
    classes: tuple[str, ...],
    per_class: int,
    seed: int,
    truncation: float | None,
    resolution: int | None,
) -> PictureSet:
    """The pictures of a pipeline, made as they are measured."""
    from nsbgan_infer.evaluation.pictures import pipeline_pictures

    wanted = list(classes) or (None if pipeline.sampler.info.classes is None else ["all"])
    requests = pipeline.requests(wanted, per_class, seeds=seed)
    return pipeline_pictures(pipeline, requests, truncation=truncation, resolution=resolution)


def _images_text(report: ImagesReport) -> str:
    rows = []
    for measure, values in report.values.items():
        counts = ", ".join(
            f"{k} {v}" for k, v in values.items() if k.startswith("n_") or k in ("pairs", "within", "among")
        )
        figures = {k: v for k, v in values.items() if isinstance(v, float)}
        text = "  ".join(f"{v:.4g}" if k == "value" else f"{k} {v:.4g}" for k, v in figures.items())
        rows.append((measure, text, counts))
    against = f" against {report.real}" if report.real else ""
    return f"{report.fake}{against}\n" + table(rows, header=("measure", "value", "pictures"))


def _decoder_text(name: str, report: DecoderReport) -> str:
    rows = [
        ("Y-PSNR", f"{report.psnr_y:.2f} dB (interpolation {report.baseline_psnr_y:.2f})"),
        ("SSIM", f"{report.ssim:.4f}"),
        ("MSE", f"{report.mse:.6f}"),
        ("FD-lite0", _or_few(report.fd_lite0)),
        ("FD-lite2", _or_few(report.fd_lite2)),
        ("n", str(report.n)),
    ]
    return table(rows, header=(name, ""))


def _or_few(value: float | None) -> str:
    return "needs 2,048 pictures" if value is None else f"{value:.3f}"

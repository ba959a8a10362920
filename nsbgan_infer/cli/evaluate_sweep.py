"""`nsbgan evaluate sweep`: a pipeline along truncations, then along rejection thresholds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from nsbgan_infer.cli.options import FOLDER, console_options
from nsbgan_infer.cli.output import Console
from nsbgan_infer.errors import UsageError


@click.command("sweep")
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
def command(
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
    from nsbgan_infer.cli.evaluate_images import note_pictures
    from nsbgan_infer.devices import pick_device, pick_dtype
    from nsbgan_infer.engines import place
    from nsbgan_infer.evaluation.images import LEAST
    from nsbgan_infer.evaluation.judged_cache import Studio, load_sweep_judges
    from nsbgan_infer.evaluation.pictures import PictureSet
    from nsbgan_infer.evaluation.references import real_pictures, statistics_of
    from nsbgan_infer.evaluation.reports import write_sweep
    from nsbgan_infer.evaluation.sweep import Real, sweep
    from nsbgan_infer.evaluation.tables import columns_of
    from nsbgan_infer.pipeline import NsbPipeline
    from nsbgan_infer.storage.files import writable_folder
    from nsbgan_infer.storage.hub import set_offline

    if offline:
        set_offline()
    grids = numbers(truncations, "--truncations"), numbers(thresholds, "--thresholds")
    chosen = pick_device(device)
    writable_folder(out)
    pipeline = NsbPipeline.from_pretrained(preset, decoder=decoder)
    pipeline = place(pipeline, engine, device=chosen, dtype=pick_dtype(dtype, chosen))
    wanted = list(classes) or (None if pipeline.sampler.info.classes is None else ["all"])
    requests = pipeline.requests(wanted, per_class, seeds=seed)
    if len(requests) < LEAST and not allow_small:
        raise UsageError(f"{len(requests)} pictures are few: ask for {LEAST} or more, or add --allow-small.")
    judges = load_sweep_judges(judge, classifier=classifier, inception=inception, device=chosen)
    pictures = real_pictures(real, size=size)
    if isinstance(pictures, PictureSet):
        note_pictures(pictures, console)
    with console.bar(pictures.count if isinstance(pictures, PictureSet) else 0) as bar:
        bar.step("real pictures")
        reals = statistics_of(
            pictures, judges.key, judges.distance, keep=out, allow_small=allow_small, progress=bar.advance
        )
    draws = len(requests) * (len(grids[0]) + (max_tries if grids[1] else 0))
    with console.bar(draws) as bar:
        bar.step("evaluate sweep")
        studio = Studio(pipeline, judges, out / "judged", resolution=res, batch=batch_size, progress=bar.advance)
        found = sweep(
            studio,
            requests,
            Real(reals.name, reals.n, *reals.moments[judges.key]),
            truncations=grids[0],
            thresholds=grids[1],
            mode=mode,
            max_tries=max_tries,
        )
    text = write_sweep(found, out)
    value = {**asdict(found), "columns": columns_of(found)}
    console.result(value, f"{text}\n\nWritten: {out / 'sweep.md'}, sweep.json, sweep.png")


def numbers(text: str, option: str) -> list[float]:
    """Numbers with commas between them. Raises UsageError naming the option."""
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise UsageError(f"{option} takes numbers with commas between them, not '{text}'.") from error

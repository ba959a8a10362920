"""`nsbgan reproduce`: the paper's tables and figures, its numbers beside ours."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nsbgan_infer.cli.evaluate_sweep import numbers
from nsbgan_infer.cli.options import FOLDER, console_options
from nsbgan_infer.cli.output import Console
from nsbgan_infer.errors import UsageError

if TYPE_CHECKING:
    from nsbgan_infer.evaluation.judged_cache import Judges
    from nsbgan_infer.evaluation.reproduce import Options
    from nsbgan_infer.evaluation.sweep import Real

TABLES = ("table1", "table2", "table3", "table4", "table5", "table10")
FIGURES = ("fig1", "fig2", "slicing")


@click.command("reproduce")
@click.argument("name", type=click.Choice([*TABLES, *FIGURES]), metavar="NAME")
@click.option(
    "--real",
    multiple=True,
    metavar="SRC",
    help="Real pictures to measure against, or a reference file "
    "(.safetensors). Repeat for more archives of one set. The classes in their names are those that are drawn.",
)
@click.option("--images", multiple=True, metavar="SRC", help="Pictures for table3 and the figures.")
@click.option(
    "--weights",
    multiple=True,
    metavar="NAME=FILE",
    help="The file of a sampler or decoder that does not ship, for example learned-w-64=FOLDER.",
)
@click.option("-n", "--per-class", type=click.IntRange(min=1), default=250, help="Pictures of each class.")
@click.option("--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Picture j of each class has seed SEED + j.")
@click.option("--truncations", default="0.2,0.4,0.6,0.8,1.0", metavar="LIST", help="The grid, above 0 and up to 1.")
@click.option("--thresholds", default="0.70,0.80,0.90,0.95", metavar="LIST", help="Of rejection (table4, table5).")
@click.option("--max-tries", type=click.IntRange(min=1), default=4, help="Draws for each picture under rejection.")
@click.option("--judge", type=click.Choice(["lite0", "lite2", "fid"]), default="lite0", help="fid needs --inception.")
@click.option("--classifier", default="efficientnet-lite0", metavar="NAME", help="Of rejection (see `nsbgan models`).")
@click.option(
    "--inception",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The Inception weights of torch-fidelity, for --judge fid.",
)
@click.option("--size", type=click.IntRange(min=32), help="Bring the real pictures to this side.")
@click.option(
    "--time/--no-time",
    "timed",
    default=True,
    help="Time one picture of every row, filled with random weights where it has none.",
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
@click.option(
    "-o",
    "--out",
    type=FOLDER,
    default=Path("out/reproduce"),
    help="Folder for NAME.md, NAME.json, NAME.png and the cache of judged pictures, which a later run reads.",
)
@click.option("--offline", is_flag=True, help="Never use the network.")
@console_options
def command(
    name: str,
    real: tuple[str, ...],
    images: tuple[str, ...],
    weights: tuple[str, ...],
    per_class: int,
    seed: int,
    truncations: str,
    thresholds: str,
    max_tries: int,
    judge: str,
    classifier: str,
    inception: Path | None,
    size: int | None,
    timed: bool,
    allow_small: bool,
    batch_size: int,
    device: str,
    dtype: str,
    engine: str,
    out: Path,
    offline: bool,
    console: Console,
) -> None:
    """Print a table of the paper beside our own figures, or draw one of its figures.

    NAME is table1, table2, table3, table4, table5, table10, fig1, fig2 or slicing. Rows whose weights or data are
    missing say which file is wanted and how to give it; rows that can run here do run. A run that was stopped goes on.
    """
    from nsbgan_infer.storage.files import writable_folder
    from nsbgan_infer.storage.hub import set_offline

    if offline:
        set_offline()
    if name in FIGURES:
        if not images:
            raise UsageError(f"Of which picture? Give a file, folder or ZIP with --images for {name}.")
        writable_folder(out)
        _draw(name, images, out / f"{name}.png", console)
        return
    from nsbgan_infer.datasets import open_source
    from nsbgan_infer.datasets.description import read_text
    from nsbgan_infer.devices import pick_device, pick_dtype
    from nsbgan_infer.evaluation.judged_cache import load_sweep_judges
    from nsbgan_infer.evaluation.reports import write_reproduction
    from nsbgan_infer.evaluation.reproduce import Options, reproduce_mse, reproduce_table
    from nsbgan_infer.evaluation.tables import find_table

    chosen = pick_device(device)
    options = Options(
        per_class=per_class,
        seed=seed,
        truncations=numbers(truncations, "--truncations"),
        thresholds=numbers(thresholds, "--thresholds"),
        max_tries=max_tries,
        batch=batch_size,
        weights=_weights(weights),
        timed=timed,
        device=chosen,
        dtype=pick_dtype(dtype, chosen),
        engine=engine,
    )
    writable_folder(out)
    table = find_table(name)
    if name == "table3":
        source = open_source(list(images)) if images else None
        if source:
            console.note(read_text(len(source), source.classes, source.left_out))
        with console.bar(len(source) if source else 0) as bar:
            bar.step("4 decoders")
            found = reproduce_mse(table, source, options, progress=bar.advance)
        console.result(asdict(found), write_reproduction(found, out))
        return
    judges: Judges | None = None
    statistics: Real | None = None
    if real:
        judges = load_sweep_judges(judge, classifier=classifier, inception=inception, device=options.device)
        statistics, options = _real(real, size, judges, options, out, allow_small, console)
    with console.bar(0) as bar:
        bar.step(f"reproduce {name}")
        found = reproduce_table(
            table, options, real=statistics, judges=judges, folder=out / "judged", note=console.note,
            progress=bar.advance,
        )  # fmt: skip
    console.result(asdict(found), write_reproduction(found, out))


def _draw(name: str, images: tuple[str, ...], path: Path, console: Console) -> None:
    from nsbgan_infer.datasets import open_source
    from nsbgan_infer.evaluation.figures import draw_figure

    rows, text = draw_figure(name, open_source(list(images)), path)
    console.result({"figure": name, "file": str(path), "pictures": rows}, f"{text}\n{path}")


def _real(
    paths: tuple[str, ...],
    size: int | None,
    judges: Judges,
    options: Options,
    out: Path,
    allow_small: bool,
    console: Console,
) -> tuple[Real, Options]:
    """Statistics of the real pictures, and the options limited to their classes."""
    from dataclasses import replace

    from nsbgan_infer.cli.evaluate_images import note_pictures
    from nsbgan_infer.evaluation.pictures import PictureSet
    from nsbgan_infer.evaluation.references import real_pictures, statistics_of
    from nsbgan_infer.evaluation.sweep import Real

    pictures = real_pictures(paths, size=size)
    if isinstance(pictures, PictureSet):
        note_pictures(pictures, console)
    with console.bar(pictures.count if isinstance(pictures, PictureSet) else 0) as bar:
        bar.step("real pictures")
        reference = statistics_of(
            pictures, judges.key, judges.distance, keep=out, allow_small=allow_small, progress=bar.advance
        )
    if isinstance(pictures, PictureSet):
        classes = frozenset(c for c in pictures.classes if c is not None)
        options = replace(options, classes=classes or None)
    return Real(reference.name, reference.n, *reference.moments[judges.key]), options


def _weights(pairs: tuple[str, ...]) -> dict[str, str]:
    from nsbgan_infer.errors import unknown_name
    from nsbgan_infer.evaluation.tables import TABLES as ALL
    from nsbgan_infer.registry import entries

    extra = {row.note_name for table in ALL.values() for row in table.rows if row.note_name}
    known = {*entries("sampler"), *entries("decoder"), *extra}
    found = {}
    for text in pairs:
        name, equals, file = text.partition("=")
        if not equals or not file:
            raise UsageError(f"--weights takes NAME=FILE, not '{text}'.")
        if name not in known:
            raise unknown_name("sampler or decoder", name, known)
        found[name] = file
    return found

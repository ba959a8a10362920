"""`nsbgan data`: pictures prepared once for the training of samplers."""

from __future__ import annotations

from pathlib import Path

import click

from nsbgan_infer.cli.groups import Group
from nsbgan_infer.cli.options import FOLDER, console_options
from nsbgan_infer.cli.output import Console, size_text


@click.group("data", cls=Group)
def command() -> None:
    """Prepare pictures for training."""


@command.command("encode")
@click.argument("sources", nargs=-1, required=True, metavar="SRC...")
@click.option("-o", "--out", type=FOLDER, required=True, help="The folder of the set.")
@click.option("--basis", type=click.Choice(["wavelet", "pixel"]), default="wavelet", help="Of the encoder.")
@click.option("--levels", type=click.IntRange(1, 4), default=2, help="Halvings.")
@click.option("--size", type=click.IntRange(min=16), default=256, help="Side of the square pictures to encode.")
@click.option("--smallest", type=click.IntRange(min=1), default=64, help="Refuse pictures with a shorter side.")
@click.option("--flips/--no-flips", default=True, help="Also encode each picture mirrored.")
@console_options
def encode_command(
    sources: tuple[str, ...],
    out: Path,
    basis: str,
    levels: int,
    size: int,
    smallest: int,
    flips: bool,
    console: Console,
) -> None:
    """Turn labelled pictures into a compact set of low bands, with its own statistics and class table.

    SRC is a folder, ZIP, tar or the folder of a run. The class is the WordNet id in each path, or stands in a .cls or
    .json file beside the picture, as in WebDataset. `nsbgan train sampler --data` takes the set.
    """
    from nsbgan_infer.datasets import open_source
    from nsbgan_infer.datasets.description import read_text
    from nsbgan_infer.encoders import make_encoder
    from nsbgan_infer.training.samplers.lowbands import encode_lowbands

    source = open_source(list(sources))
    console.note(read_text(len(source), source.classes, source.left_out))
    encoder = make_encoder({"basis": basis, "levels": levels})
    done = 0
    with console.bar(len(source), unit="picture") as bar:
        bar.step("3 encoders")

        def progress(finished: int, _all: int) -> None:
            nonlocal done
            bar.advance(finished - done)
            done = finished

        made = encode_lowbands(source, out, encoder, size=size, flips=flips, smallest=smallest, progress=progress)
    written = sum(p.stat().st_size for p in out.iterdir() if p.is_file())
    side = size >> levels
    value = {"out": str(out), "count": len(made), "classes": list(made.classes), "side": side, "size": written}
    value["left_out"] = dict(source.left_out)
    value |= {"minimum": made.minimum, "maximum": made.maximum, "mean": made.mean, "std": made.std}
    text = f"{out}  {len(made)} pictures of {len(made.classes)} classes, {side} x {side}, {size_text(written)}"
    console.result(value, text)

"""`nsbgan export`: the networks of a pipeline as ONNX files, checked against torch."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from nsbgan_infer.cli.loading import choose, load
from nsbgan_infer.cli.options import FOLDER, Choice, Machine, choice_options, console_options
from nsbgan_infer.cli.output import Console, table


@click.command("export")
@choice_options
@click.option("-o", "--out", type=FOLDER, default=Path("onnx"), help="Folder for the files.")
@click.option(
    "--truncation", type=float, metavar="T", help="Worked into the sampler. Default: what its weights expect."
)
@click.option("--batch-size", type=click.IntRange(min=1), default=1, help="Of the sampler; fixed in its file.")
@click.option("--check/--no-check", default=True, help="Run each file and compare it with torch.")
@console_options
def command(
    choice: Choice, out: Path, truncation: float | None, batch_size: int, check: bool, console: Console
) -> None:
    """Write the sampler and the decoders as ONNX files.

    A decoder's file takes any batch, height and width. export.json lists inputs and shapes, and for each stage the
    encoder, a low pass without weights, and the reduction that the decoder reads: see docs/concepts.md.
    """
    from nsbgan_infer.engines.graph import part_graph
    from nsbgan_infer.engines.onnx import export_pipeline, find_runner, need
    from nsbgan_infer.storage.files import writable_folder

    writable_folder(out)
    need("onnx", "onnxscript")
    if check:
        find_runner()
    ref, _ = choose(choice, console, fetch=True)
    pipeline = load(ref, choice, Machine("cpu", "fp32", batch_size), console)
    done = export_pipeline(pipeline, out, truncation=truncation, batch=batch_size, check=check)
    for decoder in dict.fromkeys(s.decoder.info.name for s in pipeline.stages if part_graph(s.decoder) is None):
        console.note(f"{decoder} is no network of this package and gets no file: export.json says where it stands.")
    rows = [[str(out / d.file), d.part, _difference(d.difference)] for d in done]
    console.result(
        {"pipeline": pipeline.name, "out": str(out), "networks": [asdict(d) for d in done]},
        table(rows, header=("file", "network", "largest difference from torch")),
    )


def _difference(value: float | None) -> str:
    return "not checked" if value is None else f"{value:.2g}"

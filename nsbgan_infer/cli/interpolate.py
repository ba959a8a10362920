"""`nsbgan interpolate`: a decoder between two decoders, weight by weight (ESRGAN's network interpolation)."""

from __future__ import annotations

from pathlib import Path

import click

from nsbgan_infer.cli.complete import decoder_names
from nsbgan_infer.cli.options import FILE_OR_FOLDER, console_options
from nsbgan_infer.cli.output import Console


@click.command("interpolate")
@click.argument("a", shell_complete=decoder_names)
@click.argument("b", shell_complete=decoder_names)
@click.option("--alpha", type=click.FloatRange(0, 1), required=True, help="0 gives A, 1 gives B.")
@click.option("-o", "--out", type=FILE_OR_FOLDER, required=True, help="A folder, or a .safetensors file.")
@console_options
def command(a: str, b: str, alpha: float, out: Path, console: Console) -> None:
    """Write (1 - alpha) A + alpha B of two decoders with the same architecture, such as an L1 and a GAN decoder.

    A and B are names, folders or .safetensors files.
    """
    from nsbgan_infer.registry import component_path
    from nsbgan_infer.training.decoders.adversarial import interpolate_weights

    component = interpolate_weights(component_path(a, "decoder"), component_path(b, "decoder"), alpha, out)
    value = {"a": a, "b": b, "alpha": alpha, "out": str(out), "arch": component.arch}
    console.result(value, f"{out}  {component.arch}, {1 - alpha:g} of {a} and {alpha:g} of {b}")

"""`nsbgan interpolate`: a decoder between two decoders, weight by weight (ESRGAN's network interpolation)."""

from __future__ import annotations

from pathlib import Path

import click

from nsbgan_infer.cli.options import EXISTING, FILE_OR_FOLDER, console_options
from nsbgan_infer.cli.output import Console


@click.command("interpolate")
@click.argument("a", type=EXISTING)
@click.argument("b", type=EXISTING)
@click.option("--alpha", type=click.FloatRange(0, 1), required=True, help="0 gives A, 1 gives B.")
@click.option("-o", "--out", type=FILE_OR_FOLDER, required=True, help="A folder, or a .safetensors file.")
@console_options
def command(a: Path, b: Path, alpha: float, out: Path, console: Console) -> None:
    """Write (1 - alpha) A + alpha B of two components with the same architecture, such as an L1 and a GAN decoder."""
    from nsbgan_infer.training.adversarial import interpolate_weights

    component = interpolate_weights(a, b, alpha, out)
    value = {"a": str(a), "b": str(b), "alpha": alpha, "out": str(out), "arch": component.arch}
    console.result(value, f"{out}  {component.arch}, {1 - alpha:g} of {a} and {alpha:g} of {b}")

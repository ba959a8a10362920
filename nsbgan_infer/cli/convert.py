"""`nsbgan convert`: old checkpoints to safetensors, the only command that opens a pickle (tensors only)."""

from __future__ import annotations

from pathlib import Path

import click

from nsbgan_infer.cli.options import EXISTING, FILE_OR_FOLDER, console_options
from nsbgan_infer.cli.output import Console, size_text


@click.command("convert")
@click.argument("source", type=EXISTING, metavar="IN")
@click.argument("out", type=FILE_OR_FOLDER)
@click.option("--licence", default="unknown", metavar="TEXT", help="The licence of the weights, kept with them.")
@console_options
def command(source: Path, out: Path, licence: str, console: Console) -> None:
    """Convert a .bin, .pth or .pt checkpoint to OUT: a folder, or one file if it ends in .safetensors.

    What IN holds is told from its tensors: BigGAN-deep as pytorch-pretrained-biggan has it, StyleGAN2, SRResNet or
    RRDBNet (ESRGAN's and Real-ESRGAN's files) as BasicSR has them, or our own. Code inside a checkpoint is refused,
    never run.
    """
    from nsbgan_infer.convert import convert_checkpoint

    written = convert_checkpoint(source, out, licence=licence)
    size = written.stat().st_size
    console.result({"in": str(source), "out": str(written), "size": size}, f"{written}  {size_text(size)}")

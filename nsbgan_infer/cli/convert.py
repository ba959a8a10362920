"""`nsbgan convert`: checkpoints of other programs to safetensors, the only command that reads pickles (as data)."""

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
    """Convert a .bin, .pth, .pt or .pkl checkpoint to OUT: a folder, or one file if it ends in .safetensors.

    What IN holds is recognised by its tensors: BigGAN and BigGAN-deep (pytorch-pretrained-biggan, BigGAN-PyTorch,
    StudioGAN), BigBiGAN, StyleGAN2 (rosinality's, StyleGAN2-ADA), R3GAN, SRResNet or RRDBNet (ESRGAN's and
    Real-ESRGAN's files) as BasicSR has them, or our own. Code inside a checkpoint is refused, never run.
    """
    from nsbgan_infer.convert import convert_checkpoint
    from nsbgan_infer.publishing.component_facts import component_facts
    from nsbgan_infer.storage.components import outline_component

    written = convert_checkpoint(source, out, licence=licence)
    size, facts = written.stat().st_size, component_facts(outline_component(out))
    what = f"{facts['arch']} {facts['kind']}"
    if facts["kind"] == "sampler":
        classes = f"{facts['classes']} classes" if facts["classes"] else "without classes"
        what += f", {facts['resolution']} x {facts['resolution']}, {classes}"
    value = {"in": str(source), "out": str(written), "size": size, "component": facts}
    console.result(value, f"{written}  {size_text(size)}  {what}")

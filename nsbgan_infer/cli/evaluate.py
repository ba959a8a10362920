"""`nsbgan evaluate`: how good are these images, this decoder, this pipeline along a sweep?"""

from __future__ import annotations

import click

from nsbgan_infer.cli import evaluate_decoder, evaluate_images, evaluate_inverter, evaluate_sweep
from nsbgan_infer.cli.groups import Group


@click.group("evaluate", cls=Group)
def command() -> None:
    """Measure images, decoders and pipelines (extra `eval`)."""


for module in (evaluate_decoder, evaluate_images, evaluate_sweep, evaluate_inverter):
    command.add_command(module.command)

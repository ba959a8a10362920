"""`nsbgan classes`: step 0, the classes that can be asked for."""

from __future__ import annotations

import click

from nsbgan_infer.classes import list_classes
from nsbgan_infer.cli.complete import class_names, preset_names, sampler_names
from nsbgan_infer.cli.options import console_options
from nsbgan_infer.cli.output import Console, table
from nsbgan_infer.errors import UsageError


@click.command("classes")
@click.argument("words", nargs=-1, metavar="[WORD]...", shell_complete=class_names)
@click.option(
    "--preset",
    metavar="NAME",
    shell_complete=preset_names,
    help="Only the classes that this preset's sampler can draw.",
)
@click.option(
    "--sampler", metavar="REF", shell_complete=sampler_names, help="Only the classes that this sampler can draw."
)
@console_options
def command(words: tuple[str, ...], preset: str | None, sampler: str | None, console: Console) -> None:
    """List the ImageNet classes, or those that WORD means: a name, a part of one, or a kind such as dog or vehicle.

    An id or a WordNet id also serves.
    """
    if preset and sampler:
        raise UsageError("Give --preset or --sampler, not both.")
    found = list_classes(" ".join(words))
    if preset or sampler:
        drawn = _drawn_by(preset, sampler)
        found = [c for c in found if c.id in drawn]
        if not found:
            raise UsageError(
                f"{sampler or preset} cannot draw '{' '.join(words)}': leave out the word to see its list."
            )
    rows = [(str(c.id), c.wnid, ", ".join(c.names)) for c in found]
    value = [{"id": c.id, "wnid": c.wnid, "names": list(c.names)} for c in found]
    console.result({"classes": value}, table(rows))


def _drawn_by(preset: str | None, sampler: str | None) -> set[int]:
    from nsbgan_infer.diagnostics.estimate import outline_sampler
    from nsbgan_infer.presets import find_preset

    name = sampler or find_preset(str(preset)).sampler
    info = outline_sampler(name).info
    if info.classes is None:
        raise UsageError(f"The sampler {name} draws without classes.")
    if info.labels == "numbers":
        raise UsageError(f"The classes of {name} are not ImageNet's: they have only numbers, 0 to {max(info.classes)}.")
    return set(info.classes)

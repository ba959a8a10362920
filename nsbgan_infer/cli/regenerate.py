"""`nsbgan regenerate`: an image again, from the recipe inside it."""

from __future__ import annotations

from pathlib import Path

import click

from nsbgan_infer.cli.complete import decoder_names, sampler_names
from nsbgan_infer.cli.loading import go_offline
from nsbgan_infer.cli.options import EXISTING, console_options
from nsbgan_infer.cli.output import Console
from nsbgan_infer.errors import UsageError


@click.command("regenerate")
@click.argument("source", type=EXISTING, metavar="IN")
@click.option(
    "-o",
    "--out",
    required=True,
    metavar="PATH",
    help="A file name ending in .png, .webp or .jpg, else a folder. An existing file is replaced.",
)
@click.option("--pipeline", metavar="REF", help="Take the weights from this preset, folder or Hub id.")
@click.option(
    "--sampler",
    metavar="REF",
    shell_complete=sampler_names,
    help="Take the sampler from here, if it was not the pipeline's own.",
)
@click.option(
    "--decoder",
    metavar="REF",
    shell_complete=decoder_names,
    help="Take the decoder from here. Default: the name in the recipe.",
)
@click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps. Default: the recipe's, if it is here.")
@click.option("--force", is_flag=True, help="Go on with other weights than the recipe's.")
@click.option("--offline", is_flag=True, help="Never use the network.")
@console_options
def command(
    source: Path,
    out: str,
    pipeline: str | None,
    sampler: str | None,
    decoder: str | None,
    device: str | None,
    force: bool,
    offline: bool,
    console: Console,
) -> None:
    """Make an image again from the recipe inside it, and store the recipe in the new one too.

    On the same kind of device, dtype and torch the picture is the same to within a grey level. Names in a recipe are
    looked up among presets and decoders only; it cannot make a file be read.
    """
    from nsbgan_infer.images import file_name, format_of, read_recipe, save_image
    from nsbgan_infer.outputs.regenerate import regenerate
    from nsbgan_infer.photos.batch import is_file_name
    from nsbgan_infer.storage.files import writable_folder

    recipe = read_recipe(source)
    name = file_name(recipe.class_id, recipe.seed, labels=recipe.labels)
    target = Path(out) if is_file_name(out) else Path(out) / name
    format_of(target)
    if target.exists() and target.samefile(source):
        raise UsageError(f"{target} is the image itself: choose another --out.")
    writable_folder(target.parent)
    if offline:
        go_offline()
    made = regenerate(recipe, pipeline=pipeline, sampler=sampler, decoder=decoder, device=device, force=force)
    for difference in made.differences:
        console.warn(f"not the recipe's weights: {difference}")
    for note in made.notes:
        console.warn(note)
    save_image(made.image, target, recipe=made.recipe)
    console.result({"in": str(source), "out": str(target), "differences": list(made.differences)}, str(target))

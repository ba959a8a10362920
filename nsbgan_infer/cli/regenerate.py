"""`nsbgan regenerate`: an image again, from the recipe inside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nsbgan_infer.cli.complete import decoder_names, sampler_names
from nsbgan_infer.cli.loading import go_offline
from nsbgan_infer.cli.options import EXISTING, FILE_OR_FOLDER, console_options
from nsbgan_infer.cli.output import Console
from nsbgan_infer.errors import CheckpointError, UsageError

if TYPE_CHECKING:
    from PIL import Image

    from nsbgan_infer.decoders.base import Decoder
    from nsbgan_infer.images import Recipe
    from nsbgan_infer.pipeline import NsbPipeline
    from nsbgan_infer.samplers.base import Sampler


@click.command("regenerate")
@click.argument("source", type=EXISTING, metavar="IN")
@click.option(
    "-o",
    "--out",
    type=FILE_OR_FOLDER,
    required=True,
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
    out: Path,
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
    from nsbgan_infer.storage.files import writable_folder

    recipe = read_recipe(source)
    name = file_name(recipe.class_id, recipe.seed, labels=recipe.labels)
    target = out if out.suffix and not out.is_dir() else out / name
    format_of(target)
    if target.exists() and target.samefile(source):
        raise UsageError(f"{target} is the image itself: choose another --out.")
    writable_folder(target.parent)
    if offline:
        go_offline()
    loaded = _load(recipe, pipeline, sampler, decoder)
    differences = check_weights(recipe, loaded)
    if differences and not force:
        raise CheckpointError(
            f"These are not the recipe's weights: {'; '.join(differences)}. Give the right ones with --pipeline, "
            "--sampler or --decoder, or --force to go on."
        )
    for difference in differences:
        console.warn(f"not the recipe's weights: {difference}")
    loaded = _as_it_ran(loaded, recipe, device, console)
    image, made = _make(loaded, recipe)
    save_image(image, target, recipe=made)
    console.result({"in": str(source), "out": str(target), "differences": differences}, str(target))


def check_weights(recipe: Recipe, pipeline: NsbPipeline) -> list[str]:
    """How the loaded parts differ from those that the recipe names, one clause each; empty if they are the same."""
    from nsbgan_infer.storage.components import weights_sha256

    count = len(recipe.decoders)
    parts: list[Sampler | Decoder] = [pipeline.sampler, *(s.decoder for s in pipeline.stages[:count])]
    wanted = [recipe.sampler, *recipe.decoders]
    if len(parts) != len(wanted):
        return [f"the recipe has {count} stages, {pipeline.name} has {len(pipeline.stages)}"]
    found: dict[str, None] = {}  # a decoder of two stages is named once
    for part, name in zip(parts, wanted, strict=True):
        digest, expected = weights_sha256(part), recipe.weights.get(name)
        if part.info.name != name:
            found[f"{part.info.name} instead of {name}"] = None
        elif digest != expected:
            found[f"{name} has SHA-256 {_short(digest)} instead of {_short(expected)}"] = None
    return list(found)


def _load(recipe: Recipe, pipeline: str | None, sampler: str | None, decoder: str | None) -> NsbPipeline:
    from nsbgan_infer.pipeline import NsbPipeline
    from nsbgan_infer.presets import PRESETS
    from nsbgan_infer.registry import entries

    if pipeline is None and recipe.preset not in PRESETS:
        raise UsageError(
            f"The image was made by the pipeline '{recipe.preset}', which is no preset: give its folder or Hub id "
            "with --pipeline."
        )
    ref = pipeline or recipe.preset
    names = set(recipe.decoders)
    if decoder is None and ref in PRESETS and names:
        if len(names) > 1 or not names <= set(entries("decoder")):
            raise UsageError(f"Its decoder '{recipe.decoders[0]}' is in no table: give it with --decoder.")
        decoder = names.pop()
    if sampler is None and ref in PRESETS and recipe.sampler != PRESETS[ref].sampler:
        if recipe.sampler not in entries("sampler"):
            raise UsageError(f"Its sampler '{recipe.sampler}' is in no table: give it with --sampler.")
        sampler = recipe.sampler
    return NsbPipeline.from_pretrained(ref, sampler=sampler, decoder=decoder)


def _as_it_ran(pipeline: NsbPipeline, recipe: Recipe, device: str | None, console: Console) -> NsbPipeline:
    """The pipeline on the recipe's device, in its dtype and by its engine, or a warning where these are not here."""
    from nsbgan_infer.devices import DTYPES, pick_device

    if recipe.dtype not in DTYPES:
        raise UsageError(f"The recipe's dtype '{recipe.dtype}' is unknown: it was written by another version.")
    try:
        chosen = pick_device(device or recipe.device)
    except UsageError:
        if device:
            raise
        chosen = pick_device("cpu")
        console.warn(f"the recipe's device {recipe.device} is not here: made on the CPU, small differences are usual")
    if recipe.engine != "eager":
        from nsbgan_infer.engines import pick_engine, with_engine

        try:
            engine, _ = pick_engine(recipe.engine, chosen, 1)
            return with_engine(pipeline.to(chosen), engine, dtype=DTYPES[recipe.dtype])
        except UsageError as error:
            console.warn(f"{error} Made by the engine eager, small differences are usual.")
    return pipeline.to(chosen, DTYPES[recipe.dtype])


def _make(pipeline: NsbPipeline, recipe: Recipe) -> tuple[Image.Image, Recipe]:
    from nsbgan_infer.pipeline import Drawing

    requests = pipeline.requests(recipe.class_id, seeds=recipe.seed)
    mode: Any = recipe.truncation_mode  # checked by `settle`
    output = next(pipeline.stream(requests, Drawing(recipe.truncation, mode, recipe.resolution)))
    made = replace(output.recipes[0], attempt=recipe.attempt, rejection=recipe.rejection)
    return output.images[0], made


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"

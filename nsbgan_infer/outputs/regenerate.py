"""An image again, from the recipe inside it: the same parts, checked by their SHA-256, run as they ran then."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nsbgan_infer.devices import DTYPES, pick_device
from nsbgan_infer.engines import pick_engine, with_engine
from nsbgan_infer.errors import CheckpointError, UsageError, WrongTypeError
from nsbgan_infer.images import Recipe, read_recipe
from nsbgan_infer.latents.file import read_table
from nsbgan_infer.pipeline import Drawing, NsbPipeline, requests_of
from nsbgan_infer.presets import PRESETS
from nsbgan_infer.registry import entries
from nsbgan_infer.storage.components import weights_sha256

if TYPE_CHECKING:
    from PIL import Image


@dataclass(frozen=True)
class Regenerated:
    """An image made again."""

    image: Image.Image
    """RGB, 8 bit."""
    recipe: Recipe
    """How it was made now; of the given recipe it keeps attempt and rejection."""
    differences: tuple[str, ...]
    """How the weights differ from the recipe's, a clause each: empty unless `force` was given."""
    notes: tuple[str, ...]
    """What was not here, such as the recipe's device, a sentence each."""


def regenerate(
    source: str | Path | Recipe,
    *,
    pipeline: NsbPipeline | str | None = None,
    sampler: str | None = None,
    decoder: str | None = None,
    device: str | None = None,
    force: bool = False,
) -> Regenerated:
    """Make an image again from its file, or from the recipe itself.

    On the same kind of device, dtype and torch the picture is the same to within a grey level. Names in a recipe are
    looked up among presets, samplers and decoders only; it cannot make a file be read. `pipeline` (a preset, folder,
    Hub id, or an object, which is moved), `sampler` and `decoder` say where to take the parts from instead; `device`
    defaults to the recipe's if it is here. Raises CheckpointError for other weights than the recipe's unless `force`,
    ImageFileError for a file without a recipe, UsageError or UnknownNameError for parts that cannot be found.

    >>> from nsbgan_infer import NsbPipeline
    >>> output = NsbPipeline.from_pretrained("embedded")("church", resolution=256)
    >>> again = regenerate(output.recipes[0])
    >>> again.image.tobytes() == output.images[0].tobytes(), again.differences
    (True, ())
    """
    recipe = _recipe_of(source)
    loaded, differences, notes = _prepare(recipe, pipeline, sampler, decoder, device, force)
    mode: Any = recipe.truncation_mode  # checked by `settle`
    drawing = Drawing(recipe.truncation, mode, recipe.resolution)
    if recipe.latents is None:
        output = next(loaded.stream(loaded.requests(recipe.class_id, seeds=recipe.seed), drawing))
    else:
        given = read_table(recipe.latents, seed=recipe.seed, truncation=recipe.truncation, mode=mode)
        output = next(loaded.stream(requests_of(given), drawing, latents=given))
    made = replace(output.recipes[0], attempt=recipe.attempt, rejection=recipe.rejection)
    return Regenerated(output.images[0], made, tuple(differences), tuple(notes))


def from_recipe(
    source: str | Path | Recipe,
    *,
    pipeline: NsbPipeline | str | None = None,
    sampler: str | None = None,
    decoder: str | None = None,
    device: str | None = None,
    force: bool = False,
) -> NsbPipeline:
    """The pipeline that made a picture, on its device, in its dtype and by its engine, to make more like it.

    Arguments and errors as those of `regenerate`.

    >>> from nsbgan_infer import NsbPipeline
    >>> recipe = NsbPipeline.from_pretrained("embedded")("church", resolution=256).recipes[0]
    >>> from_recipe(recipe)("church", seeds=3, truncation=recipe.truncation, resolution=256)
    <Output: 1 picture of 256 x 256: church seed 3>
    """
    return _prepare(_recipe_of(source), pipeline, sampler, decoder, device, force)[0]


def _recipe_of(source: object) -> Recipe:
    if isinstance(source, Recipe):
        return source
    if not isinstance(source, str | Path):
        raise WrongTypeError(
            f"A recipe comes from the path of a picture or is a Recipe, not a {type(source).__name__}."
        )
    return read_recipe(Path(source))


def _prepare(
    recipe: Recipe,
    pipeline: NsbPipeline | str | None,
    sampler: str | None,
    decoder: str | None,
    device: str | None,
    force: bool,
) -> tuple[NsbPipeline, list[str], list[str]]:
    """The recipe's pipeline as it ran then, how its weights differ if `force` lets them, and notes."""
    loaded = pipeline if isinstance(pipeline, NsbPipeline) else _load(recipe, pipeline, sampler, decoder)
    differences = compare_weights(recipe, loaded)
    if differences and not force:
        raise CheckpointError(
            f"These are not the recipe's weights: {'; '.join(differences)}. Give the right ones with --pipeline, "
            "--sampler or --decoder, or --force to go on."
        )
    loaded, notes = _run_as_then(loaded, recipe, device)
    now = loaded.identity()["versions"]
    for package in recipe.versions.keys() - {"nsbgan_infer", "torch"}:
        if now.get(package) != recipe.versions[package]:
            notes.append(f"{package} was {recipe.versions[package]} then and is {now.get(package, 'not used')} now")
    return loaded, differences, notes


def compare_weights(recipe: Recipe, pipeline: NsbPipeline) -> list[str]:
    """How the loaded parts differ from those that the recipe names, one clause each; empty if they are the same."""
    count = len(recipe.decoders)
    parts: list[Any] = [pipeline.sampler, *(s.decoder for s in pipeline.stages[:count])]
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
    if pipeline is None and recipe.preset not in PRESETS:
        raise UsageError(
            f"The image was made by the pipeline '{recipe.preset}', which is not a preset: give its folder or Hub id "
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


def _run_as_then(pipeline: NsbPipeline, recipe: Recipe, device: str | None) -> tuple[NsbPipeline, list[str]]:
    """The pipeline on the recipe's device, in its dtype and by its engine, and a sentence for each that is not here."""
    if recipe.dtype not in DTYPES:
        raise UsageError(f"The recipe's dtype '{recipe.dtype}' is unknown: it was written by another version.")
    notes = []
    try:
        chosen = pick_device(device or recipe.device)
    except UsageError:
        if device:
            raise
        chosen = pick_device("cpu")
        notes.append(f"the recipe's device {recipe.device} is not here: made on the CPU, small differences are usual")
    if recipe.engine != "eager":
        try:
            engine, _ = pick_engine(recipe.engine, chosen, 1)
            return with_engine(pipeline.to(chosen), engine, dtype=DTYPES[recipe.dtype]), notes
        except UsageError as error:
            notes.append(f"{error} Made by the engine eager, small differences are usual.")
    return pipeline.to(chosen, DTYPES[recipe.dtype]), notes


def _short(digest: str | None) -> str:
    return digest[:12] if digest else "none"

"""`nsbgan invert`: a photo's latents, into a file that `nsbgan generate --latents` draws from."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nsbgan_infer.cli.complete import class_names
from nsbgan_infer.cli.loading import choose, load
from nsbgan_infer.cli.options import FILE_OR_FOLDER, Choice, Machine, choice_options, console_options
from nsbgan_infer.cli.output import Console
from nsbgan_infer.errors import UsageError

if TYPE_CHECKING:
    from nsbgan_infer.inversion import Inversion


@click.command("invert")
@click.argument("photo", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-o", "--out", type=FILE_OR_FOLDER, default=Path("latents.safetensors"), help="The file for the latents.")
@click.option(
    "-c",
    "--class",
    "class_text",
    metavar="CLASS",
    shell_complete=class_names,
    help="What the photo shows: an id, a WordNet id or a name. Default: what EfficientNet-Lite0 sees in it.",
)
@click.option("--steps", type=click.IntRange(min=0), help="How long to refine; 0 keeps the first guess. Default: 80.")
@click.option(
    "--freedom",
    type=click.Choice(["vector", "layers", "pixels"]),
    default="pixels",
    help="What may move: only what the sampler draws from, also what it makes of that inside, or its sample at last. "
    "More is nearer to the photo and further from what the sampler draws by itself.",
)
@click.option("--picture", type=FILE_OR_FOLDER, metavar="FILE", help="Also write what the latents give (.png, ...).")
@click.option("--inverter", metavar="REF", help="What guesses first: a name, folder or file. Default: what ships.")
@click.option("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
@choice_options
@console_options
def command(
    photo: Path,
    out: Path,
    class_text: str | None,
    steps: int | None,
    freedom: Any,
    picture: Path | None,
    inverter: str | None,
    device: str,
    choice: Choice,
    console: Console,
) -> None:
    """Find the latents from which a pipeline draws a picture like a photo (extra `train`).

    The central square is taken. Then for example: nsbgan generate --latents latents.safetensors --class church

    Without --preset or --pipeline the one that ships is used, since its sampler has an inverter.
    """
    from nsbgan_infer.classes import parse_classes
    from nsbgan_infer.images import format_of
    from nsbgan_infer.storage.files import writable_folder

    if out.suffix != ".safetensors":
        raise UsageError(f"Latents are kept in a .safetensors file, not in '{out.name}': change --out.")
    if picture:
        format_of(picture)
        writable_folder(picture.parent)
    writable_folder(out.parent)
    named = parse_classes([class_text]) if class_text is not None else [None]
    if len(named) != 1:
        raise UsageError(f"'{class_text}' means {len(named)} classes: a photo is inverted as one.")
    if choice.sampler and not (choice.preset or choice.pipeline):
        raise UsageError("--sampler replaces the sampler of a pipeline: name that too with --preset or --pipeline.")
    ref = "embedded" if not (choice.preset or choice.pipeline) else ""
    ref = choose(choice, console, fetch=True)[0] if not ref else _embedded(choice)
    from nsbgan_infer.inversion import STEPS, invert
    from nsbgan_infer.latents_file import save_latents

    pipeline = load(ref, choice, Machine(device, "fp32", 1, "eager"), console)
    asked = STEPS if steps is None else steps
    with console.bar(asked, unit="step") as bar:
        bar.step("1 latents")
        found = invert(
            photo,
            pipeline,
            class_id=named[0],
            inverter=inverter,
            steps=asked,
            freedom=freedom,
            progress=lambda done, _all: bar.at(done),
        )
    save_latents(found.latents, out, found.origin)
    if picture:
        _write_picture(found, pipeline, picture)
    console.result(_value(found, out, picture), _text(found, out, picture))


def _embedded(choice: Choice) -> str:
    if choice.offline:
        from nsbgan_infer.cli.loading import go_offline

        go_offline()
    return "embedded"


def _write_picture(found: Inversion, pipeline: Any, path: Path) -> None:
    from nsbgan_infer.images import save_image

    output = pipeline(latents=found.latents)
    save_image(output.images[0], path, recipe=output.recipes[0])


def _value(found: Inversion, out: Path, picture: Path | None) -> dict[str, Any]:
    return {
        "latents": str(out),
        "picture": picture and str(picture),
        "sampler": found.origin.sampler,
        "class_id": found.class_id,
        "certainty": found.certainty and round(found.certainty, 4),
        "inverter": found.inverter,
        "before": vars(found.before),
        "after": vars(found.after),
    }


def _text(found: Inversion, out: Path, picture: Path | None) -> str:
    from nsbgan_infer.classes import find_class

    lines = []
    if found.class_id is not None:
        sure = f" ({found.certainty:.2f} by EfficientNet-Lite0)" if found.certainty is not None else ""
        lines.append(f"class     {found.class_id} {find_class(found.class_id).name}{sure}")
    lines.append(f"guess     {found.inverter or 'none: no inverter ships for ' + found.origin.sampler}")
    for name, far in (("before", found.before), ("after", found.after)):
        lines.append(f"{name:<9} {far.psnr:.2f} dB, features {far.features:.2f} from the photo's")
    return "\n".join([*lines, str(out), *([str(picture)] if picture else [])])

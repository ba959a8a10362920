"""`nsbgan card`: the model card of a component or a pipeline, with a sheet of samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nsbgan_infer.cli.complete import published_names
from nsbgan_infer.cli.options import Decorator, console_options
from nsbgan_infer.cli.output import Console
from nsbgan_infer.errors import UsageError

if TYPE_CHECKING:
    from nsbgan_infer.publishing.sheet import Sheet
    from nsbgan_infer.publishing.subject import Subject

sheet_option: Decorator = click.option("--sheet/--no-sheet", default=True, help="Make a sheet of samples for the card.")
measured_option: Decorator = click.option(
    "--measured",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="JSON",
    help="Figures for the card: what `nsbgan evaluate decoder ... --json` wrote.",
)


@click.command("card")
@click.argument("refs", nargs=-1, required=True, metavar="NAME|FOLDER...", shell_complete=published_names)
@click.option("--repo", metavar="OWNER/NAME", help="The Hub repository that the card's commands name.")
@click.option("--replace", is_flag=True, help="Write over a README.md that is in FOLDER.")
@measured_option
@sheet_option
@console_options
def command(
    refs: tuple[str, ...], repo: str | None, replace: bool, measured: Path | None, sheet: bool, console: Console
) -> None:
    """Write the model card of a component or a pipeline.

    FOLDER gets README.md and sheet.webp. NAME is of weights that ship, `all` means all of them; their cards are
    cards/NAME.md and NAME.webp, in `weights` of a checkout, else below the current folder, and always written anew.
    """
    from nsbgan_infer.publishing.subject import CARD, SHEET, open_subject
    from nsbgan_infer.storage.files import writable_folder, write_bytes
    from nsbgan_infer.storage.shipped import cards_dir, manifest

    shipped = list(manifest().get("components", {}))
    names = [n for ref in refs for n in (shipped if ref == "all" else [ref])]
    if len(names) > 1 and (repo or measured):
        raise UsageError("--repo and --measured are about one card: name one.")
    rows: list[dict[str, Any]] = []
    for name in names:
        subject = open_subject(name)
        if name in shipped:
            folder = writable_folder(cards_dir(), what="folder of cards")
            card, picture = folder / f"{name}.md", folder / f"{name}.webp"
        else:
            folder = writable_folder(subject.source if subject.source.is_dir() else subject.source.parent)
            card, picture = folder / CARD, folder / SHEET
            if card.exists() and not replace:
                raise UsageError(f"{card} is there already: add --replace to write over it.")
        made = make_sheet(subject, console) if sheet else None
        text = card_text(subject, repo or name, picture.name, made, measured, in_hub=repo is not None)
        if made:
            write_bytes(picture, picture_bytes(made))
        write_bytes(card, text.encode())
        rows.append({"name": subject.name, "card": str(card), "sheet": str(picture) if made else None})
    console.result({"cards": rows}, "\n".join(row["card"] for row in rows))


def make_sheet(subject: Subject, console: Console) -> Sheet | None:
    """The sheet of samples, with a progress bar; a note where there can be none."""
    from nsbgan_infer.publishing.sheet import sample_sheet, sheet_pictures

    with console.bar(sheet_pictures(subject)) as bar:
        bar.step(f"sheet of {subject.name}")
        made = sample_sheet(subject, bar.advance)
    if made is None:
        console.note(f"No sheet for {subject.name}: no sampler of its basis ships.")
    return made


def picture_bytes(sheet: Sheet) -> bytes:
    """The sheet as a file."""
    from nsbgan_infer.images import encode_image

    return encode_image(sheet.image, "webp", quality=88)


def card_text(
    subject: Subject, ref: str, picture: str, sheet: Sheet | None, measured: Path | None, *, in_hub: bool
) -> str:
    """The card, its commands naming `ref`, which is a repository if `in_hub`."""
    from nsbgan_infer.publishing.card import make_card
    from nsbgan_infer.storage.files import read_json

    figures: dict[str, Any] = read_json(measured) if measured else {}
    where = f"hf://{ref}" if in_hub and subject.kind != "pipeline" else ref
    return make_card(subject, ref=where, sheet=(picture, sheet.caption) if sheet else None, measured=_scalars(figures))


def _scalars(figures: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in figures.items() if isinstance(v, int | float | str) and k != "decoder"}

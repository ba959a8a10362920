"""`nsbgan card`: the model card of a component or a pipeline, with a sheet of samples."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

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
    from nsbgan_infer.publishing.cards import named_subjects, write_card
    from nsbgan_infer.storage.files import read_json

    names = named_subjects(refs)
    if len(names) > 1 and (repo or measured):
        raise UsageError("--repo and --measured are about one card: name one.")
    figures = read_json(measured) if measured else None
    made = [
        write_card(
            name,
            repo=repo,
            replace=replace,
            measured=figures,
            sheet=(lambda subject: make_sheet(subject, console)) if sheet else None,
        )
        for name in names
    ]
    rows = [{"name": w.name, "card": str(w.card), "sheet": str(w.sheet) if w.sheet else None} for w in made]
    console.result({"cards": rows}, "\n".join(str(w.card) for w in made))


def make_sheet(subject: Subject, console: Console) -> Sheet | None:
    """The sheet of samples, with a progress bar; a note where there can be none."""
    from nsbgan_infer.publishing.sheet import sample_sheet, sheet_pictures

    with console.bar(sheet_pictures(subject)) as bar:
        bar.step(f"sheet of {subject.name}")
        made = sample_sheet(subject, bar.advance)
    if made is None:
        console.note(f"No sheet for {subject.name}: no sampler of its basis ships.")
    return made

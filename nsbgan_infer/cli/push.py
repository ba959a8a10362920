"""`nsbgan push`: a component or a pipeline to a repository on the Hugging Face Hub, with its model card."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nsbgan_infer.cli.card import make_sheet, measured_option, sheet_option
from nsbgan_infer.cli.complete import published_names
from nsbgan_infer.cli.options import console_options
from nsbgan_infer.cli.output import Console, size_text, table

if TYPE_CHECKING:
    from nsbgan_infer.publishing.subject import Content, Subject


@click.command("push")
@click.argument("ref", metavar="FOLDER|NAME", shell_complete=published_names)
@click.argument("repo", metavar="OWNER/NAME")
@click.option("--private", is_flag=True, help="Only those you allow can see the repository.")
@click.option("--dry-run", is_flag=True, help="List the files and show the card; no network is used.")
@measured_option
@sheet_option
@console_options
def command(
    ref: str, repo: str, private: bool, dry_run: bool, measured: Path | None, sheet: bool, console: Console
) -> None:
    """Publish a decoder, a sampler or a whole pipeline on the Hugging Face Hub.

    FOLDER is what save_pretrained or a trainer wrote, or a .safetensors file; NAME is of weights that ship. A README.md
    in FOLDER is the model card, else one is written for the repository. What a training run keeps for itself stays
    here. Log in first with `hf auth login`.
    """
    from nsbgan_infer.publishing.card import licence_of
    from nsbgan_infer.publishing.subject import open_subject
    from nsbgan_infer.storage.hub import parse_ref, push_files

    repo, _ = parse_ref(f"hf://{repo}")
    subject = open_subject(ref)
    if not licence_of(subject):
        console.warn(f"The weights of {subject.name} state no licence: nobody may use them without asking you.")
    if subject.kept:
        console.note(f"Stays here: {', '.join(subject.kept)}.")
    files = _with_card(subject, repo, measured, sheet, console)
    sizes = {name: len(c) if isinstance(c, bytes) else c.stat().st_size for name, c in files.items()}
    value = {"repo": repo, "kind": subject.kind, "private": private, "files": sizes}
    listed = table([(name, size_text(size)) for name, size in sizes.items()])
    if dry_run:
        card = files["README.md"]
        text = (card if isinstance(card, bytes) else card.read_bytes()).decode(errors="replace")
        console.result(value | {"commit": None, "card": text}, f"{repo} would hold:\n{listed}\n\n{text}")
        return
    console.note(f"Publishing to {repo}:\n{listed}")
    commit = push_files(repo, files, private=private, message=f"Upload {subject.kind} by nsbgan")
    use = f"--pipeline {repo}" if subject.kind == "pipeline" else f"--{subject.kind} hf://{repo}"
    console.result(value | {"commit": commit}, f"{commit}\nUse it with {use}")


def _with_card(subject: Subject, repo: str, measured: Path | None, sheet: bool, console: Console) -> dict[str, Content]:
    """The files of the subject, and a card with its sheet where it brings none."""
    from nsbgan_infer.publishing.cards import card_text, sheet_bytes
    from nsbgan_infer.publishing.subject import CARD, SHEET
    from nsbgan_infer.storage.files import read_json

    if CARD in subject.files:
        return subject.files
    made = make_sheet(subject, console) if sheet else None
    figures = read_json(measured) if measured else None
    card = card_text(subject, repo, SHEET, made, figures, in_hub=True).encode()
    added: dict[str, Content] = {CARD: card, SHEET: sheet_bytes(made)} if made else {CARD: card}
    return {**subject.files, **added}

"""Where cards stand: beside weights that ship in `weights/cards`, in a component's own folder else."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nsbgan_infer.errors import UsageError
from nsbgan_infer.images import encode_image
from nsbgan_infer.publishing.card import make_card
from nsbgan_infer.publishing.sheet import Sheet, sample_sheet
from nsbgan_infer.publishing.subject import CARD, SHEET, Subject, open_subject
from nsbgan_infer.storage.files import writable_folder, write_bytes
from nsbgan_infer.storage.shipped import cards_dir, manifest


@dataclass(frozen=True)
class Written:
    """A card that was written, and its sheet where there is one."""

    name: str
    card: Path
    sheet: Path | None


def named_subjects(refs: tuple[str, ...]) -> list[str]:
    """The names meant by `refs`; `all` stands for all weights that ship."""
    return [name for ref in refs for name in (manifest().get("components", {}) if ref == "all" else [ref])]


def place_for(ref: str, subject: Subject, *, replace: bool = False) -> tuple[Path, Path]:
    """Where card and sheet go: cards/NAME.md and NAME.webp for weights that ship, README.md and sheet.webp in a folder.

    Raises UsageError where a README.md is in the way and `replace` is not set.
    """
    if ref in manifest().get("components", {}):
        folder = writable_folder(cards_dir(), what="folder of cards")
        return folder / f"{ref}.md", folder / f"{ref}.webp"
    folder = writable_folder(subject.source if subject.source.is_dir() else subject.source.parent)
    if (folder / CARD).exists() and not replace:
        raise UsageError(f"{folder / CARD} is there already: add --replace to write over it.")
    return folder / CARD, folder / SHEET


def write_card(
    ref: str,
    *,
    repo: str | None = None,
    replace: bool = False,
    measured: Mapping[str, Any] | None = None,
    sheet: Callable[[Subject], Sheet | None] | None = sample_sheet,
) -> Written:
    """Write the card of `ref` (see `open_subject`) and the sheet that `sheet` makes of it (None: no sheet).

    Raises UsageError as `place_for`, before the sheet is made, and whatever `open_subject` raises.
    """
    subject = open_subject(ref)
    card, picture = place_for(ref, subject, replace=replace)
    made = sheet(subject) if sheet else None
    text = card_text(subject, repo or ref, picture.name, made, measured, in_hub=repo is not None)
    if made:
        write_bytes(picture, sheet_bytes(made))
    write_bytes(card, text.encode())
    return Written(subject.name, card, picture if made else None)


def card_text(
    subject: Subject,
    ref: str,
    picture: str,
    sheet: Sheet | None,
    measured: Mapping[str, Any] | None = None,
    *,
    in_hub: bool = False,
) -> str:
    """The card as Markdown, its commands naming `ref`, which is a repository if `in_hub`. Of a report `measured` the
    single figures are taken."""
    where = f"hf://{ref}" if in_hub and subject.kind != "pipeline" else ref
    figures = {k: v for k, v in (measured or {}).items() if isinstance(v, int | float | str) and k != "decoder"}
    return make_card(subject, ref=where, sheet=(picture, sheet.caption) if sheet else None, measured=figures)


def sheet_bytes(sheet: Sheet) -> bytes:
    """The sheet as a WebP file."""
    return encode_image(sheet.image, "webp", quality=70)

"""What is wrong with a field of the page, in the page's own words: a sentence for the field, and what may be done.

The package's errors speak to people at a terminal. Here stands what a visitor of a page reads instead.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from nsbgan_infer.classes import ImageNetClass, all_classes, find_class, parse_classes, search
from nsbgan_infer.errors import MissingExtraError, NsbError, OfflineError, UnknownNameError

SHOWN = 8  # classes among which one may choose
NEAR = 0.6  # likeness from which a name is worth naming
COMMAND = re.compile(r"`|(?<!\w)--\w|\bnsbgan \w|\bpip install")  # what only helps at a terminal


@dataclass(frozen=True)
class Choice:
    """A button: what it says, what it does (`act`), and with what."""

    label: str
    act: str
    value: str = ""


@dataclass(frozen=True)
class Problem:
    """One sentence for the field called `field` (`page` where it is nobody's), and the next steps as buttons."""

    field: str
    text: str
    choices: tuple[Choice, ...] = ()


class PageError(Exception):
    """What was asked for cannot be: the problems that say why."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__(" ".join(p.text for p in problems))
        self.problems = problems


def problem_of(error: Exception, field: str = "page") -> Problem:
    """An error of the work as a problem. One that nobody expected goes into the server's log, with where it was."""
    if isinstance(error, OfflineError):
        return Problem(field, "The weights are not on this server and could not be fetched just now. Try again later.")
    if isinstance(error, MissingExtraError):
        return Problem(field, "This needs a package that is not installed on this server.")
    if isinstance(error, NsbError):
        return Problem(field, without_commands(str(error)))
    logging.getLogger(__name__).error("The page met an error that nobody expected.", exc_info=error)
    return Problem(field, f"Something unexpected went wrong ({type(error).__name__}). The server's log says where.")


def without_commands(sentence: str) -> str:
    """A sentence of the package up to where it tells what to type, and without the folders of paths."""
    sentence = re.sub(r"(?:/[^\s/'\"]+)+/(?=[^\s/'\"]+)", "", sentence)
    kept = ""
    for part in re.findall(r"[^:;.()]+(?:[.](?=\S)[^:;.()]+)*[:;.()]*\s*", sentence):
        if COMMAND.search(part):
            break
        kept += part
    kept = kept.strip().rstrip(":;,( ")
    return (kept if kept.endswith((".", "?", "!")) else f"{kept}.") if kept else "This cannot be done."


def ask_classes(text: str, available: Sequence[int] | None, field: str = "class") -> list[str]:
    """The classes that `text` means (`;` between several), as ids to be asked for; none where `available` is None.

    A word that means one class of `available` is enough. Raises PageError.
    """
    if available is None:
        return []
    parts = parts_of(text)
    if not parts:
        raise PageError(Problem(field, "Which class? Type a name, or choose a picture.", _offer(text, "", available)))
    ids: dict[int, None] = {}
    for part in parts:
        ids.update(dict.fromkeys(_ids_of(text, part, available, field)))
    return [str(i) for i in ids]


def ask_one_class(text: str, available: Sequence[int] | None, field: str, *, optional: bool = False) -> str:
    """The id of the one class that `text` means; empty where `available` is None, or for an empty text that may be.
    Raises PageError."""
    if optional and not parts_of(text):
        return ""
    found = ask_classes(text, available, field)
    if len(found) > 1:
        raise PageError(Problem(field, "One class, please: several are for the first tab."))
    return found[0] if found else ""


def parts_of(text: str) -> list[str]:
    """The names in what was typed."""
    return [part.strip() for part in text.split(";") if part.strip()]


def nearest(part: str, available: Sequence[int], most: int = 5) -> list[ImageNetClass]:
    """The classes of `available` whose names, or words in them, are nearest to `part`, best first."""

    def likeness(c: ImageNetClass) -> float:
        words = {w for name in c.names for w in (name.lower(), *name.lower().split())}
        return max(SequenceMatcher(None, word, part.lower()).ratio() for word in words)

    rated = sorted(((likeness(all_classes()[i]), -i) for i in available), reverse=True)
    return [all_classes()[-i] for score, i in rated[:most] if score >= NEAR]


def typed(c: ImageNetClass) -> str:
    """What to type for a class: its name, or its id where other classes have the same name."""
    return c.name if len(search(c.name)) == 1 else str(c.id)


def replace_part(text: str, part: str, by: str) -> str:
    """What was typed with one of its names replaced."""
    parts = parts_of(text)
    return "; ".join(by if p == part else p for p in parts) if part in parts else "; ".join([*parts, by])


def _ids_of(text: str, part: str, available: Sequence[int], field: str) -> list[int]:
    if part.lower() == "all":
        return list(available)
    found = search(part[:200])
    here = [c for c in found if c.id in available]
    if len(here) == 1:
        return [here[0].id]
    if here:
        more = f" and {len(here) - SHOWN} more" if len(here) > SHOWN else ""
        chosen = tuple(_choice(text, part, c) for c in here[:SHOWN])
        raise PageError(Problem(field, f"“{part}” may mean {len(here)} classes{more and ', these' + more}:", chosen))
    if not found:
        found = _by_number(text, part, available, field)
        if found and all(c.id in available for c in found):
            return [c.id for c in found]
    choices = _offer(text, part, available)
    raise PageError(Problem(field, f"“{part[:80]}” is no class that this preset can draw. Perhaps:", choices))


def _by_number(text: str, part: str, available: Sequence[int], field: str) -> list[ImageNetClass]:
    """Ids, WordNet ids and ranges."""
    try:
        return [all_classes()[i] for i in parse_classes(part)] if "-" in part else [find_class(part)]
    except UnknownNameError:
        choices = _offer(text, part, available)
        raise PageError(
            Problem(field, f"No class is called “{part[:80]}”." + (" Did you mean one of these?" if choices else ""),
                    choices)
        ) from None  # fmt: skip


def _offer(text: str, part: str, available: Sequence[int]) -> tuple[Choice, ...]:
    near = nearest(part, available) if part else []
    return tuple(_choice(text, part, c) for c in near or [all_classes()[i] for i in available[:5]])


def _choice(text: str, part: str, c: ImageNetClass) -> Choice:
    return Choice(c.name, "put", replace_part(text, part, typed(c)))

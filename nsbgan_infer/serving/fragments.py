"""The page's own pieces of HTML: pictures, classes, progress, problems, photos. Everything that is shown is escaped."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any

from nsbgan_infer.classes import ImageNetClass
from nsbgan_infer.serving.problems import Problem, typed
from nsbgan_infer.serving.settings import Settings


@dataclass(frozen=True)
class Card:
    """One finished picture: the address of its file, the file's name, its class, its seed, and what else is said.

    `asked` is what to type for the class, `like` which of the pictures near the seed's it is. A picture of given
    latents may have no seed.
    """

    url: str
    name: str
    label: str
    seed: int | None
    side: int
    note: str = ""
    asked: str = ""
    like: str = ""

    @property
    def title(self) -> str:
        """Class and seed in words."""
        return ", ".join([self.label] * bool(self.label) + [f"seed {self.seed}"] * (self.seed is not None))


def sheet(
    cards: Sequence[Card], total: int, settings: Settings | None, state: str, *, archive: str = "", side: int = 512
) -> str:
    """The pictures, and a blank for each that is still to come.

    `state`: working, done, stopped or example; `archive`: the address of all of them in one file. Without `settings`
    a picture can only be saved.
    """
    blanks = total - len(cards) if state == "working" else 0
    waiting = (
        f'<figure class="card waiting"><div class="blank" style="aspect-ratio:1"></div>'
        f"<figcaption>{'in work' if number == 0 else 'waits'}</figcaption></figure>"
        for number in range(blanks)
    )
    shown = "".join([*(_card(card, settings, state) for card in cards), *waiting])
    told = escape(json.dumps(asdict(settings)), quote=True) if settings else ""
    query = escape(settings.query(), quote=True) if settings else ""
    save = f'<p class="all"><a class="quiet" href="{archive}" download>Save all as one file</a></p>' if archive else ""
    kind = "one" if total == 1 else "few" if total <= 4 else "many"
    return (
        f'<div class="sheet {kind}" data-state="{state}" data-settings="{told}" data-query="{query}" '
        f'style="--side:{side}px">{shown}</div>{save}'
    )


def _card(card: Card, settings: Settings | None, state: str) -> str:
    title = escape(card.title, quote=True)
    note = f'<span class="note">{escape(card.note)}</span>' if card.note else ""
    facts = escape(json.dumps({"text": card.asked or card.label, "seed": card.seed, "like": card.like}), quote=True)
    again = (
        f'<button type="button" class="act" data-act="like" data-facts="{facts}" '
        f'aria-label="More like {title}">More like this</button>'
        f'<button type="button" class="act" data-act="use" data-facts="{facts}" '
        f'aria-label="Use the settings of {title}">Use these settings</button>'
    )
    acts = (
        f'<div class="acts"><a class="act" href="{card.url}" download="{escape(card.name, quote=True)}" '
        f'aria-label="Save {title}">Save</a>{again if settings else ""}</div>'
    )
    seed = "" if card.seed is None else f" <span>seed {card.seed}</span>"
    return (
        f'<figure class="card"><a class="open" href="{card.url}" target="_blank" aria-label="Open {title}">'
        f'<img src="{card.url}" alt="{title}" width="{card.side}" height="{card.side}"></a>'
        f"<figcaption><b>{escape(card.label) or 'picture'}</b>{seed}{note}</figcaption>{acts}"
        "</figure>"
    )


def say(text: str, done: int = 0, total: int = 0, *, detail: str = "") -> str:
    """The line that says what goes on, with a bar where `total` is known; `detail` is folded away."""
    bar = f'<progress max="{total}" value="{done}" aria-label="Share done"></progress>' if total else ""
    more = f"<details><summary>Time of each step</summary><p>{escape(detail)}</p></details>" if detail else ""
    return f'<div class="strip" role="status">{bar}<span>{escape(text)}</span>{more}</div>'


def problem(found: Problem | None) -> str:
    """A problem beside its field; nothing where there is none."""
    if found is None:
        return ""
    buttons = "".join(
        f'<button type="button" data-act="{escape(c.act, quote=True)}" data-value="{escape(c.value, quote=True)}">'
        f"{escape(c.label)}</button>"
        for c in found.choices
    )
    offered = f'<span class="next">{buttons}</span>' if buttons else ""
    return f'<div class="problem" role="alert"><span>{escape(found.text)}</span>{offered}</div>'


def tiles(found: Sequence[ImageNetClass], known: Sequence[int], picked: Sequence[int], more: int, label: str) -> str:
    """Classes as buttons with pictures: `known` have one, `picked` are those in the field, `more` are not shown.

    One of them is a stop of the tabulator, arrows lead to the others.
    """
    if not found:
        return '<p class="none">No class here matches.</p>'
    first = next((c.id for c in found if c.id in picked), found[0].id)
    shown = "".join(
        f'<button type="button" class="tile" data-act="put" data-value="{escape(typed(c), quote=True)}" '
        f'aria-pressed="{"true" if c.id in picked else "false"}" tabindex="{0 if c.id == first else -1}" '
        f'title="{escape(", ".join(c.names), quote=True)}">'
        + (
            f'<img src="thumbs/{c.id}.webp" alt="" width="96" height="96" loading="lazy">'
            if c.id in known
            else f'<span class="letter" aria-hidden="true">{escape(c.name[0].upper())}</span>'
        )
        + f"<span>{escape(c.name)}</span></button>"
        for c in found
    )
    rest = f'<p class="none">{more:,} more: type to find them.</p>' if more else ""
    return f'<div class="tiles" role="group" aria-label="{escape(label, quote=True)}">{shown}</div>{rest}'


def link(url: str, name: str, text: str, facts: str = "", *, strong: bool = True) -> str:
    """A file to be saved, and what is said of it; `strong` where it is the thing that was asked for."""
    told = f"<span>{escape(facts)}</span>" if facts else ""
    kind = "act strong" if strong else "act"
    return (
        f'<p class="file"><a class="{kind}" href="{url}" download="{escape(name, quote=True)}">{escape(text)}</a>'
        f"{told}</p>"
    )


def photo_facts(thumb: str, name: str, text: str) -> str:
    """One's own photo before it is enlarged: small, with its size."""
    picture = f'<img src="{thumb}" alt="Your photo {escape(name, quote=True)}">'
    return f'<div class="facts">{picture}<p><b>{escape(name)}</b><br>{escape(text)}</p></div>'


def film(url: str, name: str, text: str, settings: dict[str, Any], side: int) -> str:
    """A walk's animation, with its recipe in words and as a file."""
    recipe = escape(json.dumps(settings, indent=1))
    return (
        f'<figure class="film"><img src="{url}" alt="{escape(text, quote=True)}" width="{side}" height="{side}">'
        f"<figcaption>{escape(text)}</figcaption>{link(url, name, 'Save the film')}"
        f"<details><summary>Recipe, inside the file too</summary><pre>{recipe}</pre></details></figure>"
    )

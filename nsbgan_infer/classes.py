"""Step 0, classes: "golden retriever" | n02099601 | 207 -> class id (0 to 999).

Two tables are bundled: the 1000 ImageNet classes (id, WordNet id, names), and what WordNet 3.0 puts above them (dog,
bird, vehicle; data/WORDNET-LICENSE.txt). No corpus is downloaded.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources

from nsbgan_infer.errors import UnknownNameError

NUM_CLASSES = 1000
LONGEST = 8  # words: no name has as many


@dataclass(frozen=True)
class ImageNetClass:
    """One ImageNet class: `id` in 0..999, WordNet id such as `n02099601`, and its names, best known first."""

    id: int
    wnid: str
    names: tuple[str, ...]

    @property
    def name(self) -> str:
        """The first name, for example `golden retriever`."""
        return self.names[0]

    @property
    def slug(self) -> str:
        """The first name as it appears in file names, for example `golden-retriever`."""
        return re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    def __str__(self) -> str:
        return f"{self.id} {self.wnid} {', '.join(self.names)}"


@cache
def all_classes() -> tuple[ImageNetClass, ...]:
    """The 1000 classes in the order of their ids."""
    text = resources.files("nsbgan_infer").joinpath("data/imagenet_classes.tsv").read_text(encoding="utf-8")
    rows = (line.split("\t") for line in text.splitlines()[1:])
    return tuple(ImageNetClass(int(i), wnid, tuple(names.split(", "))) for i, wnid, names in rows)


@cache
def all_kinds() -> dict[str, tuple[int, ...]]:
    """What WordNet puts above the classes: a plain name such as `dog` -> the ids of all that are one, in order."""
    text = resources.files("nsbgan_infer").joinpath("data/wordnet_kinds.tsv").read_text(encoding="utf-8")
    kinds: dict[str, set[int]] = {}
    for line in text.splitlines()[1:]:
        _wnid, names, ids = line.split("\t")
        ranges = [part.partition("-") for part in ids.split(",")]
        found = [i for first, _, last in ranges for i in range(int(first), int(last or first) + 1)]
        for name in names.split(", "):  # one word may have several meanings
            kinds.setdefault(_plain(name), set()).update(found)
    return {name: tuple(sorted(found)) for name, found in kinds.items()}


def search(text: str, among: Collection[int] | None = None) -> list[ImageNetClass]:
    """Classes that match `text`: those of exactly that name; else, best first, all of that kind (`dog`: the breeds),
    those with these words in a name (`hot dog`) and those with a name that contains it (`bulldog`). `among`: only these
    ids count."""
    return [c for rank in _ranks(text, among) for c in rank]


def _ranks(text: str, among: Collection[int] | None = None) -> list[list[ImageNetClass]]:
    """What `search` finds, the exact names alone, or kinds and whole words before parts of words."""
    want = _plain(text)
    if not want:
        return []
    classes = [c for c in all_classes() if among is None or c.id in among]
    if exact := [c for c in classes if any(_plain(n) == want for n in c.names)]:
        return [exact]
    kind = set(all_kinds().get(want, ()))
    worded = {c.id for c in classes if any(f" {want} " in f" {_plain(n)} " for n in c.names)}
    best = [c for c in classes if c.id in kind] + [c for c in classes if c.id in worded - kind]
    parts = [c for c in classes if c.id not in kind | worded and any(want in _plain(n) for n in c.names)]
    return [rank for rank in (best, parts) if rank]


def list_classes(word: str = "") -> list[ImageNetClass]:
    """All classes, or those that `word` means: a name, a part of one, or a kind such as dog or vehicle.

    Raises UnknownNameError, with near names, where there is none.

    >>> [c.name for c in list_classes("parrot")]
    ['African grey', 'macaw', 'sulphur-crested cockatoo', 'lorikeet']
    """
    if not word.strip():
        return list(all_classes())
    return search(word) or [find_class(word)]  # an id, a WordNet id, or an error with near names


def find_class(query: str | int) -> ImageNetClass:
    """The one class meant by an id, a WordNet id, an exact name, an unambiguous part of one or a kind with one class.

    Raises UnknownNameError for none (with near names) or for several (listing them).

    >>> print(find_class("golden retriever"))
    207 n02099601 golden retriever
    """
    text = str(query).strip()
    if re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        number = int(text)
        if not 0 <= number < NUM_CLASSES:
            raise UnknownNameError(f"Class id {number} does not exist: ids go from 0 to {NUM_CLASSES - 1}.")
        return all_classes()[number]
    if re.fullmatch(r"n\d{8}", text):
        for c in all_classes():
            if c.wnid == text:
                return c
        raise UnknownNameError(f"WordNet id {text} is not one of the 1000 ImageNet classes: see `nsbgan classes`.")
    matches = next(iter(_ranks(text)), [])
    if len(matches) == 1:
        return matches[0]
    if matches:
        more = f"; ... (all {len(matches)}: `nsbgan classes {text}`)"
        listed = "; ".join(str(c) for c in matches[:8]) + (more if len(matches) > 8 else "")
        raise UnknownNameError(f"Class name '{text}' is ambiguous, give the id of one of these: {listed}")
    raise UnknownNameError(f"No ImageNet class is called '{text}': {_suggest(text)}")


def parse_classes(items: str | int | Iterable[str | int], *, available: Sequence[int] | None = None) -> list[int]:
    """Class ids meant by `items` (or the only one), in order and without repetition.

    An item is anything that `find_class` takes, a range of ids such as `200-210` (both ends included), or
    `all`, which means `available` (by default all 1000). Raises UnknownNameError.

    >>> parse_classes(["golden retriever", "200-203", 207])
    [207, 200, 201, 202, 203]
    """
    ids: dict[int, None] = {}
    for item in [items] if isinstance(items, str | int) else items:
        text = str(item).strip()
        if text.lower() == "all":
            found: Iterable[int] = range(NUM_CLASSES) if available is None else available
        elif m := re.fullmatch(r"([0-9]+)\s*-\s*([0-9]+)", text):
            first, last = find_class(m[1]).id, find_class(m[2]).id
            if first > last:
                raise UnknownNameError(f"Class range {text} runs backwards: write {last}-{first}.")
            found = range(first, last + 1)
        else:
            found = [find_class(text).id]
        ids.update(dict.fromkeys(found))
    return list(ids)


def parse_numbers(items: str | int | Iterable[str | int], available: Sequence[int]) -> list[int]:
    """As `parse_classes`, for the classes of other data than ImageNet, which have numbers but no names here.

    Raises UnknownNameError.
    """
    ids: dict[int, None] = {}
    for item in [items] if isinstance(items, str | int) else items:
        text = str(item).strip()
        if text.lower() == "all":
            ids.update(dict.fromkeys(available))
            continue
        given = re.fullmatch(r"([0-9]{1,9})(?:\s*-\s*([0-9]{1,9}))?", text)
        first, last = (int(given[1]), int(given[2] or given[1])) if given else (1, 0)
        if first > last or last - first >= NUM_CLASSES:
            raise UnknownNameError(
                f"'{text[:80]}' is not a class here: the classes of this sampler are not ImageNet's and have only "
                f"numbers, {min(available)} to {max(available)}. Give one, a range such as 0-2, or all."
            )
        ids.update(dict.fromkeys(range(first, last + 1)))
    return list(ids)


@lru_cache(maxsize=1 << 13)  # every class name, asked for again with every search
def _plain(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.lower().replace("'", "")).strip()


def _suggest(text: str) -> str:
    """The nearest names: whole ones, and words within names ("retreiver" is near each of the five retrievers)."""
    want = _plain(text)
    phrases = _phrase_table(min(len(want.split()) or 1, LONGEST))
    near = difflib.get_close_matches(want, phrases, n=5, cutoff=0.6)  # best first
    score = {p: difflib.SequenceMatcher(None, p, want).ratio() for p in near}
    found = dict.fromkeys(c for p in near if score[p] > score[near[0]] - 0.1 for c in phrases[p])
    if not found:
        return "`nsbgan classes` lists all, `nsbgan classes dog` those of a kind."
    return "did you mean " + " or ".join(f"{c.name} ({c.id})" for c in list(found)[:5]) + "?"


@cache
def _phrase_table(count: int) -> dict[str, list[ImageNetClass]]:
    """Every plain name and run of `count` words in one, with the classes that have it."""
    table: dict[str, list[ImageNetClass]] = {}
    for c in all_classes():
        for phrase in {p for name in c.names for p in _phrases(_plain(name), count)}:
            table.setdefault(phrase, []).append(c)
    return table


def _phrases(name: str, count: int) -> set[str]:
    """A plain name, and every run of `count` words in it."""
    words = name.split()
    return {name, *(" ".join(words[i : i + count]) for i in range(len(words) - count + 1))}

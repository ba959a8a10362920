"""What a visitor asks the page for: the fields, checked; and the same as the query of an address, there and back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol
from urllib.parse import urlencode

from nsbgan_infer.latents import LAST_SEED
from nsbgan_infer.serving.problems import Choice, PageError, Problem, ask_classes

MOST_OF_EACH = 16
MOST_IMAGES = 64
LEAST_TRUNCATION = 0.05
MOST_THRESHOLD = 0.95
LIKE = re.compile(r"\d{1,9}(\.\d{1,9}){0,7}")


@dataclass(frozen=True)
class Settings:
    """Every field of the first tab. `text` is what was typed as classes; `decoder` is empty for the preset's own.

    `like`: the pictures are drawn near that of the class and the seed, numbers with `.` between them saying which.
    """

    preset: str = "embedded"
    text: str = "golden retriever"
    seed: int = 2
    count: int = 2
    truncation: float = 0.5
    threshold: float = 0.0
    decoder: str = ""
    like: str = ""

    def query(self) -> str:
        """As the query of an address: what differs from the page's first values, and the class and seed."""
        names = {"text": "class"}
        plain = asdict(Settings())
        told = {names.get(k, k): v for k, v in asdict(self).items() if v != plain[k] or k in ("text", "seed")}
        return urlencode(told)


class Offered(Protocol):
    """What the fields are checked against."""

    def presets(self) -> Mapping[str, str]: ...
    def decoders(self, preset: str) -> Mapping[str, str]: ...
    def available(self, preset: str) -> tuple[int, ...] | None: ...
    def to_fetch(self, preset: str) -> str | None: ...


def check(raw: Mapping[str, Any], offered: Offered, *, fetch: bool = False) -> Settings:
    """The settings meant by the fields. `fetch`: the visitor has agreed to the download of the preset's weights.

    Raises PageError with a problem for each field that is wrong.
    """
    problems: list[Problem] = []
    preset = str(raw.get("preset") or "")
    if preset not in offered.presets():
        raise PageError(Problem("preset", "This preset is not offered here. Choose one of the list."))
    decoder = str(raw.get("decoder") or "")
    if decoder and decoder not in offered.decoders(preset):
        problems.append(Problem("decoder", "This decoder does not fit the preset. Choose one of the list."))
    text = str(raw.get("text") or "")[:2000]
    classes: list[str] = []
    try:
        classes = ask_classes(text, offered.available(preset))
    except PageError as error:
        problems += error.problems
    numbers = {}
    for name, what, least, most, whole in (
        ("seed", "The seed", 0, LAST_SEED, True),
        ("count", "The number of pictures", 1, MOST_OF_EACH, True),
        ("truncation", "The truncation", LEAST_TRUNCATION, 1.0, False),
        ("threshold", "The probability", 0.0, MOST_THRESHOLD, False),
    ):
        number = number_of(raw.get(name), least, most, whole)
        if number is None:
            kind = "a whole number" if whole else "a number"
            problems.append(Problem(name, f"{what} must be {kind} from {least:,} to {most:,}."))
        else:
            numbers[name] = number
    if "count" in numbers and numbers["count"] * max(1, len(classes)) > MOST_IMAGES:
        text_ = f"That would be {numbers['count'] * len(classes)} pictures: at most {MOST_IMAGES} are made at once."
        each = MOST_IMAGES // len(classes)
        problems.append(Problem("count", text_, (Choice(f"{each} of each", "put", str(each)),) if each else ()))
    like = str(raw.get("like") or "").strip()
    if like and not LIKE.fullmatch(like):
        problems.append(Problem("like", "A variation is a number such as 7, or several with full stops: 7.3."))
    size = offered.to_fetch(preset)
    if size and not fetch and not problems:
        problems.append(
            Problem(
                "preset",
                f"The weights of {preset} are not on this server yet: {size}, fetched once.",
                (Choice(f"Fetch {size} and generate", "fetch"),),
            )
        )
    if problems:
        raise PageError(*problems)
    return Settings(
        preset, text, int(numbers["seed"]), int(numbers["count"]), float(numbers["truncation"]),
        float(numbers["threshold"]), decoder, like,
    )  # fmt: skip


def number_of(value: Any, least: float, most: float, whole: bool) -> float | None:
    """A field's number, None where it is empty, no number, or out of range."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    if not least <= value <= most or (whole and value != int(value)):
        return None
    return int(value) if whole else float(value)


def read_query(query: Mapping[str, str]) -> Settings:
    """The settings in an address. What cannot be read keeps its first value; nothing is checked beyond that."""
    names = {"class": "text"}
    settings = Settings()
    for key, value in query.items():
        name = names.get(key, key)
        kind: Any = type(getattr(settings, name, None)) if name in Settings.__dataclass_fields__ else None
        try:
            if kind is not None:
                settings = replace(settings, **{name: kind(value[:2000])})
        except ValueError:
            continue
    return settings


def from_event(data: Any) -> Settings:
    """The settings that the page's own script hands back (a picture's, or one of the history)."""
    table = data if isinstance(data, Mapping) else {}
    return read_query({("class" if k == "text" else str(k)): str(v) for k, v in table.items() if v is not None})

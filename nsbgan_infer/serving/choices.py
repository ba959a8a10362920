"""What the page offers: presets and decoders whose weights are here or can be fetched, and classes with pictures."""

from __future__ import annotations

from functools import lru_cache

from PIL import Image

from nsbgan_infer.classes import all_classes, find_class, search
from nsbgan_infer.errors import CheckpointError, UsageError
from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.presets import PRESETS
from nsbgan_infer.registry import Entry, entries, shipped_file

SIDE = 96  # pixels of a class's picture
MOST = 24  # classes shown


def usable(entry: Entry) -> bool:
    """Whether a part can be used without weights of the visitor's own."""
    if entry.source == "shipped":
        try:
            shipped_file(entry.name)
        except CheckpointError:
            return False
    return entry.source != "yours"


def presets() -> list[str]:
    """The presets whose sampler is usable."""
    samplers = entries("sampler")
    return [name for name, preset in PRESETS.items() if usable(samplers[preset.sampler])]


def decoders() -> list[str]:
    """The usable decoders."""
    return [name for name, entry in entries("decoder").items() if usable(entry)]


def typed(caption: str) -> str:
    """What to type for the class of a caption such as `207 golden retriever`: its name, or its id where two have it."""
    number, name = caption.split(" ", 1)
    return name if len(search(name)) == 1 else number


class ClassSearch:
    """Classes that match a text, each with a picture by `artist`, a quick pipeline, where it knows the class."""

    def __init__(self, artist: NsbPipeline) -> None:
        self.artist = artist
        self.known = artist.sampler.info.classes or ()
        self.picture = lru_cache(maxsize=len(self.known) + 1)(self._picture)

    def __call__(self, text: str, available: tuple[int, ...], most: int = MOST) -> list[tuple[Image.Image, str]]:
        """(picture, `207 golden retriever`) of the classes of `available` that match `text` (all of them if empty).

        Raises UnknownNameError with a suggestion for a name that no class has, UsageError where none is available.
        """
        matching = search(text, available) or [find_class(text)] if text.strip() else all_classes()
        found = [c for c in matching if c.id in available][:most]
        if not found:
            raise UsageError(f"None of the classes of this preset matches '{text}': empty the field to see them.")
        return [(self.picture(c.id if c.id in self.known else None), f"{c.id} {c.name}") for c in found]

    def _picture(self, class_id: int | None) -> Image.Image:
        if class_id is None:
            return Image.new("RGB", (SIDE, SIDE), (224, 224, 224))
        made = self.artist(class_id, resolution=min(self.artist.resolutions)).images[0]
        return made.resize((SIDE, SIDE), Image.Resampling.LANCZOS)

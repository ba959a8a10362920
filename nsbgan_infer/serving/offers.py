"""What a service offers: its presets and upscalers, by names that were settled before it started.

A request's names are looked up here and nowhere else, so none of them reaches the file system or the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nsbgan_infer.classes import ImageNetClass, all_classes, find_class
from nsbgan_infer.errors import UnknownNameError, UsageError, unknown_name
from nsbgan_infer.pipeline import Drawing, NsbPipeline
from nsbgan_infer.registry import entries
from nsbgan_infer.serving.choices import usable
from nsbgan_infer.serving.making import GenerateTask
from nsbgan_infer.serving.problems import COMMAND, without_commands
from nsbgan_infer.serving.schemas import GenerateBody, PresetRow
from nsbgan_infer.storage.shipped import default_upscaler


@dataclass(frozen=True)
class Offer:
    """One preset that is served."""

    name: str
    pipeline: NsbPipeline

    @property
    def classes(self) -> tuple[int, ...] | None:
        """The ids that can be asked for; None where it draws without."""
        return self.pipeline.sampler.info.classes

    def row(self) -> PresetRow:
        """The preset as GET /models shows it."""
        info = self.pipeline.sampler.info
        decoders = [stage.decoder.info for stage in self.pipeline.stages]
        return PresetRow(
            name=self.name,
            sampler=info.name,
            decoders=[decoder.name for decoder in decoders],
            classes=len(self.classes or ()),
            resolutions=list(self.pipeline.resolutions),
            truncation=info.truncation,
            licences={info.name: info.licence, **{decoder.name: decoder.licence for decoder in decoders}},
        )


@dataclass(frozen=True)
class Offers:
    """All presets, the default one first, and the names of decoders for photos, likewise."""

    presets: tuple[Offer, ...]
    upscalers: tuple[str, ...]

    def task(self, body: GenerateBody) -> GenerateTask:
        """The picture that a request means. Raises UsageError and UnknownNameError."""
        offer = self._preset(body.preset)
        class_id = self._class_id(offer, body.wanted)
        drawing = offer.pipeline.settle(Drawing(body.truncation, body.truncation_mode, body.resolution))
        return GenerateTask(offer.name, class_id, body.seed, drawing)

    def inversion(self, preset: str | None, wanted: str | None) -> tuple[str, int | None]:
        """Preset and class that a photo is to be inverted with; None: a classifier says. Raises as `task`."""
        offer = self._preset(preset)
        return offer.name, None if wanted is None else self._class_id(offer, wanted)

    def upscaler(self, name: str | None) -> str:
        """The decoder that a request means. Raises UnknownNameError."""
        if name is None:
            return self.upscalers[0]
        if name not in self.upscalers:
            raise unknown_name("decoder", name[:100], self.upscalers)
        return name

    def classes(self) -> list[tuple[ImageNetClass, list[str]]]:
        """Every class that some preset draws, with the names of these."""
        drawn = {offer.name: set(offer.classes or ()) for offer in self.presets}
        rows = [(c, [name for name, ids in drawn.items() if c.id in ids]) for c in all_classes()]
        return [row for row in rows if row[1]]

    def _preset(self, name: str | None) -> Offer:
        named = {offer.name: offer for offer in self.presets}
        if name is None:
            return self.presets[0]
        if name not in named:
            raise unknown_name("preset", name, named)
        return named[name]

    def _class_id(self, offer: Offer, wanted: int | str | None) -> int | None:
        if offer.classes is None:
            if wanted is not None:
                raise UsageError(f"The preset {offer.name} draws without classes: leave out the class.")
            return None
        if wanted is None:
            raise UsageError('Which class? Give "class" with an id, a WordNet id or a name, for example 207.')
        try:
            found = find_class(str(wanted)[:100])
        except UnknownNameError as error:
            said = str(error)
            kept = without_commands(said) if COMMAND.search(said) else said
            raise UsageError(f"{kept} GET /classes?q=WORD searches by name.") from error
        if found.id not in offer.classes:
            raise UsageError(f"The preset {offer.name} does not draw {found.name}: GET /classes lists what is drawn.")
        return found.id


def shipped_upscalers() -> tuple[str, ...]:
    """The decoders for photos that need nothing fetched, the best measured one first."""
    table = entries("decoder")
    names = [n for n, entry in table.items() if entry.source in ("shipped", "none") and usable(entry)]
    best = default_upscaler()
    return (best, *(n for n in names if n != best))


def open_offers(names: Sequence[str], pipelines: Sequence[NsbPipeline], upscalers: Sequence[str]) -> Offers:
    """The offers of loaded pipelines. Raises UsageError where there is none."""
    if not names:
        raise UsageError("Nothing to serve: name a preset with --preset.")
    return Offers(tuple(map(Offer, names, pipelines)), tuple(upscalers))

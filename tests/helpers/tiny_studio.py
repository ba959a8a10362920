"""The web page's studio with tiny components."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from tiny import tiny_pipeline

from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.serving.actions import Finished, Studio


class Gate(Protocol):
    """What a picture waits for: an event, or a gate that counts."""

    def wait(self, seconds: float, /) -> bool: ...


class TinyStudio(Studio):
    """A studio whose every preset is the tiny pipeline.

    `at_once` counts the calls of `generate` that run now, `most_at_once` how many ever did. With `gate` set, each
    image after the first one waits for it.
    """

    at_once = most_at_once = 0
    gate: Gate | None = None

    def generate(self, *args: Any, **kwargs: Any) -> Iterator[Finished]:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            for finished in super().generate(*args, **kwargs):
                yield finished
                if self.gate:
                    self.gate.wait(60)
        finally:
            self.at_once -= 1

    def _load(self, preset: str, decoder: str) -> NsbPipeline:
        pipeline = tiny_pipeline()
        return pipeline.with_decoder(decoder) if decoder else pipeline

"""The web page's studio with tiny components."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from tiny import tiny_pipeline

from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.serving.actions import Finished, Studio


class TinyStudio(Studio):
    """A studio whose every preset is the tiny pipeline.

    `at_once` counts the calls of `generate` that run now, `most_at_once` how many ever did. With `gate` set to an
    event, each image after the first one waits for it.
    """

    at_once = most_at_once = 0
    gate: threading.Event | None = None

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

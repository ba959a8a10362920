"""The web page's studio with tiny components."""

from __future__ import annotations

from tiny import tiny_pipeline

from nsbgan_infer.demo.studio import Studio
from nsbgan_infer.pipeline import NsbPipeline


class TinyStudio(Studio):
    """A studio whose every preset is the tiny pipeline."""

    def _load(self, preset: str, decoder: str) -> NsbPipeline:
        pipeline = tiny_pipeline()
        return pipeline.with_decoder(decoder) if decoder else pipeline

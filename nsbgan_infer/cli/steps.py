"""What the progress bar of `nsbgan generate` says: the numbered step that runs now."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nsbgan_infer.pipeline import NsbPipeline


def next_steps(pipeline: NsbPipeline, resolution: int | None) -> dict[str, str]:
    """For every step of the pipeline by name, the numbered step that runs after it."""
    names, running = ["sample"], ["2 samplers"]
    for number, stage in enumerate(pipeline.stages[: pipeline.stages_for(resolution)], 1):
        if stage.encoder is not None:
            names.append(f"low band {number}")
            running.append("3 encoders")
        names.append(f"decoded {number}")
        running.append("4 decoders")
    return dict(zip(names, [*running[1:], "5 images"], strict=True))

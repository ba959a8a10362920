"""A bulk run of a pipeline: its plan, what makes its batches, and how a worker elsewhere loads it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nsbgan_infer.bulk.plan import Make, Plan
from nsbgan_infer.bulk.sinks import Encoding
from nsbgan_infer.devices import pick_device, pick_dtype
from nsbgan_infer.engines import place
from nsbgan_infer.pipeline import AS_TRAINED, Drawing, NsbPipeline, Output, Request
from nsbgan_infer.storage.hub import set_offline, set_quiet


def pipeline_maker(pipeline: NsbPipeline, drawing: Drawing = AS_TRAINED) -> Make:
    """The `make` of a pipeline: each batch of the plan is one batch of the pipeline."""

    def make(requests: Sequence[Request]) -> Output:
        return next(pipeline.stream(requests, drawing, batch_size=len(requests)))

    return make


def pipeline_settings(pipeline: NsbPipeline, drawing: Drawing = AS_TRAINED) -> dict[str, Any]:
    """The `settings` of a plan for a pipeline: its identity, and the threads that run it.

    Other threads, engines or versions may round a pixel the other way, so a run is resumed with the same ones.
    """
    about = pipeline.identity(drawing)
    sources = {key: about.pop(key) for key in ("weights", "versions")}  # the order in which plan.json lists them
    return {**about, "threads": torch.get_num_threads(), **sources}


def plan_images(
    pipeline: NsbPipeline,
    classes: str | int | Sequence[str | int] | None,
    *,
    per_class: int = 1,
    count: int | None = None,
    seed: int = 0,
    drawing: Drawing = AS_TRAINED,
    batch_size: int = 1,
    shard_size: int = 1000,
    encoding: Encoding | None = None,
) -> Plan:
    """The plan of `per_class` images of each class, or of `count` images in all, each of a random class.

    `encoding` (default: PNG in folders) says what becomes of them. Raises UsageError and UnknownNameError.
    """
    ids = tuple(r.class_id for r in pipeline.requests(classes))
    settings = pipeline_settings(pipeline, drawing)
    return Plan(
        ids,
        count or per_class * len(ids),
        settings["resolution"],
        seed=seed,
        uniform=bool(count),
        batch_size=batch_size,
        shard_size=shard_size,
        encoding=encoding or Encoding(labels=pipeline.sampler.info.labels),
        settings=settings,
    )


@dataclass(frozen=True)
class PipelineFactory:
    """Loads a pipeline where it is called, once a worker, and returns its `make`: what `run_on_ray` takes."""

    ref: str
    """A preset, folder or Hub id; paths are those of this machine's working folder, see `absolute`."""
    sampler: str | None = None
    decoder: str | None = None
    drawing: Drawing = AS_TRAINED
    device: str = "auto"
    dtype: str = "auto"
    engine: str = "eager"
    images: int = 0
    """How many the whole run makes: the engine `auto` depends on it."""
    offline: bool = False

    def __call__(self) -> Make:
        set_quiet()
        if self.offline:
            set_offline()
        device = pick_device(self.device)
        pipeline = NsbPipeline.from_pretrained(self.ref, sampler=self.sampler, decoder=self.decoder)
        pipeline.to(device, pick_dtype(self.dtype, device))
        return pipeline_maker(place(pipeline, self.engine, dtype=self.dtype, images=self.images), self.drawing)


def absolute(ref: str | None) -> str | None:
    """A reference that means the same in another working folder: the path of what lies here, names as they are."""
    return str(Path(ref).absolute()) if ref and Path(ref).exists() else ref

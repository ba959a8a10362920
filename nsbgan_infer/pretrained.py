"""Pipelines on disk and by name: presets, folders and Hub repositories.

A pipeline's folder holds `model_index.json` and one folder for every component with weights. The index names those
folders (plain names only) and, for components without weights, their registry name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.encoders import encoder_config
from nsbgan_infer.errors import CheckpointError, UsageError, unknown_name
from nsbgan_infer.pipeline import NsbPipeline, Stage
from nsbgan_infer.presets import PRESETS, Preset
from nsbgan_infer.registry import entries, load_decoder, load_encoder, load_sampler
from nsbgan_infer.samplers.base import Sampler
from nsbgan_infer.storage.components import Component, load_component, save_component
from nsbgan_infer.storage.files import check_plain_name, read_json, writable_folder, write_json
from nsbgan_infer.storage.hub import fetch_repo, parse_ref
from nsbgan_infer.storage.shipped import default_decoder

INDEX, CONFIG, WEIGHTS = "model_index.json", "config.json", "model.safetensors"


@dataclass(frozen=True)
class Loaders:
    """How the parts of a pipeline are got: loaded, or only outlined (`plan`)."""

    sampler: Callable[[str], Sampler] = load_sampler
    decoder: Callable[[str], Decoder] = load_decoder
    component: Callable[..., Component] = load_component


def load_pipeline(
    ref: str,
    *,
    sampler: str | None = None,
    decoder: str | None = None,
    revision: str | None = None,
    loaders: Loaders | None = None,
) -> NsbPipeline:
    """See `NsbPipeline.from_pretrained`."""
    loaders = loaders or Loaders()
    if revision and (ref in PRESETS or Path(ref).is_dir()):
        raise UsageError(f"Only a Hub repository has revisions, and {ref} is none: leave out the revision.")
    if ref in PRESETS:
        pipeline = _from_preset(PRESETS[ref], sampler, decoder, loaders)
    elif Path(ref).is_dir():
        pipeline = _from_folder(Path(ref), sampler, loaders)
    elif ref.startswith("hf://") or re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", ref):
        repo, pinned = parse_ref(ref if ref.startswith("hf://") else f"hf://{ref}")
        folder = _fetch(ref, repo, revision or pinned)
        if (folder / WEIGHTS).is_file() and not (folder / INDEX).is_file():
            raise UsageError(
                f"{repo} holds a single component, not a pipeline: use it with --decoder hf://{repo} or "
                f"--sampler hf://{repo} (`nsbgan models --remote {repo}` says which)."
            )
        if not (folder / INDEX).is_file():
            raise CheckpointError(
                f"{repo} is not the repository of a pipeline: `nsbgan models --remote {repo}` says what it holds."
            )
        pipeline = _from_folder(folder, sampler, loaders)
    else:
        raise unknown_name("pipeline", ref, PRESETS, hint="A pipeline is a preset, a folder or a Hub id owner/name.")
    if decoder and ref not in PRESETS:
        pipeline = pipeline.with_decoder(loaders.decoder(decoder))
    return pipeline


def _fetch(ref: str, repo: str, revision: str | None) -> Path:
    """The repository that `ref` means. What looks like `owner/name` may have been meant as a folder: both are named."""
    try:
        return fetch_repo(repo, revision=revision)
    except CheckpointError as error:
        if ref.startswith("hf://"):
            raise
        raise type(error)(f"There is no folder '{ref}' here, and as a repository of the Hub: {error}") from error


def save_pipeline(pipeline: NsbPipeline, folder: Path) -> Path:
    """See `NsbPipeline.save_pretrained`. Raises UsageError for a sampler that cannot be saved."""
    if not isinstance(pipeline.sampler, Component):
        raise UsageError(f"The sampler {pipeline.sampler.info.name} is not one that can be saved.")
    writable_folder(folder, what="pipeline folder")
    save_component(pipeline.sampler, folder / "sampler")
    saved: dict[int, dict[str, str]] = {}
    for stage in pipeline.stages:
        key = id(stage.decoder)
        if key not in saved and isinstance(stage.decoder, Component):
            name = f"decoder-{len(saved) + 1}"
            save_component(stage.decoder, folder / name)
            saved[key] = {"folder": name}
        elif key not in saved:
            saved[key] = {"name": _registered_name(stage.decoder)}
    stages = [
        {"encoder": encoder_config(s.encoder) if s.encoder else None, "decoder": saved[id(s.decoder)]}
        for s in pipeline.stages
    ]
    write_json(folder / INDEX, {"kind": "pipeline", "name": pipeline.name, "sampler": "sampler", "stages": stages})
    return folder


def _registered_name(decoder: Decoder) -> str:
    """The registry name that loads an equal of a decoder without weights of ours."""
    name = decoder.info.name
    if name not in entries("decoder") or load_decoder(name).info != decoder.info:
        raise UsageError(f"The decoder {name} cannot be saved: it is no component and no entry of the registry.")
    return name


def _from_preset(preset: Preset, sampler: str | None, decoder: str | None, loaders: Loaders) -> NsbPipeline:
    given = loaders.sampler(sampler) if sampler else None
    loaded: dict[str, Decoder] = {}
    stages = []
    for row in preset.stages:
        # another sampler whose samples go straight into the first decoder sets the reduction of all stages
        reads = given.info.makes if given and not preset.stages[0].levels else row.reads
        name = decoder or (default_decoder(reads) if row.decoder == "default" else row.decoder)
        if name not in loaded:
            loaded[name] = loaders.decoder(name)
        encoder = row.encoder(loaded[name].info.reads)
        stages.append(Stage(load_encoder(encoder) if encoder else None, loaded[name]))
    drawn = given or loaders.sampler(preset.sampler)  # last: it may be a large download
    return NsbPipeline(drawn, stages, name=preset.name)


def _from_folder(folder: Path, sampler: str | None, loaders: Loaders) -> NsbPipeline:
    where = folder / INDEX
    index = read_json(where)
    loaded: dict[str, Any] = {}
    stages = []
    try:
        for row in index["stages"]:
            entry = row["decoder"]
            if "folder" in entry:
                name = check_plain_name(entry["folder"], where)
                loaded.setdefault(name, None)
                loaded[name] = loaded[name] or loaders.component(folder / name, kind="decoder")
            else:
                name = check_plain_name(entry["name"], where)
                loaded[name] = loaded.get(name) or loaders.decoder(name)
            stages.append(Stage(load_encoder(row["encoder"]) if row["encoder"] else None, loaded[name]))
        part = folder / check_plain_name(index["sampler"], where)
        name = str(index.get("name", "custom"))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{where} is not a pipeline's index (at {error}): save the pipeline again.") from error
    drawn: Any = loaders.sampler(sampler) if sampler else loaders.component(part, kind="sampler")
    return NsbPipeline(drawn, stages, name=name)

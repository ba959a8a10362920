"""Pipelines on disk and by name: presets, folders and Hub repositories.

A pipeline's folder holds `model_index.json` and one folder for every component with weights. The index names those
folders (plain names only) and, for components without weights, their registry name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import nn

from nsbgan_infer.decoders.base import Decoder, DecoderInfo
from nsbgan_infer.encoders import encoder_config
from nsbgan_infer.encoders.table import all_encoders
from nsbgan_infer.errors import CheckpointError, NsbError, UsageError, unknown_name
from nsbgan_infer.frame.joints import Stage, check_part
from nsbgan_infer.frame.wrapping import holds_module, load_module, save_module
from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.presets import PRESETS, Preset
from nsbgan_infer.registry import KINDS, Kind, entries, load_decoder, load_encoder, load_sampler
from nsbgan_infer.samplers.base import Sampler, SamplerInfo
from nsbgan_infer.storage.components import Component, copy_component, load_component, tensors_sha256
from nsbgan_infer.storage.files import check_plain_name, read_json, writable_folder, write_json
from nsbgan_infer.storage.hub import fetch_repo, parse_ref
from nsbgan_infer.storage.shipped import default_decoder

INDEX, CONFIG, WEIGHTS = "model_index.json", "config.json", "model.safetensors"


def list_models(kind: str = "preset") -> list[str]:
    """The names of a kind that can be used: preset, sampler, decoder, encoder or classifier, plug-ins included.

    `nsbgan models` also says where their weights come from. Raises UnknownNameError for another kind.

    >>> list_models("preset")[:2], "subband-w" in list_models("decoder")
    (['biggan-128', 'biggan-256'], True)
    """
    kinds = ("preset", *KINDS)
    single = str(kind).removesuffix("s")
    if single not in kinds:
        raise unknown_name("kind of model", str(kind), kinds)
    if single == "preset":
        return list(PRESETS)
    own = all_encoders() if single == "encoder" else {}
    return [*own, *entries(cast(Kind, single))]


@dataclass(frozen=True)
class Loaders:
    """How the parts of a pipeline are got: loaded, or only outlined (`plan`)."""

    sampler: Callable[[str], Sampler] = load_sampler
    decoder: Callable[[str], Decoder] = load_decoder
    component: Callable[..., Component] = load_component


def load_pipeline(
    ref: str,
    *,
    sampler: Sampler | str | Path | None = None,
    decoder: Decoder | str | Path | None = None,
    revision: str | None = None,
    modules: Mapping[str, nn.Module] | None = None,
    loaders: Loaders | None = None,
) -> NsbPipeline:
    """See `NsbPipeline.from_pretrained`."""
    loaders = loaders or Loaders()
    decoder = str(decoder) if isinstance(decoder, Path) else decoder
    sampler = str(sampler) if isinstance(sampler, Path) else sampler
    if sampler is not None and not isinstance(sampler, str):
        check_part(sampler, "sampler", SamplerInfo)
    if decoder is not None and not isinstance(decoder, str):
        check_part(decoder, "decoder", DecoderInfo)
    if revision and (ref in PRESETS or Path(ref).is_dir()):
        raise UsageError(f"Only a Hub repository has revisions, and {ref} is none: leave out the revision.")
    if ref in PRESETS:
        pipeline = _from_preset(PRESETS[ref], sampler, decoder, loaders)
    elif Path(ref).is_dir():
        pipeline = _from_folder(Path(ref), sampler, loaders, modules or {})
    elif ref.startswith("hf://") or re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", ref):
        repo, pinned = parse_ref(ref if ref.startswith("hf://") else f"hf://{ref}")
        folder = fetch_repo(repo, revision=revision or pinned)
        if (folder / WEIGHTS).is_file() and not (folder / INDEX).is_file():
            raise UsageError(
                f"{repo} holds a single component, not a pipeline: use it with --decoder hf://{repo} or "
                f"--sampler hf://{repo} (`nsbgan models --remote {repo}` says which)."
            )
        if not (folder / INDEX).is_file():
            raise CheckpointError(
                f"{repo} is not the repository of a pipeline: `nsbgan models --remote {repo}` says what it holds."
            )
        pipeline = _from_folder(folder, sampler, loaders, modules or {})
    else:
        raise unknown_name("pipeline", ref, PRESETS, hint="A pipeline is a preset, a folder or a Hub id owner/name.")
    if modules and ref in PRESETS:
        raise UsageError(f"modules are for a folder that holds their weights, and {ref} is a preset: leave them out.")
    if decoder is not None and ref not in PRESETS:
        pipeline = pipeline.with_decoder(loaders.decoder(decoder) if isinstance(decoder, str) else decoder)
    return pipeline


def save_pipeline(pipeline: NsbPipeline, folder: Path) -> Path:
    """See `NsbPipeline.save_pretrained`."""
    check_savable(pipeline)
    writable_folder(folder, what="pipeline folder")
    sampler = _save_part(pipeline.sampler, folder, "sampler")
    saved: dict[int, dict[str, str]] = {}
    for stage in pipeline.stages:
        if id(stage.decoder) not in saved:
            saved[id(stage.decoder)] = _save_part(stage.decoder, folder, f"decoder-{len(saved) + 1}")
    stages = [
        {"encoder": encoder_config(s.encoder) if s.encoder else None, "decoder": saved[id(s.decoder)]}
        for s in pipeline.stages
    ]
    index = {"kind": "pipeline", "name": pipeline.name, "sampler": sampler["folder"], "stages": stages}
    write_json(folder / INDEX, index)
    return folder


def check_savable(pipeline: NsbPipeline) -> None:
    """Raise UsageError, with the next step, for a part that has neither weights of its own nor a name."""
    advice = "make it a torch module, or the decoder of a package (docs/plugins.md)"
    if pipeline.engine in ("compile", "openvino"):
        advice = "save the pipeline before an engine is put on"
    named = [("sampler", pipeline.sampler), *(("decoder", s.decoder) for s in pipeline.stages)]
    for kind, part in named:
        if not isinstance(part, nn.Module) and not (kind == "decoder" and _is_registered(part)):
            name = pipeline.sampler.info.name if kind == "sampler" else cast(Decoder, part).info.name
            raise UsageError(f"The {kind} {name} cannot be saved, it has no weights and no name here: {advice}.")


def _save_part(part: Any, folder: Path, name: str) -> dict[str, str]:
    """Write a part's folder, if it has weights that are no package's own: what the index says of it."""
    if isinstance(part, Component):
        copy_component(part, folder / name)
    elif not isinstance(part.info, SamplerInfo) and _is_registered(part):
        return {"name": part.info.name}
    else:
        save_module(part, folder / name)
    return {"folder": name}


def _is_registered(decoder: Any) -> bool:
    """Whether the registry makes an equal of a decoder, so that its name is enough."""
    if decoder.info.name not in entries("decoder"):
        return False
    other = load_decoder(decoder.info.name)
    if other.info != decoder.info or isinstance(other, nn.Module) != isinstance(decoder, nn.Module):
        return False
    return not isinstance(other, nn.Module) or tensors_sha256(other) == tensors_sha256(decoder)


def _from_preset(
    preset: Preset, sampler: Sampler | str | None, decoder: Decoder | str | None, loaders: Loaders
) -> NsbPipeline:
    given = loaders.sampler(sampler) if isinstance(sampler, str) else sampler
    loaded: dict[str, Decoder] = {}
    stages = []
    for row in preset.stages:
        # another sampler whose samples go straight into the first decoder sets the reduction of all stages
        reads = given.info.makes if given and not preset.stages[0].levels else row.reads
        wanted = decoder or (default_decoder(reads) if row.decoder == "default" else row.decoder)
        name = wanted if isinstance(wanted, str) else wanted.info.name
        if name not in loaded:
            loaded[name] = loaders.decoder(wanted) if isinstance(wanted, str) else wanted
        encoder = row.encoder(loaded[name].info.reads)
        stages.append(Stage(load_encoder(encoder) if encoder else None, loaded[name]))
    drawn = given or loaders.sampler(preset.sampler)  # last: it may be a large download
    return NsbPipeline(drawn, stages, name=preset.name)


def _from_folder(
    folder: Path, sampler: Sampler | str | None, loaders: Loaders, modules: Mapping[str, nn.Module]
) -> NsbPipeline:
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
                if loaded[name] is None:
                    loaded[name] = _load_part(folder / name, "decoder", loaders, modules)
            else:
                name = check_plain_name(entry["name"], where)
                loaded[name] = loaded.get(name) or loaders.decoder(name)
            stages.append(Stage(load_encoder(row["encoder"]) if row["encoder"] else None, loaded[name]))
        part = folder / check_plain_name(index["sampler"], where)
        name = str(index.get("name", "custom"))
    except NsbError:  # some are TypeErrors too
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{where} is not a pipeline's index (at {error}): save the pipeline again.") from error
    if isinstance(sampler, str):
        drawn = loaders.sampler(sampler)
    else:
        drawn = sampler or _load_part(part, "sampler", loaders, modules)
    if unused := sorted(set(modules) - {part.name, *loaded}):
        raise UsageError(
            f"No part of {folder} is called '{unused[0]}': it has {', '.join(sorted({part.name, *loaded}))}."
        )
    return NsbPipeline(drawn, stages, name=name)


def _load_part(folder: Path, kind: str, loaders: Loaders, modules: Mapping[str, nn.Module]) -> Any:
    """A part from its folder: a component, or the weights of a module that was brought for it."""
    if holds_module(folder):
        return load_module(folder, modules.get(folder.name))
    if folder.name in modules:
        raise UsageError(f"{folder} holds a {kind} of this package: leave its module out.")
    return loaders.component(folder, kind=kind)

"""What of a component or a pipeline goes into a repository: its own files, a model card, and nothing else.

A subject is a folder (as `save_component`, `save_pretrained` or a trainer writes it), a `.safetensors` file, or the
name of weights that ship. What a training run keeps for itself stays behind; files that nobody expects, and links, are
refused, so that nothing is published by accident.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from nsbgan_infer.errors import UsageError
from nsbgan_infer.pretrained import CONFIG, INDEX, WEIGHTS, Loaders, load_pipeline
from nsbgan_infer.registry import load_decoder, load_sampler, shipped_file
from nsbgan_infer.storage.components import Component, component_config, outline_component
from nsbgan_infer.storage.shipped import manifest

CARD, SHEET = "README.md", "sheet.webp"
EXTRAS = (CARD, SHEET, "LICENSE", "LICENSE.md", "LICENSE.txt")
RUN_FILES = ("settings.json", "log.jsonl", "checkpoint.pt", "codes.pt", "tensorboard", "sheets", "sampler")

Content = Path | bytes


@dataclass(frozen=True)
class Subject:
    """What a card describes and a push publishes.

    `files` maps names in the repository to a file or its content; `parts` maps the folders of a pipeline, or `""`, to
    the components without their weights; `facts` is the row of the manifest for weights that ship, else empty; `kept`
    are the names in its folder that stay there; `source` is what to load it from.
    """

    name: str
    kind: Literal["decoder", "sampler", "inverter", "pipeline"]
    files: dict[str, Content]
    parts: dict[str, Component]
    source: Path
    facts: Mapping[str, Any] = field(default_factory=dict)
    kept: tuple[str, ...] = ()


def open_subject(ref: str) -> Subject:
    """The subject meant by `ref`, checked as if it were to be loaded, but without reading weights.

    Raises UsageError for a folder that holds something else or more, CheckpointError for damaged weights.
    """
    row = manifest().get("components", {}).get(ref)
    if row:
        return _single(shipped_file(ref), row)
    path = Path(ref).expanduser()
    if path.is_file() and path.suffix == ".safetensors":
        return _single(path, {})
    if not path.is_dir():
        ships = ", ".join(manifest().get("components", {}))
        raise UsageError(f"{ref} is no folder of a component or a pipeline, and no weights that ship ({ships}).")
    if (path / INDEX).is_file():
        return _pipeline(path)
    if not (path / WEIGHTS).is_file():
        raise UsageError(f"{path} is no component and no pipeline: it holds neither {WEIGHTS} nor {INDEX}.")
    component = outline_component(path)
    files, kept = _listed(path, (CONFIG, WEIGHTS, *EXTRAS), RUN_FILES)
    return Subject(_name(component), component.kind, files, {"": component}, path, kept=kept)  # type: ignore[arg-type]


def _single(file: Path, row: Mapping[str, Any]) -> Subject:
    component = outline_component(file)
    config = json.dumps(component_config(component), indent=2, ensure_ascii=False) + "\n"
    files: dict[str, Content] = {CONFIG: config.encode(), WEIGHTS: file}
    return Subject(_name(component), component.kind, files, {"": component}, file, row)  # type: ignore[arg-type]


def _pipeline(folder: Path) -> Subject:
    parts: dict[str, Component] = {}

    def outline(path: Path, *, kind: str) -> Component:
        parts[path.name] = outline_component(path, kind=kind)
        return parts[path.name]

    pipeline = load_pipeline(str(folder), loaders=Loaders(load_sampler, load_decoder, outline))
    files, kept = _listed(folder, (INDEX, *EXTRAS), tuple(parts))
    for name in sorted(parts):
        inside, _ = _listed(folder / name, (CONFIG, WEIGHTS), ())
        files |= {f"{name}/{k}": v for k, v in inside.items()}
    kept = tuple(k for k in kept if k not in parts)
    return Subject(pipeline.name, "pipeline", files, parts, folder, kept=kept)


def _listed(folder: Path, wanted: tuple[str, ...], left: tuple[str, ...]) -> tuple[dict[str, Content], tuple[str, ...]]:
    """The files of `folder` that are wanted, and the names of what stays. Raises UsageError for anything else."""
    files: dict[str, Content] = {}
    kept = []
    for path in sorted(folder.iterdir()):
        if path.is_symlink():
            raise UsageError(f"{path} is a link and not published: put the file itself there.")
        if path.name in wanted and path.is_file():
            files[path.name] = path
        elif path.name in left or path.name.startswith("."):
            kept.append(path.name)
        else:
            raise UsageError(
                f"{path} does not belong to a component or a pipeline and is not published: move it out of the folder."
            )
    return files, tuple(kept)


def _name(component: Component) -> str:
    info: Any = component.info
    return "".join(c if c.isprintable() else "?" for c in str(info.name))

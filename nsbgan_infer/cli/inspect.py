"""`nsbgan inspect`: what an image, a checkpoint or a pipeline's folder says about itself. Weights are not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nsbgan_infer.cli.options import EXISTING, console_options
from nsbgan_infer.cli.output import Console, size_text
from nsbgan_infer.errors import CheckpointError, ImageFileError

PICKLES = (".bin", ".pth", ".pt", ".ckpt", ".pkl")
INDEX, CONFIG, WEIGHTS = "model_index.json", "config.json", "model.safetensors"


@click.command("inspect")
@click.argument("path", type=EXISTING)
@console_options
def command(path: Path, console: Console) -> None:
    """Show the recipe of an image, or the configuration, tensors and header of a checkpoint or a pipeline's folder."""
    value = inspect(path)
    console.result(value, "\n".join(_lines(value)))


def inspect(path: Path) -> dict[str, Any]:
    """What `path` holds, by its content. Raises ImageFileError or CheckpointError with the next step."""
    if path.is_dir():
        return _folder(path)
    if path.suffix.lower() == ".safetensors":
        return _checkpoint(path)
    if path.suffix.lower() in PICKLES:
        raise CheckpointError(f"{path} is a pickle and not opened here: run `nsbgan convert {path} OUT` first.")
    return _image(path)


def _image(path: Path) -> dict[str, Any]:
    import json

    from nsbgan_infer.images import open_image, read_recipe

    image = open_image(path)
    value: dict[str, Any] = {"kind": "image", "format": image.format, "width": image.width, "height": image.height}
    value |= {"mode": image.mode, "size": path.stat().st_size}
    try:
        return value | {"recipe": json.loads(read_recipe(path).to_json())}
    except ImageFileError as error:
        return value | {"recipe": None, "note": str(error)}


def _folder(path: Path) -> dict[str, Any]:
    from nsbgan_infer.storage.files import read_json

    if (path / INDEX).is_file():
        index = read_json(path / INDEX)
        parts = sorted(p for p in path.iterdir() if (p / WEIGHTS).is_file())
        return {"kind": "pipeline", "index": index, "parts": {p.name: _folder(p) for p in parts}}
    if (path / WEIGHTS).is_file():
        value = _checkpoint(path / WEIGHTS)
        return value | ({"config": read_json(path / CONFIG)} if (path / CONFIG).is_file() else {})
    raise CheckpointError(f"{path} holds neither {INDEX} nor {WEIGHTS}: give an image, a checkpoint or such a folder.")


def _checkpoint(file: Path) -> dict[str, Any]:
    import json
    import math

    from nsbgan_infer.storage.components import CONFIG_KEY, read_header
    from nsbgan_infer.storage.files import sha256_of

    header = read_header(file)
    metadata = dict(header.pop("__metadata__", None) or {})
    try:
        config = json.loads(metadata.pop(CONFIG_KEY, "null"))
    except ValueError:
        config = None
    dtypes: dict[str, int] = {}
    for row in header.values():
        dtypes[row["dtype"]] = dtypes.get(row["dtype"], 0) + 1
    return {
        "kind": "checkpoint",
        "config": config,
        **_reduction(config),
        "tensors": len(header),
        "numbers": sum(math.prod(row["shape"]) for row in header.values()),
        "dtypes": dtypes,
        "header": metadata,
        "size": file.stat().st_size,
        "sha256": sha256_of(file),
    }


def _reduction(config: object) -> dict[str, str]:
    """What a decoder reads or a sampler makes; nothing for what cannot be built."""
    from nsbgan_infer.errors import NsbError
    from nsbgan_infer.publishing.component_facts import component_facts
    from nsbgan_infer.storage.components import build_component, empty_weights

    if not isinstance(config, dict):
        return {}
    try:
        with empty_weights():
            facts = component_facts(build_component(config))
    except NsbError:
        return {}
    return {key: str(facts[key]) for key in ("reads", "makes") if key in facts}


def _lines(value: dict[str, Any], indent: str = "") -> list[str]:
    """Nested tables as indented lines; long lists are cut."""
    lines = []
    for key, item in value.items():
        if isinstance(item, dict) and item:
            lines += [f"{indent}{key}", *_lines(item, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {_shown(key, item)}")
    return lines


def _shown(key: str, item: Any) -> str:
    if key == "size" and isinstance(item, int):
        return f"{size_text(item)} ({item} bytes)"
    if isinstance(item, list):
        text = ", ".join(str(i) for i in item[:24])
        return text + (f", ... ({len(item)} in all)" if len(item) > 24 else "")
    return "-" if item is None or item == {} else str(item)

"""What an image, a checkpoint or a pipeline's folder says about itself. Weights are not read."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from nsbgan_infer.errors import CheckpointError, ImageFileError, NsbError
from nsbgan_infer.images import open_image, read_recipe
from nsbgan_infer.pretrained import CONFIG, INDEX, WEIGHTS
from nsbgan_infer.storage.components import CONFIG_KEY, build_component, empty_weights, read_header
from nsbgan_infer.storage.files import read_json, sha256_of

PICKLES = (".bin", ".pth", ".pt", ".ckpt", ".pkl")


def inspect(path: str | Path) -> dict[str, Any]:
    """What `path` holds, as JSON values; `kind` is image (with its recipe), checkpoint or pipeline.

    Raises ImageFileError or CheckpointError with the next step.

    >>> from PIL import Image
    >>> from nsbgan_infer.images import save_image
    >>> save_image(Image.new("RGB", (8, 8)), Path("plain.png"))
    >>> found = inspect("plain.png")
    >>> found["kind"], found["width"], found["recipe"]
    ('image', 8, None)
    """
    path = Path(path)
    if path.is_dir():
        return _folder(path)
    if path.suffix.lower() == ".safetensors":
        return _checkpoint(path)
    if path.suffix.lower() in PICKLES:
        raise CheckpointError(f"{path} is a pickle and not opened here: run `nsbgan convert {path} OUT` first.")
    return _image(path)


def _image(path: Path) -> dict[str, Any]:
    image = open_image(path)
    value: dict[str, Any] = {"kind": "image", "format": image.format, "width": image.width, "height": image.height}
    value |= {"mode": image.mode, "size": path.stat().st_size}
    try:
        return value | {"recipe": json.loads(read_recipe(path).to_json())}
    except ImageFileError as error:
        return value | {"recipe": None, "note": str(error)}


def _folder(path: Path) -> dict[str, Any]:
    if (path / INDEX).is_file():
        index = read_json(path / INDEX)
        parts = sorted(p for p in path.iterdir() if (p / WEIGHTS).is_file())
        return {"kind": "pipeline", "index": index, "parts": {p.name: _folder(p) for p in parts}}
    if (path / WEIGHTS).is_file():
        value = _checkpoint(path / WEIGHTS)
        return value | ({"config": read_json(path / CONFIG)} if (path / CONFIG).is_file() else {})
    raise CheckpointError(f"{path} holds neither {INDEX} nor {WEIGHTS}: give an image, a checkpoint or such a folder.")


def _checkpoint(file: Path) -> dict[str, Any]:
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
    if not isinstance(config, dict):
        return {}
    try:
        with empty_weights():
            info = build_component(config).info
    except NsbError:
        return {}
    return {key: str(getattr(info, key)) for key in ("reads", "makes") if hasattr(info, key)}

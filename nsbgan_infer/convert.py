"""Checkpoints (.bin, .pth, .pt, .pkl, foreign .safetensors) -> a component: a folder or one `.safetensors` file.

`storage.checkpoints` opens the file as data. What it holds is recognised by its tensors' names by the layouts that the
architectures offer; every name and shape is then compared with the network's, and nothing is written before all of it
fits.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch

from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.storage.checkpoints import Checkpoint, read_checkpoint
from nsbgan_infer.storage.components import Component, build_component, empty_weights, fill_component, save_component
from nsbgan_infer.storage.files import sha256_of
from nsbgan_infer.storage.layouts import Layout, all_layouts


def convert_checkpoint(source: Path, out: Path, *, licence: str = "unknown") -> Path:
    """Convert the checkpoint file `source` to `out`: one file if it ends in `.safetensors`, else a folder.

    `source` may be a folder with a `pytorch_model.bin`. `licence`: that of the weights, kept with them. Returns the
    path of the weights file. Raises CheckpointError for a file that is missing, too large, damaged, of an unknown
    layout, or that holds anything but tensors; UsageError if `out` cannot be written. Nothing is left behind then.
    """
    if source.is_dir():
        source = source / "pytorch_model.bin"
    checkpoint = read_checkpoint(source)
    layout = _recognise(checkpoint, source)
    if layout.convert is not None:
        return layout.convert(source, out)
    assert layout.build is not None
    component = layout.build(checkpoint, re.sub(r"[^\w.-]", "-", source.stem)[:64], licence)
    spoilt = next((k for k, v in component.state_dict().items() if not bool(torch.isfinite(v).all())), None)
    if spoilt:
        raise CheckpointError(f"{source} is damaged: it leads to NaN or infinity in {spoilt}. Fetch it again.")
    info = {"converted_from": source.name, "source_sha256": sha256_of(source), "layout": layout.name}
    return save_component(component, out, info=info)


def _recognise(checkpoint: Checkpoint, source: Path) -> Layout:
    layouts = [OWN, *all_layouts().values()]
    for layout in layouts:
        if layout.matches(checkpoint):
            return layout
    understood = "; ".join(f"{layout.name} ({layout.summary})" for layout in layouts)
    first = ", ".join(list(checkpoint.tensors)[:3])
    raise CheckpointError(
        f"{source} is of a kind that `nsbgan convert` does not know (its tensors begin with {first}). "
        f"It understands: {understood}. A foreign upscaler may work as --decoder spandrel:FILE."
    )


def _build_own(checkpoint: Checkpoint, name: str, licence: str) -> Component:
    config = {k: v for k, v in checkpoint.beside["config"].items() if isinstance(k, str)}
    with empty_weights():
        component = build_component(config, where=f"the configuration in {name}")
    return fill_component(component, checkpoint.tensors, label=name)


OWN = Layout(
    "own",
    "a state dict beside a `config` with `arch`",
    lambda c: isinstance(c.beside.get("config"), Mapping) and "arch" in c.beside["config"],
    _build_own,
)

"""Layouts of other programs' checkpoints: the file that turns one into a component offers it, no table names all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from nsbgan_infer.storage.architectures import Component, part_modules
from nsbgan_infer.storage.checkpoints import Checkpoint


@dataclass(frozen=True)
class Layout:
    """A layout that `nsbgan convert` understands, from the module of samplers/ or decoders/ that offers it."""

    name: str
    """Kept in the header of what was converted."""
    summary: str
    """Whose files these are."""
    matches: Callable[[Checkpoint], bool]
    """Tells it from the names of the tensors: one checkpoint matches one layout."""
    build: Callable[[Checkpoint, str, str], Component] | None = None
    """(checkpoint, name, licence) -> the component. Raises CheckpointError for names and shapes that do not fit."""
    convert: Callable[[Path, Path], Path] | None = None
    """In place of `build`: (file, where to save it) -> the file of the weights, where more than tensors is needed."""


_offered: dict[str, Layout] = {}


def offer(layout: Layout) -> Layout:
    """Let `nsbgan convert` know `layout`. Raises ValueError if another of its name is offered."""
    if _offered.setdefault(layout.name, layout) != layout:
        raise ValueError(f"the layout {layout.name} is offered twice")
    return layout


def all_layouts() -> dict[str, Layout]:
    """Every layout by name, in the order of the alphabet. Imports all modules of the rooms of parts."""
    for module in part_modules():
        import_module(module)
    return dict(sorted(_offered.items()))


def has(*names: str) -> Callable[[Checkpoint], bool]:
    """Whether a checkpoint holds tensors of these names."""
    return lambda checkpoint: all(n in checkpoint.tensors for n in names)

"""What an architecture says of itself where it is defined, and how it is found by name.

A module of samplers/, decoders/ or inverters/ defines a `Component` and decorates it with `@architecture`: no table
elsewhere names it. The modules of these rooms are listed, not named, and imported only when an architecture is asked
for.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from nsbgan_infer.errors import WorkError, unknown_name

ROOMS = ("nsbgan_infer.decoders", "nsbgan_infer.samplers", "nsbgan_infer.inverters")
KINDS = ("decoder", "sampler", "inverter")


@dataclass(frozen=True)
class Graph:
    """The tensor part of a component: what can be traced, compiled and exported, and how its inputs come about."""

    module: nn.Module
    """Takes the tensors called `names` and returns one."""
    names: tuple[str, ...]
    inputs: Callable[[Any], tuple[Tensor, ...]]
    """Makes the tensors of what the part is called with (`Latents`, or a low band)."""
    fixed: str | None = None
    """The input that belongs to one truncation: an exported file has it worked in."""


@dataclass(frozen=True)
class Trained:
    """A network of a decoder's architecture that `nsbgan train decoder` trains."""

    name: str
    """What --arch calls it, and the name of the component."""
    config: Mapping[str, Any]
    """Settings over the configuration's defaults."""
    second: str | None = None
    """What the adversarial stage makes of it, where it has one."""


def _order_kernels(component: Any, _: object) -> None:
    """Files hold plain contiguous kernels; convolutions want them in the order of their input."""
    component.to(memory_format=component.kernel_order)


class Component(nn.Module):
    """A network with a frozen dataclass as its configuration.

    Subclasses take one argument, the configuration, and must be constructible under `torch.device("meta")`: every
    tensor that matters is a parameter or a persistent buffer, so that loading fills all of them.
    """

    kind: ClassVar[str]
    """sampler, decoder or inverter"""
    arch: ClassVar[str]
    """The name in `config.json`, unique among all architectures."""
    Config: ClassVar[type[Any]]
    """The frozen dataclass; its __post_init__ raises ValueError for values that do not fit together."""
    sentence: ClassVar[str] = ""
    """What it is, in one sentence for cards."""
    tiny: ClassVar[Any]
    """A configuration that is built in milliseconds: the conformance tests run every architecture at it."""
    published: ClassVar[Mapping[str, Any]] = {}
    """Names of the registry whose weights do not ship -> the configuration that these have: a plan needs no weights."""
    trained: ClassVar[tuple[Trained, ...]] = ()
    """Of a decoder: the networks that can be trained."""
    kernel_order: ClassVar[torch.memory_format] = torch.contiguous_format
    """How kernels lie in memory once a state is loaded."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        self.weights_file: Path | None = None  # set by load_component
        if self.kernel_order is not torch.contiguous_format:
            self.register_load_state_dict_post_hook(_order_kernels)  # type: ignore[no-untyped-call]

    def caveat(self) -> str:
        """What whoever uses these weights should know first, in a sentence; empty where there is nothing."""
        return ""

    def graph(self) -> Graph | None:
        """How other engines run it. A decoder is a graph as it is; a sampler says which tensors it takes
        (`samplers.base.graph_of`), or None for eager torch only."""
        return Graph(self, ("low_band",), lambda low_band: (low_band,)) if self.kind == "decoder" else None

    def export_graph(self) -> Graph | None:
        """What an exported file holds, where that is more than `graph`."""
        return self.graph()


C = TypeVar("C", bound=Component)
_known: dict[str, type[Component]] = {}


def architecture(cls: type[C]) -> type[C]:
    """Class decorator: components of this class are from now on saved and loaded under `cls.arch`.

    Raises TypeError for a class that does not say all that `Component` asks for, ValueError if another has its name.
    """
    if wrong := _missing(cls):
        raise TypeError(f"the architecture {cls.__module__}.{cls.__qualname__} {wrong}")
    other = _known.setdefault(cls.arch, cls)
    if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise ValueError(f"the architecture {cls.arch} is defined by {other.__module__} and by {cls.__module__}")
    _known[cls.arch] = cls
    return cls


def _missing(cls: type[Component]) -> str:
    """What a class forgot to say of itself, or said wrongly; empty where all is there."""
    said: dict[str, Any] = {name: getattr(cls, name, None) for name in ("kind", "arch", "Config", "tiny", "sentence")}
    for name, value in said.items():
        if not value:
            return f"has no `{name}`: see Component for what it means."
    if said["kind"] not in KINDS:
        return f"is of the kind {said['kind']!r}: use {', '.join(KINDS)}."
    config: Any = said["Config"]
    made = getattr(config, "__dataclass_params__", None)  # what the decorator was told
    if made is None or not made.frozen:
        return "has a Config that is not a frozen dataclass."
    if not isinstance(said["tiny"], said["Config"]):
        return "has a `tiny` that is not one of its Config."
    needed = {"licence", "name"} if cls.trained else {"licence"}
    if absent := sorted(needed - {f.name for f in fields(config)}):
        return f"has a Config without the field `{absent[0]}`, which training and cards write."
    return ""


def import_module_of_parts(module: str) -> None:
    """Import a module of a room. Raises WorkError for one that cannot be imported, with its name."""
    try:
        import_module(module)
    except Exception as error:
        raise WorkError(
            f"{module}, which may define an architecture, cannot be imported ({type(error).__name__}: {error}): repair "
            "the module."
        ) from error


def find_architecture(arch: str) -> type[Component]:
    """The class registered as `arch`. Modules are imported until it is found, those whose name it begins with first.

    Raises UnknownNameError with the near one.
    """
    begins = arch.replace("-", "_").startswith
    for module in sorted(part_modules(), key=lambda m: not begins(m.rpartition(".")[2])):
        if arch in _known:
            break
        import_module_of_parts(module)
    if arch not in _known:
        raise unknown_name("architecture", arch, _known)
    return _known[arch]


def all_architectures() -> dict[str, type[Component]]:
    """Every architecture by name, in the order of the alphabet. Imports all modules of the rooms."""
    for module in part_modules():
        import_module_of_parts(module)
    return dict(sorted(_known.items()))


def trained_networks() -> dict[str, dict[str, Any]]:
    """Name -> configuration (for `build_component`) of every network that can be trained, as the architectures offer
    them; what the adversarial stage makes of one has its configuration."""
    found: dict[str, dict[str, Any]] = {}
    for arch, cls in all_architectures().items():
        for row in cls.trained:
            for name in (row.name, row.second):
                if name:
                    found[name] = {"arch": arch, "name": name, **row.config}
    return found


def second_stages() -> dict[str, str]:
    """What the adversarial stage makes -> the network of the L1 stage that it begins with."""
    return {row.second: row.name for cls in all_architectures().values() for row in cls.trained if row.second}


@cache
def part_modules() -> tuple[str, ...]:
    """The modules of the rooms of parts, by their full names, without importing them."""
    return tuple(
        f"{room}.{module.name}" for room in ROOMS for module in pkgutil.iter_modules(import_module(room).__path__)
    )

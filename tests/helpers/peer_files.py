"""Whole networks pickled the way other programs do it: R3GAN's as plain objects, StyleGAN2-ADA's with their source."""

from __future__ import annotations

import pickle
import sys
import types
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

SOURCE = "raise SystemExit('the source text inside the file was run')"


@contextmanager
def _foreign_modules() -> Iterator[tuple[type, type]]:
    """The modules that the pickles name, as long as they are written: a plain class, and one that carries source."""

    class Plain:
        pass

    class Persistent:
        def __reduce__(self) -> Any:
            meta = {"type": "class", "version": 6, "module_src": SOURCE, "class_name": "Generator"}
            return rebuild, ({**meta, "state": self.__dict__},)

    def rebuild(meta: Any) -> None:
        raise AssertionError("the file was loaded, not read")

    class EasyDict(dict[str, Any]):
        pass

    named: dict[str, dict[str, Any]] = {
        "training.networks": {"Generator": Plain},
        "torch_utils.persistence": {"_reconstruct_persistent_obj": rebuild},
        "dnnlib.util": {"EasyDict": EasyDict},
    }
    made = {}
    for path, members in named.items():
        for module in (path.partition(".")[0], path):
            made[module] = types.ModuleType(module)
        for name, value in members.items():
            value.__module__, value.__qualname__ = path, name
            setattr(made[path], name, value)
    sys.modules.update(made)
    try:
        yield Plain, Persistent
    finally:
        for module in made:
            del sys.modules[module]


def whole_network(
    state: Mapping[str, Tensor], *, persistent: bool, attributes: Mapping[str, Any] | None = None, protocol: int = 4
) -> bytes:
    """A snapshot with G, D and G_ema, whose G_ema holds `state` as nested modules and `attributes` in every module."""
    with _foreign_modules() as kinds:
        cls = kinds[persistent]

        def module(prefix: str) -> Any:
            made = cls()
            made.__dict__ |= {"training": False, "_buffers": {}, "_forward_hooks": OrderedDict(), **(attributes or {})}
            made.__dict__ |= {"_parameters": {}, "_modules": OrderedDict(), "_non_persistent_buffers_set": {"scratch"}}
            made.__dict__["_buffers"]["scratch"] = torch.ones(2)
            for name, value in state.items():
                if name.startswith(prefix):
                    head, _, rest = name.removeprefix(prefix).partition(".")
                    if rest and head not in made._modules:
                        made._modules[head] = module(f"{prefix}{head}.")
                    elif not rest and head.endswith(("weight", "bias")):
                        made._parameters[head] = torch.nn.Parameter(value)
                    elif not rest:
                        made._buffers[head] = value
            return made

        easy = sys.modules["dnnlib.util"].EasyDict(path="data.zip", resolution=32)
        content = {"G": None, "D": None, "G_ema": module(""), "training_set_kwargs": easy, "cur_nimg": 200}
        return pickle.dumps(content, protocol=protocol)

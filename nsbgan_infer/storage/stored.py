"""What is left of a pickle that was read without being run: inert stubs, and tensors that still lie in the file."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

OPERATIONS = 500_000  # instructions of one file: a snapshot of three small R3GAN networks has 36,442
DESCRIBED = 64 << 20  # bytes that tensors may describe beyond four times the file, for views and expanded tensors

_SIZES = {"Double": "float64", "Float": "float32", "Half": "float16", "BFloat16": "bfloat16", "Long": "int64"}
_SIZES |= {"Int": "int32", "Short": "int16", "Char": "int8", "Byte": "uint8", "Bool": "bool"}
_SIZES |= {"ComplexFloat": "complex64", "ComplexDouble": "complex128"}
STORAGES: dict[str, torch.dtype] = {f"torch.{k}Storage": getattr(torch, v) for k, v in _SIZES.items()}
STORAGES |= {"torch.UntypedStorage": torch.uint8, "torch.storage.UntypedStorage": torch.uint8}
DTYPES: dict[str, torch.dtype] = {f"torch.{v}": getattr(torch, v) for v in _SIZES.values()}


class RefusedNameError(Exception):
    """The pickle names something that is on neither list."""


class DamagedError(Exception):
    """The pickle is not a program that data needs, or describes more than it may."""


@dataclass(eq=False)
class Stub:
    """An object of another program, never made: its `name`, the `args` it was called with, its `state` if it was given
    one, and its `items` if it was filled like a dict."""

    name: str
    args: tuple[Any, ...] = ()
    state: Any = None
    items: dict[Any, Any] = field(default_factory=dict)


@dataclass(eq=False)
class StoredStorage:
    """`count` numbers of a dtype; `view` are their bytes in the file, once these have been found."""

    dtype: torch.dtype
    count: int
    view: memoryview | None = None


@dataclass(eq=False)
class StoredTensor:
    """A tensor that still lies in the file."""

    storage: StoredStorage
    dtype: torch.dtype
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def open(self) -> Tensor:
        """The tensor on the CPU. Its memory is the file's own where that is aligned. Raises DamagedError."""
        view, size = self.storage.view, self.dtype.itemsize
        if view is None:
            raise DamagedError("a tensor has no bytes")
        if not math.prod(self.shape):
            return torch.empty(self.shape, dtype=self.dtype)
        flat = torch.frombuffer(bytearray(view) if view.readonly else view, dtype=torch.uint8)
        if flat.data_ptr() % size:
            flat = flat.clone()
        whole = flat[: flat.numel() // size * size].view(self.dtype)
        return whole.as_strided(self.shape, self.stride, self.offset)


@dataclass(frozen=True)
class Named:
    """A name on one of the lists, before it is called."""

    name: str


@dataclass
class Budget:
    """What is left of a file's bounds; nested pickles share it."""

    operations: int = OPERATIONS
    described: int = DESCRIBED

    def describe(self, size: int) -> None:
        """Take off bytes that a tensor describes. Raises DamagedError when there are none left."""
        self.described -= size
        if self.described < 0:
            raise DamagedError("it describes more than the bytes that it holds")

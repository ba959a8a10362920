"""What every encoder promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.errors import UsageError
from nsbgan_infer.reductions import Basis

__all__ = ["Basis", "Encoder"]


class Encoder(Protocol):
    """A deterministic, differentiable shrinking of a picture.

    Called with (B, 3, H, W), RGB, nominally [0, 1], it returns (B, 3, ceil(H / 2^levels), ceil(W / 2^levels)),
    gain-free: a flat grey of 0.5 stays 0.5. It keeps dtype and device. `makes` names its reduction (`reductions`).
    """

    @property
    def basis(self) -> Basis: ...

    @property
    def levels(self) -> int: ...

    @property
    def makes(self) -> str: ...

    def __call__(self, picture: Tensor) -> Tensor: ...


M = TypeVar("M", bound=Callable[..., Encoder])
KNOWN: dict[str, Callable[..., Encoder]] = {}  # see `register_encoder`; `table` fills it


def register_encoder(name: str) -> Callable[[M], M]:
    """Class decorator of a frozen dataclass: configurations whose `basis` is `name` mean this encoder.

    Raises ValueError if another one has that name.
    """

    def register(make: M) -> M:
        other = KNOWN.setdefault(name, make)
        if (other.__module__, other.__qualname__) != (make.__module__, make.__qualname__):
            raise ValueError(f"the encoder {name} is defined by {other.__module__} and by {make.__module__}")
        KNOWN[name] = make
        return make

    return register


def check_levels(levels: int) -> None:
    """Raise UsageError unless `levels` is a whole number from 1 to 16."""
    if type(levels) is not int or not 1 <= levels <= 16:
        raise UsageError(f"An encoder needs at least one level, got {levels!r} (and takes 16 at most).")


def pad_to_multiple(picture: Tensor, multiple: int) -> Tensor:
    """Extend height and width to multiples of `multiple` by repeating the last row and column."""
    height, width = picture.shape[-2:]
    down, right = -height % multiple, -width % multiple
    if not down and not right:
        return picture
    return F.pad(picture, (0, right, 0, down), mode="replicate")

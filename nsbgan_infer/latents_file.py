"""Latents as they are kept: a table in a recipe.

`latents_table` writes one image's latents as JSON values, `read_table` checks and reads them. z goes as the fp32 bytes
in base64, so that nothing is lost; of y only the classes with a weight.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nsbgan_infer.classes import NUM_CLASSES
from nsbgan_infer.errors import ImageFileError
from nsbgan_infer.latents import Latents, TruncationMode

LONGEST = 1 << 14  # numbers of one vector: no sampler's z comes near


def latents_table(latents: Latents, index: int) -> dict[str, Any]:
    """Image `index` of `latents` as a table for its recipe; seed and truncation are the recipe's own."""
    y = latents.y[index].float()
    classes = {str(int(c)): float(y[c]) for c in y.nonzero().flatten()}
    return {"z": _encode(latents.z[index]), "y": classes}


def read_table(table: Mapping[str, Any], *, seed: int, truncation: float, mode: TruncationMode) -> Latents:
    """The latents of one image from a recipe's table. Raises ImageFileError for anything else (it may be hostile)."""
    try:
        if unknown := set(table) - {"z", "y"}:
            raise ValueError(f"unknown field {sorted(unknown)[0]!r}")
        y = torch.zeros(1, NUM_CLASSES)
        for name, weight in dict(table["y"]).items():
            if not (name.isdecimal() and len(name) <= 3) or type(weight) not in (int, float):
                raise ValueError("a class or its weight is no number")
            if not math.isfinite(weight) or abs(weight) > 100:
                raise ValueError("the weight of a class is out of range")
            y[0, int(name)] = weight
        z = _decode(table["z"])
    except (KeyError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise ImageFileError(f"The recipe carries damaged latents ({error}).") from error
    return Latents(z[None], y, (seed,), truncation, mode)


def _encode(values: Tensor) -> str:
    return base64.b64encode(values.detach().to("cpu", torch.float32).numpy().astype("<f4").tobytes()).decode()


def _decode(text: str) -> Tensor:
    if not isinstance(text, str) or len(text) > LONGEST * 6:
        raise ValueError("a vector is no text, or too long")
    data = base64.b64decode(text, validate=True)
    values = torch.from_numpy(np.frombuffer(data, "<f4").astype(np.float32))
    if not torch.isfinite(values).all():
        raise ValueError("a vector holds NaN or infinity")
    return values

"""A small picture with edges and smooth places, on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def photo(path: Path, width: int = 40, height: int = 32, mode: str = "RGB") -> Path:
    rng = np.random.default_rng(0)
    smooth = Image.fromarray(rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8))
    smooth.resize((width, height), Image.Resampling.BICUBIC).convert(mode).save(path)
    return path

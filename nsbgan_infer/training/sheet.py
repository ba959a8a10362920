"""The sheet of pictures that a run writes now and then, to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor


def write_sheet(rows: Sequence[Tensor], folder: Path, step: int) -> None:
    """`sheets/step-0001000.png` in the run `folder`: each row (N, 3, S, S) nominally [0, 1], pictures side by side."""
    sheet = torch.cat([torch.cat(list(row), dim=-1) for row in rows], dim=-2)
    data = sheet.clamp(0, 1).mul(255).round().to(torch.uint8).permute(1, 2, 0).cpu().numpy()
    (folder / "sheets").mkdir(parents=True, exist_ok=True)
    Image.fromarray(data).save(folder / "sheets" / f"step-{step:07d}.png")

"""The sheet of a run."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image

from nsbgan_infer.training.sheet import write_sheet


def test_rows_stand_below_each_other_and_values_are_cut(tmp_path: Path) -> None:
    rows = [torch.stack([torch.full((3, 2, 2), v) for v in row]) for row in ((-1.0, 0.2, 2.0), (0.4, 0.6, 0.8))]
    write_sheet(rows, tmp_path / "run", 1000)
    sheet = Image.open(tmp_path / "run" / "sheets" / "step-0001000.png")
    assert sheet.size == (6, 4)
    assert [sheet.getpixel((x, y)) for y in (0, 2) for x in (0, 2, 4)] == [
        (v, v, v) for v in (0, 51, 255, 102, 153, 204)
    ]

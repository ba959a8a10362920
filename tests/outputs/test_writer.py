"""The image writer: names, rows, order, steps and sheet; what rejection keeps aside."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import CLASSES, TinyClassifier, tiny_pipeline

from nsbgan_infer.errors import UsageError
from nsbgan_infer.images import read_recipe
from nsbgan_infer.outputs.writer import ImageWriter, Sheet, plan_sheet, write_accepted
from nsbgan_infer.pipeline import Drawing, Output, Request
from nsbgan_infer.rejection import Rule, rejected_outputs


def white_and_black(first: int = 0) -> Output:
    pictures = torch.stack([torch.ones(3, 8, 8), torch.zeros(3, 8, 8)])
    recipe = tiny_pipeline()(1, resolution=64).recipes[0]
    return Output(pictures, (Request(1, first), Request(207, first)), (recipe, recipe))


def test_a_batch_becomes_files_and_rows(tmp_path: Path) -> None:
    writer = ImageWriter(tmp_path / "new", "webp", recipe=False)
    rows = writer.write(white_and_black(4))
    assert [Path(r["file"]).name for r in rows] == ["001_goldfish_seed4.webp", "207_golden-retriever_seed4.webp"]
    assert rows[1] == writer.rows[1] and len(writer.rows) == 2
    assert {k: v for k, v in rows[1].items() if k != "file"} == {
        "class_id": 207, "class": "golden retriever", "seed": 4, "width": 8, "height": 8,
    }  # fmt: skip
    assert Image.open(rows[0]["file"]).getpixel((0, 0)) == (255, 255, 255)
    assert writer.write_grid() is None  # it was not asked for
    assert len(list((tmp_path / "new").iterdir())) == 2


def test_steps_and_recipe_lie_in_the_files(tmp_path: Path) -> None:
    output = tiny_pipeline()(207, keep_steps=True)
    (row,) = ImageWriter(tmp_path).write(output)
    assert read_recipe(Path(row["file"])) == output.recipes[0]
    names = {p.name.removeprefix("207_golden-retriever_seed0") for p in tmp_path.iterdir()}
    assert names == {".png", "_2-sample.png", "_3-low-band-2.png", "_4-decoded-1.png"}


def test_the_sheet_is_in_the_order_asked_for_and_white_where_one_is_missing(tmp_path: Path) -> None:
    writer = ImageWriter(tmp_path, sheet=Sheet(columns=3, cell=4))
    writer.write(white_and_black())
    writer.reorder([2, 0], 3)
    assert [r["class_id"] for r in writer.rows] == [207, 1]
    path = writer.write_grid()
    assert path == tmp_path / "grid.png"
    sheet = Image.open(path)
    assert sheet.size == (12, 4)
    assert [sheet.getpixel((x, 0)) for x in (0, 4, 8)] == [(0, 0, 0), (255, 255, 255), (255, 255, 255)]


@pytest.mark.parametrize(
    ("count", "per_class", "sheet"),
    [(8, 4, Sheet(4, 2048)), (9, 1, Sheet(3, 2730)), (10, 1, Sheet(4, 2048)), (1, 1, Sheet(1, 8192))],
)
def test_a_sheet_has_a_row_for_each_class_or_is_near_a_square(count: int, per_class: int, sheet: Sheet) -> None:
    assert plan_sheet(count, per_class) == sheet


def test_what_rejection_settles_is_written_in_the_order_asked_for(tmp_path: Path) -> None:
    pipeline = tiny_pipeline()
    requests = pipeline.requests("all", 2)
    found = rejected_outputs(
        pipeline, requests, TinyClassifier(), Rule(0.5, max_tries=3), drawing=Drawing(resolution=64)
    )
    writer = ImageWriter(tmp_path, sheet=plan_sheet(len(requests), 2))
    aside = write_accepted(found, writer, len(requests))
    assert 0 < len(writer.rows) < len(requests) == len(writer.rows) + len(aside.rows) == 2 * len(CLASSES)
    assert all(r["score"] >= 0.5 for r in writer.rows) and all(r["score"] < 0.5 for r in aside.rows)
    assert {Path(r["file"]).parent for r in aside.rows} == {tmp_path / "below-threshold"}
    assert [r["class_id"] for r in writer.rows] == sorted(r["class_id"] for r in writer.rows)
    assert len(writer.copies) == len(requests) and not aside.copies


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError):
        ImageWriter(tmp_path / "file").write(white_and_black())

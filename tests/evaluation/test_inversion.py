"""How near inverted photos come, on tiny parts: the figures are those of their definition."""

from __future__ import annotations

import io

import pytest
import torch
from PIL import Image
from tiny import TinyClassifier, tiny_decoder, tiny_sampler
from tiny_trunk import use_tiny_trunks

from nsbgan_infer import NsbPipeline, Stage, invert
from nsbgan_infer.cli.main import cli, exit_code
from nsbgan_infer.datasets import ImageSource
from nsbgan_infer.errors import UsageError
from nsbgan_infer.evaluation.inversion import PhotoRow, measure_own, measure_photos, summary

COVERS = ["cli.evaluate_inverter"]


def source(*classes: int | None) -> ImageSource:
    """Pictures that go from dark to bright, each in its own colour."""
    pictures = []
    for i in range(len(classes)):
        buffer = io.BytesIO()
        Image.merge("RGB", [Image.linear_gradient("L").rotate(90 * (i + j)) for j in range(3)]).save(buffer, "PNG")
        pictures.append(buffer.getvalue())
    return ImageSource(tuple(f"{i}.png" for i in range(len(classes))), classes, pictures.__getitem__)


def test_a_row_is_what_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny_trunks(monkeypatch)
    pipeline, judge = NsbPipeline(tiny_sampler(), [Stage(None, tiny_decoder())], name="small"), TinyClassifier()
    told: list[tuple[str, int]] = []
    rows = list(
        measure_photos(
            pipeline, source(207, 1), judge, drawn=3, steps=4, freedom="pixels", progress=lambda *at: told.append(at)
        )
    )
    assert [r.class_id for r in rows] == [207, 1] and told.count(("photos", 1)) == 2
    found = invert(source(207, 1).image(0), pipeline, class_id=207, steps=4)
    wanted = judge(found.photo).features
    near = torch.stack(
        [(judge(pipeline(207, seeds=s, resolution=64).tensors).features - wanted).norm() for s in range(3)]
    )
    assert rows[0].found == pytest.approx(float((judge(found.picture).features - wanted).norm()), rel=1e-4)
    assert rows[0].nearest == pytest.approx(float(near.min()), rel=1e-4)
    assert rows[0].ratio == rows[0].found / rows[0].nearest and rows[0].psnr == pytest.approx(
        found.after.psnr, abs=1e-3
    )
    with pytest.raises(UsageError, match=r"1\.png is of no class"):
        next(measure_photos(pipeline, source(207, None), judge, steps=0, freedom="vector"))


def test_own_pictures_and_the_summary(monkeypatch: pytest.MonkeyPatch) -> None:
    use_tiny_trunks(monkeypatch)
    pipeline = NsbPipeline(tiny_sampler(), [Stage(None, tiny_decoder())], name="small")
    own = measure_own(pipeline, 2, steps=2, freedom="pixels")
    assert len(own) == 2
    rows = [PhotoRow("a", 1, 2.0, 4.0, 3.0, 25.0), PhotoRow("b", 1, 3.0, 4.0, 3.0, 27.0)]
    value = summary(rows, [29.0, 31.0])
    assert (value["ratio"], value["at_most_half"], value["bound_ratio"], value["psnr"]) == (0.625, 1, 0.75, 26.0)
    assert (value["own_psnr"], value["own_lowest"], value["own_from_30"]) == (30.0, 29.0, 1)


def test_the_command_wants_something_to_measure(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code(lambda: cli.main(["evaluate", "inverter"], prog_name="nsbgan", standalone_mode=False)) == 2
    assert "Give photos with --images" in capsys.readouterr().err

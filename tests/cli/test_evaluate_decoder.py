"""`nsbgan evaluate decoder`: the keys that programs read, and one sentence for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from nsbgan_infer.cli.main import cli, exit_code


def call(*arguments: str) -> int:
    return exit_code(lambda: cli.main(list(arguments), prog_name="nsbgan", standalone_mode=False))


def test_json_has_the_agreed_keys(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("evaluate", "decoder", "--decoder", "iwt", "--images", str(shared_data / "set5.zip"), "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) >= {"psnr_y", "ssim", "mse", "fd_lite0", "n", "baseline_psnr_y"}
    assert report["psnr_y"] == pytest.approx(28.71, abs=0.005)
    assert report["fd_lite0"] is None
    assert report["n"] == 5


def test_text_names_the_figures(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("evaluate", "decoder", "--decoder", "bicubic", "--images", str(shared_data / "set5.zip"), "-q") == 0
    text = capsys.readouterr().out
    assert "Y-PSNR" in text and "needs 2,048 pictures" in text


@pytest.mark.parametrize(
    ("decoder", "images", "says"),
    [
        ("iwt", "absent.zip", "No such file or folder"),
        ("iwt", "empty", "No pictures in"),
        ("iwt", "broken", "bad.png is no"),
        ("bicubik", "good", "did you mean bicubic"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], decoder: str, images: str, says: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "good").mkdir()
    Image.new("RGB", (32, 32)).save(tmp_path / "good" / "black.png")
    (tmp_path / "broken" / "bad.png").write_bytes(b"not a picture")
    assert call("evaluate", "decoder", "--decoder", decoder, "--images", str(tmp_path / images)) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    errors = [line for line in captured.err.splitlines() if line.startswith("nsbgan: error:")]
    assert len(errors) == 1 and says in errors[0]


def test_several_decoders_are_measured_in_one_pass(shared_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("--images", str(shared_data / "set5.zip"), "--json", "-q")
    assert call("evaluate", "decoder", "--decoder", "iwt", "--decoder", "bicubic", *arguments) == 0
    both = json.loads(capsys.readouterr().out)
    assert [row["decoder"] for row in both] == ["iwt", "bicubic"]
    for row in both:
        assert call("evaluate", "decoder", "--decoder", row["decoder"], *arguments) == 0
        assert json.loads(capsys.readouterr().out) == row


def test_an_engine_gives_the_figures_of_eager(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino")
    Image.effect_noise((48, 48), 40).convert("RGB").save(tmp_path / "a.png")
    arguments = ("--decoder", "subband-w-fast", "--images", str(tmp_path), "--json", "-q")
    found = []
    for engine in ("eager", "openvino"):
        assert call("evaluate", "decoder", *arguments, "--engine", engine) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert found[1]["psnr_y"] == pytest.approx(found[0]["psnr_y"], abs=0.02)
    assert found[1]["baseline_psnr_y"] == found[0]["baseline_psnr_y"]


def test_a_count_measures_that_many(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        Image.effect_noise((48, 48), 40).convert("RGB").save(tmp_path / f"{number}.png")
    arguments = ("evaluate", "decoder", "--decoder", "iwt", "--images", str(tmp_path), "--json", "-q", "--count")
    assert call(*arguments, "2") == 0
    assert json.loads(capsys.readouterr().out)["n"] == 2
    assert call(*arguments, "4") == 2
    assert "There are 3 pictures, not 4" in capsys.readouterr().err

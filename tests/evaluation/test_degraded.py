"""Decoders on degraded pictures: the same small pictures for one seed, and figures that can be told by hand."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import TinyClassifier
from torch import Tensor

from nsbgan_infer.cli.main import cli, exit_code
from nsbgan_infer.datasets import ImageSource, open_source, to_tensor
from nsbgan_infer.decoders.base import DecoderInfo
from nsbgan_infer.decoders.interpolate import make_bicubic
from nsbgan_infer.errors import ImageFileError, UnknownNameError
from nsbgan_infer.evaluation.degraded import degraded_picture, evaluate_degraded
from nsbgan_infer.evaluation.reconstruction import quantise


def call(*arguments: str) -> int:
    return exit_code(lambda: cli.main(list(arguments), prog_name="nsbgan", standalone_mode=False))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i, size in enumerate([(48, 40), (50, 35), (64, 64)]):
        coarse = rng.integers(40, 216, (7, 8, 3), np.uint8)
        Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(folder / f"{i}.png")
    return folder


class Knowing:
    """A decoder that knows the originals, and adds `off` grey levels to their colours."""

    def __init__(self, source: ImageSource, off: tuple[float, float, float] = (0, 0, 0), scale: int = 4) -> None:
        self.info = DecoderInfo("knowing", "pixel", scale, "none", reads="bicubic")
        self.pictures = [to_tensor(source.image(i)) for i in range(len(source))]
        self.off = torch.tensor(off).view(3, 1, 1) / 255

    def __call__(self, low_band: Tensor) -> Tensor:
        h, w = (side * self.info.scale for side in low_band.shape[-2:])
        found = next(p for p in self.pictures if p.shape[-2] - h in range(4) and p.shape[-1] - w in range(4))
        return (found[:, :h, :w] + self.off)[None]


def test_a_perfect_decoder_has_no_distance_and_a_cast_is_told_in_grey_levels(photos: Path) -> None:
    source = open_source(photos)
    decoders = [Knowing(source), Knowing(source, (3, 0, -2)), Knowing(source, scale=2)]
    perfect, cast, half = evaluate_degraded(decoders, source, classifier=TinyClassifier())
    for report in (perfect, half):
        assert (report.psnr_y, report.feature_distance, report.colour_error, report.n) == (100, 0, 0, 3)
        assert report.ssim == pytest.approx(1) and report.colour == (0, 0, 0)
    assert cast.colour == pytest.approx((3, 0, -2), abs=1e-4) and cast.colour_error == pytest.approx(5 / 3, abs=1e-4)
    assert cast.psnr_y < 60 and cast.feature_distance > 0


def test_figures_are_means_of_those_of_each_picture(photos: Path) -> None:
    source, classifier = open_source(photos), TinyClassifier()
    [report] = evaluate_degraded([make_bicubic()], source, seed=2, classifier=classifier)
    distances, errors = [], []
    for i in range(3):
        whole = to_tensor(source.image(i))
        picture = whole[:, : whole.shape[1] // 4 * 4, : whole.shape[2] // 4 * 4]
        low = degraded_picture(picture, source.names[i], way="camera", seed=2, scale=4)
        decoded = quantise(make_bicubic().anchored("centre")(low[None]))
        distances.append((classifier(decoded).features - classifier(picture[None]).features).norm().item())
        errors.append((decoded[0] - picture).mean((1, 2)).abs().mean().item() * 255)
    assert report.feature_distance == pytest.approx(np.mean(distances), rel=1e-5)
    assert report.colour_error == pytest.approx(np.mean(errors), rel=1e-4)


def test_small_pictures_depend_on_seed_and_name_and_on_nothing_else() -> None:
    picture = torch.rand(3, 40, 48, generator=torch.Generator().manual_seed(0))

    def make(name: str, seed: int = 0, way: str = "camera") -> Tensor:
        return degraded_picture(picture, name, way=way, seed=seed, scale=4)

    low = make("a.png")
    assert low.shape == (3, 10, 12)
    assert torch.equal(low, make("folder/a.png")) and torch.equal(low, make("set.zip:inside/a.png"))
    for other in (make("b.png"), make("a.png", seed=1), make("a.png", way="two-round")):
        assert not torch.equal(low, other)


def test_small_and_unknown_input_is_refused(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="camera"):
        evaluate_degraded([make_bicubic()], open_source(photos), way="camra", classifier=TinyClassifier())
    Image.new("RGB", (31, 64)).save(tmp_path / "narrow.png")
    with pytest.raises(ImageFileError, match=r"narrow\.png is 31 x 64"):
        evaluate_degraded([make_bicubic()], open_source(tmp_path), classifier=TinyClassifier())


def test_the_command_prints_the_same_figures_for_the_same_seed(
    photos: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nsbgan_infer.evaluation.degraded.load_lite2", TinyClassifier)
    arguments = ("evaluate", "decoder", "--decoder", "bicubic", "--images", str(photos), "-q", "--degrade")
    reports = []
    for seed in ("0", "0", "1"):
        assert call(*arguments, "camera", "--seed", seed, "--json") == 0
        reports.append(json.loads(capsys.readouterr().out))
    assert reports[0] == reports[1] != reports[2]
    assert {"decoder", "degrade", "seed", "psnr_y", "ssim", "feature_distance", "colour", "n"} <= set(reports[0])
    assert call(*arguments, "two-round") == 0
    assert "grey levels" in capsys.readouterr().out
    assert call(*arguments, "fog") == 2
    assert "two-round" in capsys.readouterr().err


def test_options_that_do_not_go_together_are_refused(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    begin = ("evaluate", "decoder", "--decoder", "bicubic")
    assert call(*begin, "--images", str(photos), "--seed", "3") == 2
    assert "--seed is that of --degrade" in capsys.readouterr().err
    assert call(*begin, "--pairs", str(photos), "--degrade", "camera") == 2
    assert "of --pairs all are measured as they are" in capsys.readouterr().err


def test_known_figures_of_bicubic(shared_data: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    source = open_source(shared_data / "imagenet-dev-256px.zip").spread(6)
    [report] = evaluate_degraded([make_bicubic()], source)
    assert report.n == 6 and report.psnr_y == pytest.approx(24.943, abs=0.02)
    assert report.feature_distance == pytest.approx(13.206, abs=0.1)
    assert max(map(abs, report.colour)) < 0.5

"""Given pairs: the published figures of bicubic interpolation, and what is wrong with folders said in one sentence."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nsbgan_infer.cli.main import cli, exit_code
from nsbgan_infer.datasets import open_source
from nsbgan_infer.decoders.interpolate import make_bicubic, make_iwt
from nsbgan_infer.decoders.photo import PhotoConfig, PhotoDecoder
from nsbgan_infer.encoders.resize import shrink
from nsbgan_infer.errors import ImageFileError, UsageError
from nsbgan_infer.evaluation.pairs import evaluate_pairs, open_pairs
from nsbgan_infer.evaluation.reconstruction import evaluate_decoder
from nsbgan_infer.storage.components import save_component


def call(*arguments: str) -> int:
    return exit_code(lambda: cli.main(list(arguments), prog_name="nsbgan", standalone_mode=False))


def save(values: torch.Tensor, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    array = values.mul(255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(array[..., 0] if array.shape[2] == 1 else array).save(path)


def write_pairs(folder: Path, scale: int, *, count: int = 2, small: str = "{}.png") -> None:
    """lr/ and hr/ with smooth random pictures, the small ones made by bicubic reduction."""
    rng = np.random.default_rng(0)
    for i in range(count):
        coarse = torch.from_numpy(rng.random((1, 3, 6, 7), np.float32))
        large = torch.nn.functional.interpolate(coarse, (12 * scale, 14 * scale), mode="bicubic").clamp(0, 1)
        large = large.mul(255).round().div(255)
        save(large[0], folder / "hr" / f"{i}.png")
        save(shrink(large, scale, eight_bits=True)[0], folder / "lr" / small.format(i))


@pytest.mark.parametrize(("name", "published"), [("set5", (28.42, 0.8104)), ("set14", (26.00, 0.7027))])
def test_bicubic_has_the_published_figures(shared_data: Path, name: str, published: tuple[float, float]) -> None:
    pairs = open_pairs(shared_data / f"{name}-bicubic-x4.zip")
    (report,) = evaluate_pairs([make_bicubic()], pairs)
    assert report.psnr_y == pytest.approx(published[0], abs=0.02)
    assert report.ssim == pytest.approx(published[1], abs=0.002)
    assert report.n == {"set5": 5, "set14": 14}[name] and report.baseline_psnr_y == report.psnr_y


def test_pairs_and_own_reduction_agree(shared_data: Path) -> None:
    """Set5 shrunk here is Set5 as given: the small pictures are the same."""
    decoder = PhotoDecoder(PhotoConfig(blocks=1, channels=4)).eval()
    (given,) = evaluate_pairs([decoder], open_pairs(shared_data / "set5-bicubic-x4.zip"))
    own = evaluate_decoder(decoder, open_source(shared_data / "set5.zip"))
    assert given.psnr_y == pytest.approx(own.psnr_y, abs=1e-6) and (given.reads, own.reads) == ("pairs", "bicubic")


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_folders_of_any_factor(tmp_path: Path, scale: int) -> None:
    write_pairs(tmp_path, scale, small=f"{{}}x{scale}.png")
    pairs = open_pairs(tmp_path / "lr", tmp_path / "hr")
    assert (pairs.scale, len(pairs)) == (scale, 2) == (open_pairs(tmp_path).scale, len(open_pairs(tmp_path)))
    decoder = PhotoDecoder(PhotoConfig(scale=scale, blocks=1, channels=4)).eval()
    (report,) = evaluate_pairs([decoder], pairs)
    assert report.psnr_y > 30 and report.n == 2


def test_a_corner_decoder_is_laid_over_the_small_picture(tmp_path: Path) -> None:
    write_pairs(tmp_path, 4)

    class Beside:
        """The same, wrongly declared, so that nobody moves its result."""

        info = replace(make_iwt().info, basis="pixel", reads="bicubic")

        def __call__(self, low_band: torch.Tensor) -> torch.Tensor:
            return make_iwt()(low_band)

    over, beside = evaluate_pairs([make_iwt(), Beside()], open_pairs(tmp_path))
    assert over.psnr_y > beside.psnr_y + 4


def test_grey_pictures_are_their_own_luma(tmp_path: Path) -> None:
    large = torch.full((1, 1, 64, 64), 100 / 255)
    save(large[0], tmp_path / "hr" / "a.png")
    save(torch.full((1, 16, 16), 110 / 255), tmp_path / "lr" / "a.png")
    (report,) = evaluate_pairs([make_bicubic()], open_pairs(tmp_path))
    assert report.psnr_y == pytest.approx(20 * np.log10(255 / 10), abs=1e-6)


def test_what_is_wrong_is_one_sentence(tmp_path: Path) -> None:
    write_pairs(tmp_path / "a", 4)
    with pytest.raises(UsageError, match="x4, and iwt enlarges by 2"):
        evaluate_pairs([make_iwt(2)], open_pairs(tmp_path / "a"))
    with pytest.raises(UsageError, match="no folders lr/ and hr/"):
        open_pairs(tmp_path / "a" / "lr")
    (tmp_path / "a" / "lr" / "1.png").rename(tmp_path / "a" / "lr" / "other.png")
    with pytest.raises(UsageError, match=r"hr/1\.png has no small picture of the same name"):
        open_pairs(tmp_path / "a")
    write_pairs(tmp_path / "b", 2)
    save(torch.rand(3, 48, 56), tmp_path / "b" / "hr" / "0.png")
    with pytest.raises(UsageError, match=r"several factors \(2, 4\)"):
        open_pairs(tmp_path / "b")
    save(torch.rand(3, 13, 13), tmp_path / "b" / "hr" / "0.png")
    with pytest.raises(UsageError, match=r"14 x 12 and hr/0\.png 13 x 13"):
        open_pairs(tmp_path / "b")
    (tmp_path / "b" / "hr" / "0.png").write_bytes(b"no picture")
    with pytest.raises(ImageFileError, match=r"0\.png is not an image"):
        open_pairs(tmp_path / "b")


def test_the_command_reports_an_ensemble_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pairs(tmp_path, 4)
    save_component(PhotoDecoder(PhotoConfig("own", blocks=1, channels=4)), tmp_path / "own")
    pairs = ("--pairs", str(tmp_path), "--ensemble", "--json", "-q")
    assert call("evaluate", "decoder", "--decoder", str(tmp_path / "own"), *pairs) == 0
    plain, mean = json.loads(capsys.readouterr().out)
    assert (plain["decoder"], mean["decoder"]) == ("own", "own+")
    assert mean["psnr_y"] == pytest.approx(plain["psnr_y"], abs=0.01)  # untrained it is symmetric
    assert call("evaluate", "decoder", "--decoder", "iwt", *pairs) == 2
    assert "take a decoder that reads bicubic" in capsys.readouterr().err


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_pairs(tmp_path, 4)
    lr, hr = str(tmp_path / "lr"), str(tmp_path / "hr")
    common = ("evaluate", "decoder", "--decoder", "bicubic")
    assert call(*common, "--pairs", lr, hr, "--json", "-q") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["n"] == 2 and report["reads"] == "pairs" and report["psnr_y"] == report["baseline_psnr_y"]
    assert call(*common, "--pairs", lr, hr, "-q") == 0 and "the given pairs" in capsys.readouterr().out
    assert call(*common, "--images", hr, "-q") == 0 and "gaussian reduction" in capsys.readouterr().out
    for arguments, says in (
        ((), "--images SRC"),
        (("--pairs", lr, hr, "--images", hr), "--images SRC"),
        (("--images", hr, lr), "stands alone"),
        (("--pairs", lr, hr, "--count", "1"), "--count"),
    ):
        assert call(*common, *arguments) == 2
        assert says in capsys.readouterr().err

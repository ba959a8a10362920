"""The paper's tables as commands: what can run runs, what cannot says what it waits for, costs are there for all."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny import CLASSES, TinyClassifier, ship_tiny_weights

from nsbgan_infer.cli.main import cli, exit_code
from nsbgan_infer.evaluation import cost
from nsbgan_infer.evaluation.cost import multiply_adds, outline_row, seconds_a_decode, seconds_a_picture
from nsbgan_infer.evaluation.reproduce import Options, reproduce_table, reproduction_markdown
from nsbgan_infer.evaluation.tables import MAX, MIN, TABLES, find_table
from nsbgan_infer.latents import draw_latents

COVERS = ["cli.reproduce", "evaluation.cost", "evaluation.reports"]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(1)
    for i, wnid in enumerate(("n01440764", "n02099601", "n02102040")):
        small = Image.fromarray(rng.integers(0, 256, (16, 16, 3), dtype=np.uint8))
        small.resize((256, 256), Image.Resampling.BICUBIC).save(folder / f"{wnid}_{i}.png")
    return folder


@pytest.fixture
def shipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("nsbgan_infer.evaluation.images.load_lite0", TinyClassifier)
    return ship_tiny_weights(tmp_path / "weights", monkeypatch)


def call(*arguments: str) -> int:
    return exit_code(lambda: cli.main(["reproduce", *arguments], prog_name="nsbgan", standalone_mode=False))


@pytest.mark.parametrize("name", ["table1", "table2", "table4", "table5", "table10"])
def test_without_anything_every_row_says_what_it_waits_for(name: str, shipped: Path, tmp_path: Path) -> None:
    found = reproduce_table(find_table(name), Options(timed=False), real=None, judges=None, folder=tmp_path)
    assert [line.paper for line in found.lines] == [row.figures for row in TABLES[name].rows]
    for line in (*found.lines, *found.own):
        assert line.missing and not line.ours
    for line, row in zip(found.lines, TABLES[name].rows, strict=True):
        if row.preset:
            assert line.multiply_adds is not None and line.multiply_adds > 1e9
            if row.preset.startswith("learned"):
                assert f"--weights {row.preset}=FILE" in line.missing
                assert f"--weights {row.with_decoder}=FILE" in line.missing
    if name == "table2":  # what the paper only compares with is quoted with its source
        text = reproduction_markdown(found)
        (quoted,) = [line for line in text.splitlines() if line.startswith("| VQVAE-2")]
        assert "512 TPU-v3 cores" in quoted
        assert "* VQVAE-2: the paper's abstract" in text and "* VQVAE-2, its own: published only" in text


def test_multiply_adds_are_the_known_ones() -> None:
    srresnet = 10.39e9
    row = multiply_adds(outline_row("learned-w-64", "esrgan-w"), 256)
    plain = multiply_adds(outline_row("learned-w-64", "iwt"), 256)
    assert row - plain == pytest.approx(srresnet, rel=0.01)
    assert seconds_a_picture(outline_row("learned-w-64", "iwt"), 256, repeats=1) > 0
    assert seconds_a_decode(outline_row("learned-w-64", "iwt"), repeats=1) > 0
    assert multiply_adds(outline_row("learned-w-64", "esrgan-w"), 256, decoders_only=True) == pytest.approx(
        srresnet, rel=0.01
    )


@pytest.mark.parametrize("name", ["biggan-128", "stylegan2-256-64"])
def test_random_weights_draw_finite_pictures_to_be_timed(name: str) -> None:
    outlined = outline_row(name, None)
    cost._fill(outlined.sampler)  # type: ignore[arg-type]
    info = outlined.sampler.info
    latents = draw_latents([0], [None], z_dim=info.z_dim, truncation=0.5, mode="scale", truncates=info.truncates)
    with torch.inference_mode():
        sample = outlined.sampler(latents)
    assert torch.isfinite(sample).all() and sample.std() > 0


@pytest.mark.usefixtures("kept_networks")
def test_table4_runs_the_samplers_that_ship_and_goes_on(
    shipped: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    # a threshold that every picture reaches, whatever the random weights draw
    arguments = ["table4", "--real", str(photos), "--per-class", "2", "--truncations", "0.5,1"]
    arguments += ["--thresholds", "0.0005", "--max-tries", "2", "--no-time", "--allow-small"]
    arguments += ["--out", str(tmp_path / "out"), "--json", "-q"]
    assert call(*arguments) == 0
    value = json.loads(capsys.readouterr().out)
    own = {(line["sampler"][:12], line["decoder"]): line for line in value["own"]}
    assert set(own) == {
        ("Learned-W-64", "subband-w"), ("Learned-W-64", "iwt"), ("Learned-P-64", "bicubic"),
    }  # fmt: skip
    drawn = len({0, 207, 217} & set(CLASSES))
    for (_, decoder), line in own.items():
        assert line["ours"].keys() == ({MIN} if decoder == "iwt" else {MIN, MAX})
        assert line["n"] == 2 * drawn
        assert "20 classes" in line["sampler"]
    grids = [[p["truncation"] for p in s["points"] if p["threshold"] is None] for s in value["sweeps"]]
    assert grids[0] == [0.5, 1.0] and len(grids[1]) == 1  # another decoder: the best one only
    text = (tmp_path / "out" / "table4.md").read_text()
    assert "27.52 / 219.4" in text and "--weights learned-w-64=FILE" in text
    assert (tmp_path / "out" / "table4.png").is_file()
    kept = sorted(p.name for p in (tmp_path / "out" / "judged").iterdir())
    assert call(*arguments) == 0
    assert json.loads(capsys.readouterr().out) == value
    assert sorted(p.name for p in (tmp_path / "out" / "judged").iterdir()) == kept


def test_table3_measures_every_decoder_that_is_here(
    shipped: Path, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("table3", "--no-time", "--out", str(tmp_path / "out"), "-q")
    assert call(*arguments, "--images", str(photos), "--json") == 0
    lines = {line["decoder"]: line for line in json.loads(capsys.readouterr().out)["lines"]}
    assert set(lines) == {"UNet-P", "UNet-W", "VQVAE-2", "SPN", "iwt", "bicubic", "lanczos", "subband-w"}
    for name in ("iwt", "bicubic", "lanczos", "subband-w"):
        assert 0 < float(lines[name]["ours"]["MSE here"]) < 0.2 and lines[name]["n"] == 3
    assert lines["UNet-W"]["paper"] == {"Train MSE": "0.0045", "Valid MSE": "0.0049"}
    assert "--weights unet-w=FILE" in lines["UNet-W"]["missing"]
    assert lines["UNet-W"]["multiply_adds"] == pytest.approx(100.2e9, rel=0.01)
    assert lines["iwt"]["multiply_adds"] < 1e7 < lines["subband-w"]["multiply_adds"]
    assert lines["VQVAE-2"]["paper"] == {"Train MSE": "0.0047", "Valid MSE": "0.0050"}
    assert (
        "table 3" in lines["VQVAE-2"]["source"] and "appendix F" in lines["SPN"]["source"] and not lines["SPN"]["paper"]
    )
    assert call(*arguments) == 0
    said = capsys.readouterr().out
    assert "--images" in said and "0.0047" in said
    assert "* VQVAE-2: the paper's table 3; Razavi et al. 2019" in said and "* SPN: the paper's section 2" in said


@pytest.mark.parametrize("name", ["fig1", "fig2", "slicing"])
def test_figures_are_drawn(name: str, photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(name, "--images", str(photos), "--out", str(tmp_path / "out")) == 0
    with Image.open(tmp_path / "out" / f"{name}.png") as image:
        assert image.width == 3 * 264 + 8
    assert f"{name}.png" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["table7"], "table7"),
        (["fig1"], "--images"),
        (["table1", "--weights", "learned-w-64"], "NAME=FILE"),
        (["table1", "--weights", "learned-x=a"], "did you mean"),
        (["table1", "--real", "absent"], "No such file"),
        (["table1", "--truncations", "0.5,x"], "--truncations takes numbers"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_2(
    arguments: list[str], says: str, tmp_path: Path, shipped: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(*arguments, "--out", str(tmp_path / "out")) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("nsbgan: error:")]
    assert len(errors) == 1 and says in errors[0]

"""`nsbgan generate`: names, defaults, the choice of the preset, and what is told before any work."""

from __future__ import annotations

import http.server
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Run
from PIL import Image
from tiny import cache_tiny_biggan, ship_tiny_weights

from nsbgan_infer.images import read_recipe
from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.storage.files import write_bytes

COVERS = ["cli.options", "cli.steps"]


def test_names_pixels_and_recipes_are_those_of_python(run: Run, pipeline_folder: Path) -> None:
    stdout = run(
        "generate", "--pipeline", pipeline_folder, "-c", "golden retriever", "-c", "1", "-n", "2", "--seed", "5"
    ).stdout
    output = NsbPipeline.from_pretrained(pipeline_folder)([207, 1], 2, seeds=5)
    names = [f"{c}_seed{s}.png" for c in ("207_golden-retriever", "001_goldfish") for s in (5, 6)]
    assert stdout.split() == [f"out/{n}" for n in names]
    for name, image, recipe in zip(names, output.images, output.recipes, strict=True):
        with Image.open(Path("out") / name) as written:
            assert np.array_equal(np.asarray(written), np.asarray(image))
        assert read_recipe(Path("out") / name) == recipe


def test_a_batch_changes_no_pixel_by_more_than_one(run: Run, pipeline_folder: Path) -> None:
    common = ["generate", "--pipeline", pipeline_folder, "-c", "all", "-n", "2", "--engine", "eager"]
    run(*common, "-o", "single")
    run(*common, "-o", "batch", "--batch-size", "8")
    files = sorted(Path("single").iterdir())
    assert len(files) == 8
    for file in files:
        a, b = (np.asarray(Image.open(p), dtype=int) for p in (file, Path("batch") / file.name))
        assert np.abs(a - b).max() <= 1


def test_options_reach_the_recipe(run_json: Callable[..., Any], pipeline_folder: Path) -> None:
    value = run_json(
        *("generate", "--pipeline", pipeline_folder, "--class", "933", "--truncation", "0.3"),
        *("--truncation-mode", "resample", "--res", "64", "--decoder", "iwt", "--dtype", "bf16", "--format", "webp"),
    )
    row = value["images"][0]
    assert (row["class"], row["width"], row["file"]) == ("cheeseburger", 64, "out/933_cheeseburger_seed0.webp")
    recipe = read_recipe(Path(row["file"]))
    assert (recipe.truncation, recipe.truncation_mode, recipe.resolution) == (0.3, "resample", 64)
    assert (recipe.decoders, recipe.dtype, recipe.preset) == (("iwt",), "bf16", "tiny")


def test_grid_steps_and_no_recipe(run: Run, pipeline_folder: Path) -> None:
    run(
        "generate",
        "--pipeline",
        pipeline_folder,
        "-c",
        "1",
        "-c",
        "207",
        "-n",
        "3",
        "--grid",
        "--save-steps",
        "--no-recipe",
    )
    with Image.open("out/grid.png") as sheet:
        assert sheet.size == (3 * 128, 2 * 128)
        cell = sheet.crop((128, 128, 256, 256))
    with Image.open("out/207_golden-retriever_seed1.png") as image:
        assert np.array_equal(np.asarray(cell), np.asarray(image)) and not image.text  # type: ignore[attr-defined]
    sides = {}
    for name in ("2-sample", "4-decoded-1", "3-low-band-2"):
        with Image.open(f"out/001_goldfish_seed0_{name}.png") as step:
            sides[name] = step.width
    assert sides == {"2-sample": 16, "4-decoded-1": 64, "3-low-band-2": 32}
    assert len(list(Path("out").iterdir())) == 1 + 6 * 4


def test_an_existing_file_is_replaced(run: Run, pipeline_folder: Path) -> None:
    Path("out").mkdir()
    Path("out/207_golden-retriever_seed0.png").write_text("old")
    run("generate", "--pipeline", pipeline_folder, "-c", "207")
    assert read_recipe(Path("out/207_golden-retriever_seed0.png")).seed == 0


def test_without_a_network_the_default_is_what_ships(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ship_tiny_weights(tmp_path / "weights", monkeypatch)
    result = run("generate", "--class", "207", "--res", "512")
    assert "Using the preset embedded: BigGAN's weights are not in the cache" in result.stderr
    assert read_recipe(Path("out/207_golden-retriever_seed0.png")).resolution == 512
    refused = run("generate", "--class", "208", code=2).stderr
    assert "cannot draw class 208" in refused and "207 golden retriever" in refused
    assert "--preset pretrained-256-128" in refused
    assert "the network is refused" in run("generate", "--class", "207", "--offline").stderr


def test_the_default_is_biggan_where_it_is_cached(run_json: Callable[..., Any], tmp_path: Path) -> None:
    cache_tiny_biggan(256)
    value = run_json("generate", "--class", "208", "--decoder", "iwt", "--res", "256")
    assert value["pipeline"] == "pretrained-256-128" and "in the cache" in value["reason"]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    """A server whose BigGAN-256 is not what its checksum promises."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "biggan-deep-256-pytorch_model.bin").write_bytes(b"not the weights")

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{http_server.server_address[1]}"
        http_server.shutdown()


def test_a_default_that_cannot_be_fetched_falls_back(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: str, private_cache: Path
) -> None:
    ship_tiny_weights(tmp_path / "weights", monkeypatch)
    monkeypatch.setenv("NSBGAN_BIGGAN_URL", server)
    said = run("generate", "--class", "207").stderr
    assert "Using the preset embedded: BigGAN's weights could not be fetched: What http://127.0.0.1" in said
    assert [p for p in private_cache.rglob("*") if p.is_file()] == []
    said = run("generate", "--class", "207", "--preset", "pretrained-256-128", code=2).stderr
    assert "is not the file that was expected" in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Which class?"),
        (["--class", "goldn retriever"], "did you mean golden retriever (207)"),
        (["--class", "crane"], "ambiguous"),
        (["--class", "1000"], "ids go from 0 to 999"),
        (["--class", "210-200"], "runs backwards"),
        (["--class", "207", "--truncation", "0"], "Truncation 0 is out of range"),
        (["--class", "207", "--truncation", "nan"], "Truncation nan is out of range"),
        (["--class", "207", "--preset", "embeded"], "did you mean embedded"),
        (["--class", "207", "--preset", "embedded", "--pipeline", "x"], "not both"),
        (["--class", "207", "--sampler", "x"], "name that too"),
        (["--class", "207", "--out", "file/below"], "Cannot write to the output folder"),
        (["--class", "207", "--preset", "biggan-128", "--device", "cuda:99"], "not available here"),
        (["--class", "207", "--preset", "learned-w-64"], "Nobody has published weights"),
        (["--class", "207", "--preset", "biggan-128", "--offline"], "not in the cache and the network is refused"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_loaded(
    run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    Path("file").write_text("")
    monkeypatch.setattr(NsbPipeline, "__call__", None)
    assert message in run("generate", *arguments, code=2).stderr


def test_a_resolution_that_no_stage_makes_lists_those_made(run: Run, pipeline_folder: Path) -> None:
    said = run("generate", "--pipeline", pipeline_folder, "-c", "1", "--res", "100", code=2).stderr
    assert "it makes 64, 128" in said and not list(Path("out").iterdir())


def test_a_disk_that_fills_keeps_what_is_written(
    run: Run, pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nsbgan_infer import images
    from nsbgan_infer.errors import WorkError

    calls: list[Path] = []

    def fill(path: Path, data: bytes) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise WorkError(f"Cannot write {path}: No space left on device.")
        write_bytes(path, data)

    monkeypatch.setattr(images, "write_bytes", fill)
    assert "No space left" in run("generate", "--pipeline", pipeline_folder, "-c", "1", "-n", "4", code=1).stderr
    assert sorted(p.name for p in Path("out").iterdir()) == ["001_goldfish_seed0.png", "001_goldfish_seed1.png"]


def test_quiet_and_json_say_nothing_else(run: Run, pipeline_folder: Path) -> None:
    assert run("generate", "--pipeline", pipeline_folder, "-c", "1", "--quiet", "--json").stderr == ""
    assert "Weights of tiny" in run("generate", "--pipeline", pipeline_folder, "-c", "1").stderr


@pytest.mark.skipif(sys.platform == "win32", reason="signals work otherwise there")
def test_ctrl_c_ends_quietly_and_leaves_whole_files(pipeline_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "many"
    command = [sys.executable, "-m", "nsbgan_infer", "generate", "--pipeline", str(pipeline_folder), "-c", "1"]
    child = subprocess.Popen(
        [*command, "-n", "1000", "-o", str(out), "--engine", "eager"],  # more would go to sub-folders
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
        # a test run in the background inherits an ignored SIGINT and would hand it on
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    while child.poll() is None and not (out.is_dir() and any(out.glob("*.png"))):
        time.sleep(0.05)
    assert child.poll() is None, child.communicate()[1]
    os.kill(child.pid, signal.SIGINT)
    _, said = child.communicate(timeout=120)
    assert child.returncode == 130 and "Traceback" not in said, said
    assert not list(out.glob("*.part")) and not list(out.glob(".*"))
    for file in out.glob("*.png"):
        read_recipe(file)


def test_ctrl_c_says_what_is_there(run: Run, pipeline_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nsbgan_infer.outputs.writer import ImageWriter

    write = ImageWriter.write

    def stop_at_third(self: ImageWriter, output: Any) -> Any:
        if len(self.rows) == 2:
            raise KeyboardInterrupt
        return write(self, output)

    monkeypatch.setattr(ImageWriter, "write", stop_at_third)
    said = run("generate", "--pipeline", pipeline_folder, "-c", "207", "-n", "4", "--res", "64", code=130).stderr
    assert "Stopped: 2 of 4 pictures are in out." in said

"""`nsbgan upscale` as users type it: files, folders, streams, names, formats, and what is refused before any work."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from command import Run
from photo_file import photo
from PIL import Image

from nsbgan_infer.cli.main import cli
from nsbgan_infer.photos import enlarging

COVERS = ["photos.batch", "photos.run"]
JsonRun = Callable[..., Any]
IWT = ("--decoder", "iwt")


def names(folder: str) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in Path(folder).rglob("*") if p.is_file())


def test_one_photo_into_a_file(run_json: JsonRun) -> None:
    value = run_json("upscale", photo(Path("a.png")), "--out", "big.webp", *IWT)
    assert value["pictures"] == [{"in": "a.png", "out": "big.webp", "width": 160, "height": 128}]
    assert Image.open("big.webp").size == (160, 128)


def test_a_folder_collects_failures_to_the_end(run: Run) -> None:
    Path("in").mkdir()
    photo(Path("in/a.png"))
    Path("in/b.png").write_text("broken")
    photo(Path("in/c.jpg"))
    result = run("upscale", "in", "--out", "big", *IWT, code=1)
    assert result.stderr.count("in/b.png") == 1 and "1 of 3 photos could not be enlarged" in result.stderr
    assert names("big") == ["a_enlarged.png", "c_enlarged.png"]


def test_a_round_trip_reports_psnr(run_json: JsonRun) -> None:
    row = run_json("upscale", photo(Path("a.png"), 41, 35), "--round-trip", *IWT)["pictures"][0]
    assert row["out"] == "out/a_round-trip.png" and Image.open(row["out"]).size == (41, 35)
    assert row["psnr_y"] == pytest.approx(row["baseline_psnr_y"], abs=0.05) and row["psnr_y"] > 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["broken.png"], "not an image that can be read"),
        (["a.png", "--out", "a.gif"], "end it in .png, .jpg, .webp or .avif"),
        (["a.png", "--out", "a.png"], "is the photo itself"),
        (["a.png", "--out", "a.png", "--overwrite"], "is the photo itself"),
        (["a.png", "--out", "link.png", "--overwrite"], "is the photo itself"),
        (["a.png", "b/c.png", "--out", "x.png"], "2 photos do not go into x.png"),
        (["b", "--out", "-"], "do not go into standard output"),
        (["empty"], "No photos in empty"),
        (["hidden"], "Left out: 1 hidden, 1 of other kinds, 1 sub-folders (--recursive takes them)"),
        (["a.png", "--max-pixels", "100"], "more than 100"),
        (["a.png", "--decoder", "bicubik"], "did you mean bicubic"),
        (["a.png", "--out", "broken.png/x"], "Cannot write"),
        (["a.png", "--tile", "4"], "is not in the range"),
        (["a.png", "--scale", "2", "--size", "9x9"], "--scale or --size, not both"),
        (["a.png", "--size", "big"], "write 1920x1080"),
        (["a.png", "--round-trip", "--scale", "2"], "leave out --scale"),
        (["a.png", "--quality", "80"], "PNG keeps every pixel"),
        (["a.png", "--out", "x.jpg", "--format", "webp"], "x.jpg is a JPEG file and --format says webp"),
        (["a.png", "--skip-existing", "--overwrite"], "not both"),
        (["a.png", "--out", "-", "--json"], "where --json would write too"),
        (["a.png", "--out", "x" * 252 + ".png"], "more than 255 bytes"),
        (["wide.png", "--out", "x.webp"], "16400 x 8 and WEBP ends at 16383"),
        (["wide.png", "--out", "x.jpg", "--size", "65501x4"], "65501 x 4 and JPEG ends at 65500"),
        (["float.tif"], "of no known range: save it as 8 or 16 bit first"),
        (["int.tif"], "of no known range: save it as 8 or 16 bit first"),
        (["eps.jpg"], "not an image that can be read (known formats: PNG, JPEG"),
        (["pdf.png"], "not an image that can be read (known formats: PNG, JPEG"),
    ],
)
def test_refusals_before_any_work(
    run: Run, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo(Path("a.png"))
    Image.new("RGB", (4100, 2)).save("wide.png")
    Path("link.png").symlink_to("a.png")
    Path("broken.png").write_text("hello")
    Path("empty").mkdir()
    Path("b").mkdir()
    photo(Path("b/a.png"))
    photo(Path("b/c.png"))
    Path("hidden/sub").mkdir(parents=True)
    Path("hidden/._a.png").write_text("macOS")
    Path("hidden/film.mov").write_text("film")
    Image.fromarray(np.zeros((8, 8), np.float32)).save("float.tif")
    Image.fromarray(np.full((8, 8), 70_000, np.int32)).save("int.tif")
    Image.new("RGB", (8, 8)).save("eps.jpg", "EPS")
    Image.new("RGB", (8, 8)).save("pdf.png", "PDF")
    before = {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()}
    monkeypatch.setattr(enlarging, "_decode", lambda *_: pytest.fail("work was begun"))
    assert message in run("upscale", *arguments, code=2).stderr
    assert {p: p.read_bytes() for p in Path().rglob("*") if p.is_file()} == before


def test_a_postscript_file_never_starts_another_program(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import EpsImagePlugin

    Image.new("RGB", (8, 8)).save("eps.jpg", "EPS")
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_a, **_k: pytest.fail("Ghostscript was started"))
    monkeypatch.setattr(subprocess, "check_call", lambda *_a, **_k: pytest.fail("a program was started"))
    for command in (("upscale", "eps.jpg"), ("inspect", "eps.jpg"), ("regenerate", "eps.jpg", "--out", "x.png")):
        assert "not an image that can be read" in run(*command, code=2).stderr


def test_in_place_no_photo_is_replaced_and_no_result_enlarged_again(run: Run, run_json: JsonRun) -> None:
    Path("album").mkdir()
    own = [photo(Path("album/a.png")), photo(Path("album/a_enlarged.png"), 24, 16)]
    before = [p.read_bytes() for p in own]
    made = run_json("upscale", "album", "--out", "album", *IWT)["pictures"]
    assert [row["out"] for row in made] == ["album/a_png_enlarged.png", "album/a_enlarged_enlarged.png"]
    assert "2 of 2 results exist already" in run("upscale", "album", "--out", "album", *IWT, code=2).stderr
    again = run_json("upscale", "album", "--out", "album", "--skip-existing", *IWT)
    assert again["pictures"] == [] and len(again["skipped"]) == 2
    assert again["left_out"] == {"results of earlier runs": 2}
    assert len(run_json("upscale", "album", "--out", "album", "--overwrite", *IWT)["pictures"]) == 2
    assert [p.read_bytes() for p in own] == before and len(names("album")) == 4


def test_a_result_that_is_named_is_enlarged_again(run_json: JsonRun) -> None:
    run_json("upscale", photo(Path("a.png"), 12, 8), "--out", "b.png", *IWT)
    assert run_json("upscale", "b.png", "--out", "c.png", *IWT)["pictures"][0]["width"] == 192


def test_skipping_does_only_what_is_missing(run_json: JsonRun) -> None:
    Path("in").mkdir()
    photo(Path("in/a.png"))
    run_json("upscale", "in", *IWT)
    photo(Path("in/b.png"))
    value = run_json("upscale", "in", "--skip-existing", *IWT)
    assert [row["out"] for row in value["pictures"]] == ["out/b_enlarged.png"]
    assert value["skipped"] == ["out/a_enlarged.png"]


def test_one_stem_twice_gets_two_names(run_json: JsonRun) -> None:
    for folder in ("one", "two"):
        Path(folder).mkdir()
    photo(Path("one/IMG_1.png"))
    photo(Path("one/IMG_1.jpg"))
    photo(Path("one/IMG_2.jpg"))
    photo(Path("two/img_2.jpg"))  # one file where the case of letters makes no difference
    run_json("upscale", "one", "two", *IWT)
    assert names("out") == [
        "IMG_1_jpg_enlarged.png",
        "IMG_1_png_enlarged.png",
        "one_IMG_2_enlarged.png",
        "two_img_2_enlarged.png",
    ]


def test_a_file_given_twice_is_made_once(run_json: JsonRun) -> None:
    photo(Path("a.png"))
    value = run_json("upscale", "a.png", "./a.png", *IWT)
    assert len(value["pictures"]) == 1 and value["left_out"] == {"given twice": 1}


def test_what_a_folder_holds_is_taken_or_counted(run: Run, run_json: JsonRun) -> None:
    Path("in/sub").mkdir(parents=True)
    Path("in/@eaDir").mkdir()
    photo(Path("in/@eaDir/thumbnail.png"))
    for ending in ("avif", "gif", "png", "jpg", "webp", "tif", "bmp"):
        photo(Path(f"in/{ending}1.{ending}"))
    photo(Path("in/j.jpg")).rename("in/j.jfif")
    photo(Path("in/sub/deep.png"))
    Path("in/._png1.png").write_text("macOS")
    Path("in/notes.txt").write_text("text")
    result = run("upscale", "in", *IWT)
    line = "Left out: 1 hidden, 1 folders of thumbnails, 1 of other kinds, 1 sub-folders (--recursive takes them)."
    assert line in result.stderr
    assert len(names("out")) == 8 and "avif1_enlarged.png" in names("out") and "j_enlarged.png" in names("out")
    value = run_json("upscale", "in", "--recursive", "--out", "all", *IWT)
    assert "sub/deep_enlarged.png" in names("all") and len(value["pictures"]) == 9


def test_results_inside_the_folder_are_not_searched(run_json: JsonRun) -> None:
    photo(Path("a.png"))
    Path("out").mkdir()
    photo(Path("out/old.png"))  # without our mark: of an older version
    value = run_json("upscale", ".", "--recursive", *IWT)
    assert [row["in"] for row in value["pictures"]] == ["a.png"]


def test_heic_is_read_or_named_with_what_to_install(
    run: Run, run_json: JsonRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nsbgan_infer.photos import batch
    from nsbgan_infer.storage import image_files

    heif = pytest.importorskip("pillow_heif", reason="HEIC needs the extra heic")
    Path("in").mkdir()
    with Image.open(photo(Path("in/a.png"), 64, 48)) as image:
        heif.from_pillow(image).save("in/b.heic")
    assert len(run_json("upscale", "in", *IWT)["pictures"]) == 2
    for module in (image_files, batch):
        monkeypatch.setattr(module, "reads_heic", lambda: False)
    result = run("upscale", "in", "--out", "without", *IWT)
    assert "1 HEIC (pip install 'nsbgan-infer[heic]' to read them)" in result.stderr
    assert "run `pip install 'nsbgan-infer[heic]'`" in run("upscale", "in/b.heic", "--out", "x", *IWT, code=2).stderr


@pytest.mark.parametrize("out", ["results.v2", "x4.0/", "dir.png/"])
def test_a_folder_may_have_a_dot_in_its_name(out: str, run_json: JsonRun) -> None:
    row = run_json("upscale", photo(Path("a.png")), "--out", out, *IWT)["pictures"][0]
    assert Path(row["out"]) == Path(out) / "a_enlarged.png" and Path(row["out"]).is_file()


@pytest.mark.parametrize("length", [200, 241, 251])
def test_long_names_are_cut_to_what_a_file_system_holds(length: int, run_json: JsonRun) -> None:
    name = "é" * (length // 2) + ".png"  # 2 bytes each
    row = run_json("upscale", photo(Path(name)), *IWT)["pictures"][0]
    assert len(os.fsencode(Path(row["out"]).name)) <= 255 and Path(row["out"]).is_file()


def test_a_target_of_255_bytes_can_be_written(run: Run) -> None:
    out = "x" * 251 + ".png"
    run("upscale", photo(Path("a.png")), "--out", out, *IWT)
    assert Path(out).is_file() and names(".") == ["a.png", out]


def stream(*arguments: str, data: bytes = b"", code: int = 0) -> bytes:
    result = CliRunner().invoke(cli, ["upscale", *arguments], input=data, prog_name="nsbgan")
    assert result.exit_code == code, result.stderr
    return result.stdout_bytes if code == 0 else result.stderr_bytes


def test_standard_input_and_output(run: Run) -> None:
    data = photo(Path("a.png")).read_bytes()
    with Image.open(io.BytesIO(stream("-", "--out", "-", *IWT, data=data))) as image:
        assert (image.format, image.size) == ("PNG", (160, 128))
    with Image.open(io.BytesIO(stream("a.png", "--out", "-", "--format", "jpeg", *IWT))) as image:
        assert (image.format, image.size) == ("JPEG", (160, 128))
    stream("-", *IWT, data=data)
    assert names("out") == ["stdin_enlarged.png"] and not Path("-").exists()
    assert b"Standard input holds no picture" in stream("-", "--out", "-", *IWT, code=2)
    assert b"standard input is not an image" in stream("-", "--out", "-", *IWT, data=b"text", code=2)


@pytest.mark.parametrize(
    ("arguments", "size"),
    [
        (["--scale", "2"], (80, 64)),
        (["--scale", "3"], (120, 96)),
        (["--scale", "8"], (320, 256)),
        (["--size", "100x80"], (100, 80)),
        (["--size", "x100"], (125, 100)),
        (["--size", "300x"], (300, 240)),
        (["--size", "20x"], (20, 16)),
        (["--size", "50x50"], (50, 50)),
    ],
)
def test_any_scale_and_size(arguments: list[str], size: tuple[int, int], run: Run) -> None:
    result = run("upscale", photo(Path("a.png")), "--out", "b.png", *arguments, *IWT)
    assert Image.open("b.png").size == size
    assert ("changes its proportions by 25%" in result.stderr) == (size == (50, 50))


@pytest.mark.parametrize("errors", ["strict", "surrogateescape"])
@pytest.mark.parametrize("as_json", [False, True])
def test_names_in_another_encoding(as_json: bool, errors: str, tmp_path: Path) -> None:
    """A latin-1 name on a UTF-8 terminal, in a process of its own, for only there the streams are real."""
    name = b"caf\xe9.png"
    photo(tmp_path / "a.png").rename(os.fsdecode(os.fsencode(tmp_path) + b"/" + name))
    command: list[str | bytes] = [
        sys.executable,
        "-m",
        "nsbgan_infer",
        "upscale",
        name,
        "--decoder",
        "iwt",
        *["--json"] * as_json,
    ]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        env=os.environ | {"PYTHONIOENCODING": f"utf-8:{errors}"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / os.fsdecode(b"out/caf\xe9_enlarged.png")).is_file()
    if as_json:
        row = json.loads(done.stdout)["pictures"][0]
        assert os.fsencode(row["out"]) == b"out/caf\xe9_enlarged.png"
    else:
        shown = b"caf\\udce9" if errors == "strict" else name[:4]  # there the bytes pass as they are
        assert done.stdout == b"out/" + shown + b"_enlarged.png  160 x 128\n"


def test_ctrl_c_leaves_nothing_half_done(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(Path("a.png"))
    whole, calls = enlarging._decode, 0

    def stop(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(enlarging, "_decode", stop)
    said = run("upscale", "a.png", "--out", "b.png", "--tile", "8", *IWT, code=130).stderr
    assert "Stopped: 0 of 1 photos are enlarged, in b.png." in said
    assert calls == 3 and names(".") == ["a.png"]


def test_an_ensemble_is_the_mean_over_eight_turns(run: Run, run_json: JsonRun) -> None:
    whole = Image.open(photo(Path("a.png"), 24, 18))
    value = run_json("upscale", "a.png", "--decoder", "photo-fast", "--ensemble", "--out", "big.png")
    assert value["decoder"] == "photo-fast+"
    turned = []
    for mirror in (False, True):
        for quarter in range(4):
            given = np.rot90(np.flip(np.asarray(whole), 1) if mirror else np.asarray(whole), quarter)
            Image.fromarray(np.ascontiguousarray(given)).save("turned.png")
            run("upscale", "turned.png", "--decoder", "photo-fast", "--out", "t.png", "--overwrite")
            back = np.rot90(np.asarray(Image.open("t.png")).astype(float), -quarter)
            turned.append(np.flip(back, 1) if mirror else back)
    made = np.asarray(Image.open("big.png")).astype(float)
    assert np.abs(made - np.mean(turned, 0)).max() <= 1.5 and np.abs(made - turned[0]).max() > 1.5
    assert "has no such symmetry" in run("upscale", "a.png", "--decoder", "iwt", "--ensemble", code=2).stderr


def test_sharp_is_the_decoder_that_the_manifest_names(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(Path("a.png"), 24, 18)
    monkeypatch.setattr("nsbgan_infer.storage.shipped.manifest", dict)
    assert "--arch photo-sharp" in run("upscale", "a.png", "--sharp", code=2).stderr
    named = {"defaults": {"sharpen": {"bicubic": "bicubic"}}}
    monkeypatch.setattr("nsbgan_infer.storage.shipped.manifest", lambda: named)
    run("upscale", "a.png", "--sharp", "--out", "sharp.png")
    run("upscale", "a.png", "--decoder", "bicubic", "--out", "plain.png")
    assert Path("sharp.png").read_bytes() == Path("plain.png").read_bytes()
    assert "not both" in run("upscale", "a.png", "--sharp", "--decoder", "iwt", code=2).stderr

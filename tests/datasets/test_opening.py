"""Folders with links, by-products and labels; archives with links; runs: read whole, and counted."""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from bulk import make, plan_of
from PIL import Image
from tiny import tiny_pipeline

from nsbgan_infer.bulk import run as runs
from nsbgan_infer.datasets import describe, open_source
from nsbgan_infer.datasets.description import read_text
from nsbgan_infer.errors import ImageFileError, UsageError
from nsbgan_infer.outputs.writer import ImageWriter, Sheet

COVERS = ["datasets.archives", "datasets.description", "datasets.runs", "datasets.source"]
links = pytest.mark.skipif(os.name == "nt", reason="this system makes no links for everybody")


def picture(path: Path, colour: int = 0, size: tuple[int, int] = (8, 6)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (colour, colour, colour)).save(path)
    return path


@links
def test_linked_class_folders_are_read_and_loops_end(tmp_path: Path) -> None:
    picture(tmp_path / "store" / "a" / "1.png")
    picture(tmp_path / "set" / "n02099601" / "2.png")
    (tmp_path / "set" / "n01440764").symlink_to(tmp_path / "store" / "a", target_is_directory=True)
    (tmp_path / "set" / "n02099601" / "up").symlink_to("..", target_is_directory=True)
    (tmp_path / "set" / "again").symlink_to("n02099601", target_is_directory=True)
    (tmp_path / "set" / "gone.png").symlink_to("nowhere.png")
    (tmp_path / "set" / "n02099601" / "3.png").symlink_to(tmp_path / "store" / "a" / "1.png")
    source = open_source(tmp_path / "set")
    assert source.names == ("n01440764/1.png", "n02099601/2.png", "n02099601/3.png")
    assert source.classes == (0, 207, 207)
    assert source.left_out == {"links that lead nowhere": 1, "links to folders that are read already": 2}
    (tmp_path / "all").mkdir()
    for name in ("n01440764", "n02099601"):
        (tmp_path / "all" / name).symlink_to(tmp_path / "set" / name, target_is_directory=True)
    assert open_source(tmp_path / "all").classes == (0, 207, 207)


@pytest.mark.skipif(os.name == "nt" or not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    picture(tmp_path / "set" / "a.png")
    (tmp_path / "set" / "b").mkdir(mode=0)
    with pytest.raises(UsageError, match=r"Cannot read the folder .*b: Permission denied"):
        open_source(tmp_path / "set")


def test_what_generate_writes_beside_its_pictures_is_known(tmp_path: Path) -> None:
    output = tiny_pipeline()([207, 1], keep_steps=True)
    writer = ImageWriter(tmp_path / "out", sheet=Sheet(2, 64))
    writer.write(output)
    writer.write_grid()
    assert len(list((tmp_path / "out").iterdir())) == 9
    source = open_source(tmp_path / "out")
    assert source.classes == (1, 207)
    assert source.left_out == {"steps of pictures": 6, "contact sheets": 1}
    with zipfile.ZipFile(tmp_path / "out.zip", "w") as archive:
        for file in (tmp_path / "out").iterdir():
            archive.write(file, f"pictures/{file.name}")
    packed = open_source(tmp_path / "out.zip")
    assert (packed.classes, packed.left_out) == (source.classes, source.left_out)


@pytest.mark.parametrize("sink", ["folder", "tar", "npz"])
def test_a_run_is_read_by_its_manifest(sink: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    runs.run(plan_of(sink), run, make)  # type: ignore[arg-type]
    picture(run / "mine.png")
    source = open_source(run)
    assert source.classes == (207,) * 10 + (1,) * 10 + (5,) * 10
    assert open_source([run / "manifest.jsonl", run]).classes == source.classes * 2
    expected = Image.open(io.BytesIO(open_source(_first_file(tmp_path)).read(0)))
    assert source.image(0).tobytes() == expected.tobytes()
    assert describe(source).sizes == "8 x 8" and describe(source).n == 30


def _first_file(folder: Path) -> Path:
    runs.run(plan_of(), folder / "files", make)
    return folder / "files" / "00000" / "207_golden-retriever_seed0.png"


def test_a_run_that_is_not_finished_is_refused(tmp_path: Path) -> None:
    runs.prepare(plan_of(), tmp_path, resume=False)
    picture(tmp_path / "00000" / "a.png")
    with pytest.raises(UsageError, match="a run that is not finished: finish it"):
        open_source(tmp_path)
    assert len(open_source(tmp_path / "00000")) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"file": "../a.png"}, "does not lie in the run's folder"),
        ({"file": "/etc/a.png"}, "does not lie in the run's folder"),
        ({"class": 1000}, "other types"),
        ({"offset": -1}, "other types"),
        ({"file": "a.npz", "size": 11}, "no square picture"),
    ],
)
def test_a_hostile_manifest_is_refused(change: dict[str, object], says: str, tmp_path: Path) -> None:
    line = {"index": 0, "class": 1, "seed": 0, "file": "a.png", "offset": 0, "size": 12, "sha256": ""}
    (tmp_path / "manifest.jsonl").write_text(json.dumps(line | change) + "\n")
    with pytest.raises(UsageError, match=rf"line 1, is no line of a run's manifest \(.*{says}"):
        open_source(tmp_path / "manifest.jsonl")


def test_a_run_whose_file_was_cut_is_named(tmp_path: Path) -> None:
    runs.run(plan_of("npz"), tmp_path, make)
    data = (tmp_path / "images.npz").read_bytes()
    (tmp_path / "images.npz").write_bytes(data[:400])
    with pytest.raises(ImageFileError, match=r"images\.npz ends within picture 29"):
        open_source(tmp_path).image(29)


def test_labels_and_keys_of_shards_and_of_what_was_unpacked_from_them(tmp_path: Path) -> None:
    file = picture(tmp_path / "a.png")
    content = {"000.img.png": file.read_bytes(), "000.cls": b"7", "001.jpg": file.read_bytes()}
    content["001.json"] = b'{"label": 9}'
    for name, data in content.items():
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / name).write_bytes(data)
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for name in content:
            tar.add(tmp_path / "set" / name, name)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    for kind in ("set", "set.tar", "set.zip"):
        source = open_source(tmp_path / kind)
        assert source.names == ("000.img.png", "001.jpg")
        assert source.classes == (7, 9) and source.left_out == {}


@links
def test_links_within_a_tar_lead_to_their_pictures(tmp_path: Path) -> None:
    first = picture(tmp_path / "n02099601" / "a.png", 9)
    os.link(first, tmp_path / "n02099601" / "b.png")
    (tmp_path / "n02099601" / "c.png").symlink_to("a.png")
    (tmp_path / "n02099601" / "d.png").symlink_to("/etc/passwd")
    (tmp_path / "n02099601" / "e.png").symlink_to("e.png")
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        tar.add(tmp_path / "n02099601", "./n02099601")
    source = open_source(tmp_path / "set.tar")
    assert source.names == tuple(f"n02099601/{n}.png" for n in "abc")
    assert [source.read(i) for i in range(3)] == [first.read_bytes()] * 3
    assert source.left_out == {"links that lead nowhere": 2}


def test_a_set_is_described_by_its_content(tmp_path: Path) -> None:
    picture(tmp_path / "a" / "n02099601" / "1.png")
    picture(tmp_path / "a" / "2.png", size=(20, 30))
    picture(tmp_path / "a" / ".hidden.png")
    about = describe(open_source(tmp_path / "a"))
    assert (about.n, about.classes, about.unlabelled, about.left_out) == (2, 1, 1, {"hidden": 1})
    assert about.sizes == "8 x 6 to 20 x 30"
    assert about == describe(open_source(tmp_path / "a"))
    picture(tmp_path / "a" / "2.png", 1, size=(20, 30))
    assert describe(open_source(tmp_path / "a")).hash != about.hash
    assert read_text(2, (207, None), {"hidden": 1}) == "Read 2 pictures of 1 class (1 without one); left out: 1 hidden."
    assert read_text(1, (None,), {}) == "Read 1 picture of unknown class."


def test_a_set_of_nothing_but_what_is_left_out_says_so(tmp_path: Path) -> None:
    picture(tmp_path / ".thumbnails" / "a.png")
    with pytest.raises(UsageError, match=r"No pictures in .* files \(left out: 1 hidden\)"):
        open_source(tmp_path)

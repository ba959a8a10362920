"""Sets of pictures: folders, ZIP archives and tar shards, and what is wrong with them named before work starts."""

from __future__ import annotations

import io
import multiprocessing
import os
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nsbgan_infer.datasets import (
    ImageSource,
    archives,
    centre_square,
    check_images,
    decode_image,
    open_source,
    to_tensor,
)
from nsbgan_infer.errors import ImageFileError, UsageError


def picture(colour: tuple[int, int, int] = (200, 30, 60), size: tuple[int, int] = (12, 9), fmt: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, fmt, **({"lossless": True} if fmt == "WEBP" else {}))
    return buffer.getvalue()


FILES = {
    "n02099601/b.png": picture((1, 2, 3)),
    "n02099601/a.webp": picture((4, 5, 6), fmt="WEBP"),
    "n01440764/c.JPEG": picture((7, 8, 9), fmt="JPEG"),
    "other/d.bmp": picture((10, 11, 12), fmt="BMP"),
    "n00000000/e.tiff": picture((13, 14, 15), fmt="TIFF"),
    "n02099601/._b.png": b"a twin that macOS makes",
    "notes.txt": b"no picture",
}
MADE = {  # names of generated pictures, and of what is none
    "207_golden-retriever_seed0.png": 207,
    "out/001_goldfish_seed4294967295.webp": 1,
    "207_goldfish_seed0.png": None,
    "001_goldfish_seed0_2-sample.png": None,
    "001_goldfish.png": None,
}
CLASSES = {
    "n02099601/b.png": 207,
    "n02099601/a.webp": 207,
    "n01440764/c.JPEG": 0,
    "other/d.bmp": None,
    "n00000000/e.tiff": None,
}


def make_folder(path: Path) -> Path:
    for name, data in FILES.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(data)
    return path


def make_zip(path: Path, method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    return path


def make_tar(path: Path, files: dict[str, bytes] = FILES, mode: str = "w") -> Path:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


MAKERS: dict[str, Callable[[Path], Path]] = {
    "folder": lambda p: make_folder(p / "set"),
    "zip": lambda p: make_zip(p / "set.zip"),
    "deflated zip": lambda p: make_zip(p / "set.zip", zipfile.ZIP_DEFLATED),
    "tar": lambda p: make_tar(p / "set.tar"),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_the_same_set_wherever_it_lies(kind: str, tmp_path: Path) -> None:
    source = open_source(MAKERS[kind](tmp_path))
    assert list(source.names) == sorted(CLASSES) and len(source) == 5
    assert dict(zip(source.names, source.classes, strict=True)) == CLASSES
    for i, name in enumerate(source.names):
        assert source.read(i) == FILES[name]
        image = source.image(i)
        assert image.mode == "RGB" and image.size == (12, 9)
        expected = Image.open(io.BytesIO(FILES[name])).convert("RGB")
        assert np.array_equal(np.asarray(image), np.asarray(expected))
    assert check_images(source) == []


def test_several_sources_follow_each_other(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(picture())
    both = open_source([make_zip(tmp_path / "a.zip"), str(tmp_path / "one.png"), make_folder(tmp_path / "set")])
    assert len(both) == 11 and both.names[5] == "one.png" and both.names[:5] == both.names[6:]
    assert [both.read(i) for i in range(5)] == [both.read(i) for i in range(6, 11)]


@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_a_part_is_spread_evenly_over_the_whole(count: int, tmp_path: Path) -> None:
    whole = open_source(make_zip(tmp_path / "a.zip"))
    part = whole.spread(count)
    rows = [whole.names.index(name) for name in part.names]
    assert rows[0] == 0 and len(set(rows)) == len(part) == count
    assert {b - a for a, b in zip(rows, [*rows[1:], len(whole)], strict=True)} <= {5 // count, 5 // count + 1}
    assert [part.read(i) for i in range(count)] == [whole.read(i) for i in rows]
    assert part.classes == tuple(whole.classes[i] for i in rows)
    with pytest.raises(UsageError, match="There are 5 pictures, not 6"):
        whole.spread(6)


def test_the_folder_of_one_class_knows_its_class(tmp_path: Path) -> None:
    source = open_source(make_folder(tmp_path / "set") / "n02099601")
    assert source.names == ("a.webp", "b.png") and source.classes == (207, 207)


def test_shards_with_labels(tmp_path: Path) -> None:
    files = {"000.png": picture(), "000.cls": b"7", "001.png": picture(), "001.cls": b"999\n", "002.png": picture()}
    source = open_source(make_tar(tmp_path / "s.tar", files))
    assert source.names == ("000.png", "001.png", "002.png") and source.classes == (7, 999, None)
    for bad in (b"1000", b"-1", b"dog", b""):
        shard = make_tar(tmp_path / "bad.tar", {"000.png": picture(), "000.cls": bad})
        with pytest.raises(UsageError, match=r"bad\.tar cannot be used: 000.cls holds no class id"):
            open_source(shard)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda p: p / "nowhere", r"No such file or folder: .*nowhere"),
        (lambda p: p, r"No pictures in .*: expected \.png"),
        (lambda p: _written(p / "x.zip", b"PK\x05\x06" + bytes(18)), "No pictures in"),
        (lambda p: _written(p / "x.zip", b"not a zip"), "neither a folder, a picture, a ZIP archive nor a tar shard"),
        (lambda p: _written(p / "x.zip", make_zip(p / "y.zip").read_bytes()[:-200]), "neither a folder"),
        (lambda p: _broken_directory(p), "cannot be used as an archive"),
        (lambda p: make_tar(p / "x.tar.gz", mode="w:gz"), "tar shards must not be compressed"),
    ],
)
def test_what_holds_no_pictures(tmp_path: Path, make: Callable[[Path], Path], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        open_source(make(tmp_path))


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def _broken_directory(folder: Path) -> Path:
    data = make_zip(folder / "y.zip").read_bytes()
    return _written(folder / "x.zip", data.replace(b"PK\x01\x02", b"PK\x01\x03"))


def test_a_damaged_picture_is_named_and_the_good_ones_are_not(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    for fmt in ("PNG", "JPEG", "WEBP", "BMP"):
        data = encoded(noise, fmt)
        (folder / "other" / f"broken-{fmt}.png").write_bytes(data[: len(data) * 2 // 3])
    (folder / "other" / "small.png").write_bytes(picture(size=(3, 40)))
    problems = check_images(open_source(folder), smallest=9)
    for fmt, problem in zip(("BMP", "JPEG", "PNG", "WEBP"), problems, strict=False):
        assert problem.startswith(f"other/broken-{fmt}.png is")
    assert problems[4:] == ["other/small.png is 3 x 40, smaller than 9."]


def test_a_damaged_member_of_an_archive_is_named(tmp_path: Path) -> None:
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = make_zip(tmp_path / "set.zip", method)
        data = bytearray(path.read_bytes())
        with zipfile.ZipFile(path) as archive:
            start = archive.getinfo("n02099601/b.png").header_offset + 30 + len("n02099601/b.png") + 20
        data[start : start + 20] = bytes(20)
        path.write_bytes(data)
        problems = check_images(open_source(path))
        assert len(problems) == 1 and problems[0].startswith("n02099601/b.png cannot be read from set.zip")


def test_the_class_of_a_generated_picture_is_in_its_name(tmp_path: Path) -> None:
    for name in MADE:
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(picture())
    source = open_source(tmp_path / "set")
    assert dict(zip(source.names, source.classes, strict=True)) == MADE


def test_what_rejection_kept_aside_is_no_part_of_the_set_around_it(tmp_path: Path) -> None:
    for name in ("a.png", "below-threshold/b.png"):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).write_bytes(picture())
    assert open_source(tmp_path / "set").names == ("a.png",)
    assert open_source(tmp_path / "set" / "below-threshold").names == ("b.png",)


def test_members_that_unpack_too_large_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(5_000_000))
    assert path.stat().st_size < 20_000
    monkeypatch.setattr(archives, "BYTES_LIMIT", 1_000_000)
    with pytest.raises(ImageFileError, match=r"a\.png unpacks to more than 1,000,000 bytes"):
        open_source(path).image(0)


def test_a_file_that_vanished_is_named(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "set")
    source = open_source(folder)
    (folder / source.names[0]).unlink()
    with pytest.raises(ImageFileError, match=rf"{source.names[0]} cannot be read: No such file"):
        source.image(0)


def _read_all(source: ImageSource, wanted: list[bytes], failed: multiprocessing.sharedctypes.Synchronized) -> None:  # type: ignore[type-arg]
    for _ in range(150):
        for i, data in enumerate(wanted):
            if source.read(i) != data:
                failed.value = 1
                return


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_forked_workers_read_one_archive_at_the_same_time(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for i in range(20):  # larger than the buffer that a file object keeps
            archive.writestr(f"{i}.png", os.urandom(30_000))
    source = open_source(tmp_path / "set.zip")
    wanted = [source.read(i) for i in range(len(source))]
    context = multiprocessing.get_context("fork")
    failed = context.Value("i", 0)
    workers = [context.Process(target=_read_all, args=(source, wanted, failed)) for _ in range(3)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert failed.value == 0 and all(w.exitcode == 0 for w in workers)


def test_pictures_are_turned_upright() -> None:
    image = Image.new("RGB", (4, 2))
    image.putpixel((0, 0), (255, 0, 0))
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying: turn by 90 degrees clockwise
    buffer = io.BytesIO()
    image.save(buffer, "PNG", exif=exif)
    upright = decode_image(buffer.getvalue(), "x")
    assert upright.size == (2, 4) and upright.getpixel((1, 0)) == (255, 0, 0)


def encoded(image: Image.Image, fmt: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, fmt)
    return buffer.getvalue()


def test_every_mode_becomes_rgb() -> None:
    grey16 = Image.fromarray(np.array([[0, 32_896, 65_535]], dtype=np.uint16))
    assert [p[0] for p in np.asarray(decode_image(encoded(grey16), "x"))[0]] == [0, 128, 255]
    clear = Image.new("RGBA", (1, 1), (255, 0, 0, 0))
    assert decode_image(encoded(clear), "x").getpixel((0, 0)) == (255, 255, 255)
    half = Image.new("LA", (1, 1), (0, 128))
    assert decode_image(encoded(half), "x").getpixel((0, 0)) == (127, 127, 127)
    palette = Image.new("RGB", (2, 1), (10, 200, 30)).convert("P", palette=Image.Palette.ADAPTIVE)
    assert decode_image(encoded(palette), "x").getpixel((1, 0)) == (10, 200, 30)
    assert decode_image(encoded(Image.new("1", (1, 1), 1)), "x").getpixel((0, 0)) == (255, 255, 255)
    assert decode_image(encoded(Image.new("CMYK", (8, 8)), "JPEG"), "x").mode == "RGB"


def test_numbers_of_no_known_range_are_refused() -> None:
    for values in (np.zeros((4, 4), np.float32), np.full((4, 4), 70_000, np.int32)):
        with pytest.raises(ImageFileError, match="of no known range: save it as 8 or 16 bit first"):
            decode_image(encoded(Image.fromarray(values), "TIFF"), "photo")


def test_other_formats_are_not_opened_even_under_a_good_name() -> None:
    for fmt in ("EPS", "PDF", "PPM", "TGA"):
        with pytest.raises(ImageFileError, match=r"photo is not an image that can be read \(known formats: PNG"):
            decode_image(encoded(Image.new("RGB", (4, 4)), fmt), "photo")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["PNG", "JPEG", "WEBP", "BMP", "TIFF"]), st.data())
def test_mutated_pictures_are_read_or_refused(fmt: str, data: st.DataObject) -> None:
    content = bytearray(picture(fmt=fmt))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    try:
        assert decode_image(bytes(content), "name.x").mode == "RGB"
    except ImageFileError as error:
        assert str(error).startswith("name.x ")


@settings(deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 40))
def test_centre_square_is_a_square_of_that_size(width: int, height: int, size: int) -> None:
    assert centre_square(Image.new("RGB", (width, height)), size).size == (size, size)


def test_centre_square_takes_the_middle_and_leaves_a_fitting_picture_alone() -> None:
    strips = np.zeros((8, 24, 3), dtype=np.uint8)
    strips[:, 8:16] = 255
    assert np.asarray(centre_square(Image.fromarray(strips), 8)).min() == 255
    assert np.asarray(centre_square(Image.fromarray(strips.transpose(1, 0, 2)), 8)).min() == 255
    noise = np.random.default_rng(0).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    assert np.array_equal(np.asarray(centre_square(Image.fromarray(noise), 8)), noise)


def test_shrinking_is_antialiased() -> None:
    checks = np.indices((64, 64)).sum(0) % 2 * 255
    image = Image.fromarray(np.repeat(checks[..., None], 3, 2).astype(np.uint8))
    assert np.asarray(centre_square(image, 16)).std() < 6  # without it: black and white


def test_tensors_are_rgb_in_0_to_1() -> None:
    tensor = to_tensor(Image.new("RGB", (3, 2), (255, 0, 51)))
    assert tensor.shape == (3, 2, 3) and tensor.dtype == torch.float32
    assert torch.allclose(tensor[:, 0, 0], torch.tensor([1.0, 0.0, 0.2]))


def test_real_archives(shared_data: Path) -> None:
    source = open_source([shared_data / "set5.zip", shared_data / "imagenette-256px-0.zip"])
    assert source.classes[:5] == (None,) * 5 and set(source.classes[5:]) <= set(range(1000))
    assert source.image(len(source) - 1).size == (256, 256)

"""Which names are pictures of a set, and of which class: one rule for folders, ZIP archives and tar shards."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsbgan_infer.datasets.names import class_of, left_out_text, pick_pictures, read_classes, sample_key
from nsbgan_infer.errors import UsageError


def test_every_kind_of_by_product_is_left_out_and_counted() -> None:
    made = "207_golden-retriever_seed0"
    pictures = ["a.png", "b/c.JPEG", f"{made}.png", "below/x.png", "lone_2-sample.png", "other/grid.png"]
    others = {
        "hidden": [".ipynb_checkpoints/a.png", "b/.thumbnails/c.jpg", "b/._c.JPEG", ".hidden.png"],
        "in folders of thumbnails": ["@eaDir/a.png/SYNOPHOTO_THUMB_M.jpg", "__MACOSX/a.png", "b/@__thumb/c.jpg"],
        "kept aside by rejection": ["below-threshold/a.png"],
        "steps of pictures": [f"{made}_2-sample.png", f"{made}_3-low-band-2.png", f"{made}_4-decoded-1.png"],
        "contact sheets": ["grid.png", "grid.webp"],
        "of other kinds": ["notes.txt", "b/Thumbs.db", "README"],
    }
    left_out: Counter[str] = Counter()
    labels = ["a.cls", "a.json", ".git/config"]  # of no interest to the reader of a count
    names = [*pictures, *labels, *(n for group in others.values() for n in group)]
    assert pick_pictures(names, left_out) == sorted(pictures)
    assert left_out == {reason: len(group) for reason, group in others.items()}
    assert left_out_text({"hidden": 4, "contact sheets": 2}) == "left out: 4 hidden, 2 contact sheets"
    assert left_out_text({}) == ""


def test_photos_of_iphones_are_counted_where_they_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    from nsbgan_infer.datasets import names

    left_out: Counter[str] = Counter()
    monkeypatch.setattr(names, "reads_heic", lambda: False)
    monkeypatch.setattr(names, "suffixes", lambda: (".png",))
    assert pick_pictures(["a.HEIC", "b.png"], left_out) == ["b.png"]
    assert left_out == {"HEIC (pip install 'nsbgan-infer[heic]' to read them)": 1}


@pytest.mark.parametrize(
    ("name", "key", "rest"),
    [
        ("000.png", "000", "png"),
        ("000.img.png", "000", "img.png"),
        ("a.b/000.cls", "a.b/000", "cls"),
        ("a/000.JSON", "a/000", "json"),
        ("a/none", "a/none", ""),
    ],
)
def test_webdatasets_key_ends_at_the_first_dot_of_the_name(name: str, key: str, rest: str) -> None:
    assert sample_key(name) == (key, rest)


@given(st.text("ab./", min_size=1), st.text("ab", max_size=3))
def test_a_key_and_its_rest_make_the_name(folder: str, last: str) -> None:
    name = f"{folder}/{last}.png"
    key, rest = sample_key(name)
    assert f"{key}.{rest}" == name


def test_a_class_is_read_from_cls_then_the_name_then_json() -> None:
    files = {
        "1.cls": b"7\n",
        "1.json": b'{"label": 8}',
        "n02099601/2.json": b'{"label": 3}',
        "3.json": b'{"class_id": 9, "labels": "imagenet"}',
        "4.json": b'{"class_id": 9, "labels": "numbers"}',
        "5.json": b'{"label": "n01440764"}',
        "6.json": b"[1, 2",
        "7.json": b'{"label": true, "class": 1000, "cls": "dog"}',
        "8.cls": b"n02099601",
    }
    names = ["1.img.png", "n02099601/2.png", "3.png", "4.png", "5.png", "6.png", "7.png", "8.png", "9.png"]
    found = read_classes(names, [*files, *names], lambda name: files[name], where="set")
    assert found == (7, 207, 9, None, 0, None, None, 207, None)


@pytest.mark.parametrize("bad", [b"1000", b"-1", b"dog", b"", b"\xff", "７".encode()])
def test_a_cls_file_without_a_class_is_refused(bad: bytes) -> None:
    with pytest.raises(UsageError, match=r"set cannot be used: 1\.cls holds no class id from 0 to 999"):
        read_classes(["1.png"], ["1.png", "1.cls"], lambda _: bad, where="set")


def test_a_name_may_tell_its_class_by_its_folder() -> None:
    assert class_of("a.png", "n02099601") == 207
    assert class_of("class3_seed0.png") is None  # the number of a sampler without ImageNet's classes
    assert class_of("seed0.png") is None

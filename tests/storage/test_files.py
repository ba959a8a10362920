"""Files are written whole or not at all, and names from files never leave their folder."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest
from hostile import TRAVERSAL
from hypothesis import given
from hypothesis import strategies as st

from nsbgan_infer.errors import CheckpointError, UsageError, WorkError
from nsbgan_infer.storage.files import (
    atomic_path,
    check_plain_name,
    read_json,
    sha256_of,
    writable_folder,
    write_bytes,
    write_json,
)


@pytest.mark.parametrize("name", [*TRAVERSAL, None, 3, ["x"], b"x", {"x": 1}])
def test_names_that_are_not_plain_are_refused(name: object) -> None:
    with pytest.raises(CheckpointError, match="not a plain file name"):
        check_plain_name(name, Path("model_index.json"))


@pytest.mark.parametrize(
    "name", ["sampler", "decoder-1", "model.safetensors", "a_b-c.d", "0", "x" * 128, "console", "nul1"]
)
def test_plain_names_pass(name: str) -> None:
    assert check_plain_name(name, Path("i.json")) == name


@given(st.text(max_size=20) | st.sampled_from(TRAVERSAL).flatmap(lambda t: st.text(max_size=3).map(lambda s: t + s)))
def test_an_accepted_name_is_a_direct_child(name: str) -> None:
    try:
        check_plain_name(name, Path("i.json"))
    except CheckpointError:
        return
    child = Path("/folder") / name
    assert child.parent == Path("/folder") and Path(os.path.normpath(child)) == child and child.name == name


def test_a_block_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "x.bin"
    write_bytes(file, b"old")
    with pytest.raises(RuntimeError, match="midway"), atomic_path(file) as part:
        part.write_bytes(b"half of the new")
        raise RuntimeError("midway")
    with pytest.raises(WorkError, match=r"Cannot write .*x\.bin: No space"), atomic_path(file) as part:
        part.write_bytes(b"half of the new")
        raise OSError(28, "No space left on device")
    with pytest.raises(KeyboardInterrupt), atomic_path(file) as part:
        raise KeyboardInterrupt
    assert file.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["x.bin"]


def test_ctrl_c_just_after_the_file_is_made_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, opened = [], Path.open

    def interrupted(self: Path, mode: str = "r") -> None:
        opened(self, mode).close()
        made.append(self)
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "open", interrupted)
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "x.bin"):
        pass
    assert len(made) == 1 and not list(tmp_path.iterdir())


def test_a_folder_that_is_none_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "file" / "x.bin", tmp_path / "missing" / "x.bin", tmp_path / ("n" * 300)):
        with pytest.raises(WorkError, match="Cannot write"):
            write_bytes(path, b"new")


def test_a_new_file_replaces_the_old_one_whole_and_takes_the_usual_mode(tmp_path: Path) -> None:
    file, usual = tmp_path / "x.bin", tmp_path / "usual"
    write_bytes(file, b"old")
    with file.open("rb") as reader:
        write_bytes(file, b"new")
        assert reader.read() == b"old"
    assert file.read_bytes() == b"new"
    with atomic_path(file) as part:
        part.chmod(0o600)
    usual.write_bytes(b"")
    assert stat.S_IMODE(file.stat().st_mode) == stat.S_IMODE(usual.stat().st_mode)


def test_writing_in_many_threads_leaves_the_umask_alone(tmp_path: Path) -> None:
    def write_twenty(i: int) -> None:
        for k in range(20):
            write_bytes(tmp_path / f"{i}-{k}", b"x")

    before = os.umask(0o027)
    try:
        threads = [threading.Thread(target=write_twenty, args=(i,)) for i in range(8)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert os.umask(0o027) == 0o027
    finally:
        os.umask(before)
    assert len(list(tmp_path.iterdir())) == 160


def test_a_folder_that_is_not_there_and_one_in_the_way(tmp_path: Path) -> None:
    with pytest.raises(WorkError, match="Cannot write"):
        write_bytes(tmp_path / "no" / "x", b"")
    (tmp_path / "folder").mkdir()
    with pytest.raises(WorkError, match="Cannot write"):
        write_bytes(tmp_path / "folder", b"")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_json_round_trip(tmp_path: Path) -> None:
    value = {"a": [1, 2.5, None], "ü": "é"}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json") == value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not valid JSON"),
        (b"{", "is not valid JSON"),
        (b"[1]", "should hold a JSON object, not a list"),
        (b"\xff\xfe", "is not valid JSON"),
        (b"[" * 100_000, "is not valid JSON"),
        (b'{"a": ' + b"1" * 5_000 + b"}", "is not valid JSON"),
        (b'{"a": "' + b"x" * (1 << 20) + b'"}', "is larger than 1048576 bytes"),
    ],
)
def test_json_that_cannot_be_used(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "x.json"
    file.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_json(file)


def test_json_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        read_json(tmp_path / "x.json")
    with pytest.raises(CheckpointError, match="Cannot read"):
        read_json(tmp_path)


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="there is no /dev/zero on this system")
def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(CheckpointError, match="larger than"):
        read_json(Path("/dev/zero"))


def test_checksum(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert sha256_of(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(CheckpointError, match="No such file"):
        sha256_of(tmp_path / "y")


def test_a_folder_that_cannot_be_written_is_a_usage_error(tmp_path: Path) -> None:
    assert writable_folder(tmp_path / "a" / "b").is_dir()
    assert list((tmp_path / "a" / "b").iterdir()) == []
    (tmp_path / "file").write_text("")
    for bad in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "nul\0byte", tmp_path / ("x" * 300)):
        with pytest.raises(UsageError, match="Cannot write to the picture folder"):
            writable_folder(bad, what="picture folder")


def test_written_json_ends_in_a_newline_and_is_readable_text(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", {"name": "née"})
    text = (tmp_path / "x.json").read_text(encoding="utf-8")
    assert text.endswith("}\n") and "née" in text and json.loads(text) == {"name": "née"}

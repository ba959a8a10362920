"""Bulk runs: plans, sinks, kill -9 at any line, failures, and memory."""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import signal
import tarfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import webdataset
from bulk import SIDE, child, make, measured_memory, picture, plan_of, tree
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from nsbgan_infer.bulk import run as runs
from nsbgan_infer.bulk import shard as shard_worker
from nsbgan_infer.bulk.plan import Plan
from nsbgan_infer.bulk.sinks import AppendedFile, Encoding, Line, SinkName
from nsbgan_infer.errors import NonFiniteError, UsageError, WorkError
from nsbgan_infer.images import read_recipe
from nsbgan_infer.pipeline import Output, Request

COVERS = ["bulk.journal", "bulk.plan", "bulk.shard", "bulk.sinks"]

SINKS: tuple[SinkName, ...] = ("folder", "tar", "npz")


def manifest(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]


# --- plans


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 20), st.integers(1, 5))
def test_shards_and_batches_cover_every_image_once(each: int, batch: int, shard: int, classes: int) -> None:
    plan = Plan(tuple(range(classes)), each * classes, SIDE, batch_size=batch, shard_size=shard)
    indices = [i for n in plan.shards for b in plan.batches(n) for i in b]
    assert indices == list(range(plan.count))
    requests = [plan.request(i) for i in indices]
    assert len(set(requests)) == plan.count
    assert all(len(b) <= batch for n in plan.shards for b in plan.batches(n))


def test_image_j_of_each_class_has_seed_s_plus_j() -> None:
    plan = plan_of(seed=50)
    assert [plan.request(i) for i in (0, 9, 10, 29)] == [
        Request(207, 50),
        Request(207, 59),
        Request(1, 50),
        Request(5, 59),
    ]


def test_uniform_draws_every_class_about_as_often_and_never_a_seed_twice() -> None:
    plan = Plan(tuple(range(10)), 20_000, SIDE, seed=3, uniform=True)
    requests = [plan.request(i) for i in range(plan.count)]
    counts = np.bincount([r.class_id for r in requests if r.class_id is not None], minlength=10)
    assert abs(counts - 2000).max() < 5 * 43  # 5 standard deviations of a binomial draw
    assert len({r.seed for r in requests}) == plan.count
    other = Plan(tuple(range(10)), 20_000, SIDE, seed=4, uniform=True)
    assert [other.request(i).class_id for i in range(50)] != [r.class_id for r in requests[:50]]


@pytest.mark.parametrize(
    "changes", [{"count": 0}, {"classes": ()}, {"count": 31}, {"batch_size": 0}, {"shard_size": 0}, {"seed": 2**32 - 5}]
)
def test_impossible_plans_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        plan_of(**changes)


# --- what the sinks hold


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("uniform", [False, True])
def test_every_line_of_the_manifest_finds_its_bytes(sink: SinkName, uniform: bool, tmp_path: Path) -> None:
    plan = plan_of(sink, uniform=uniform)
    runs.run(plan, tmp_path, make)
    lines = manifest(tmp_path)
    assert [row["index"] for row in lines] == list(range(30))
    for row in lines:
        with (tmp_path / row["file"]).open("rb") as file:
            file.seek(row["offset"])
            data = file.read(row["size"])
        assert hashlib.sha256(data).hexdigest() == row["sha256"]
        request = plan.request(row["index"])
        assert (row["class"], row["seed"]) == (request.class_id, request.seed)
        pixels = np.frombuffer(data, np.uint8) if sink == "npz" else np.asarray(Image.open(io.BytesIO(data)))
        batch = len(next(b for n in plan.shards for b in plan.batches(n) if row["index"] in b))
        expected = (picture(request, batch) * 255).round().byte().permute(1, 2, 0).numpy()
        assert np.array_equal(pixels.reshape(SIDE, SIDE, 3), expected)
    assert not (tmp_path / ".nsbgan").exists()


def test_folder_has_sub_folders_of_a_thousand_and_recipes(tmp_path: Path) -> None:
    runs.run(plan_of(count=1002, batch_size=100, shard_size=500), tmp_path, make)
    assert len(list((tmp_path / "00000").iterdir())) == 1000
    assert len(list((tmp_path / "00001").iterdir())) == 2
    recipe = read_recipe(tmp_path / "00000" / "207_golden-retriever_seed3.png")
    assert (recipe.class_id, recipe.seed) == (207, 3)


def test_recipes_can_be_left_out(tmp_path: Path) -> None:
    runs.run(plan_of("tar", encoding=Encoding("tar", "webp", recipe=False)), tmp_path, make)
    with tarfile.open(tmp_path / "shard-00000.tar") as tar:
        assert tar.getnames()[:2] == ["000000000.cls", "000000000.webp"]
        data = tar.extractfile("000000000.webp")
        assert data is not None
        assert not Image.open(data).getexif()


def test_webdataset_reads_the_tar_shards(tmp_path: Path) -> None:
    plan = plan_of("tar")
    runs.run(plan, tmp_path, make)
    shards = sorted(str(p) for p in tmp_path.glob("*.tar"))
    assert len(shards) == 3
    rows = list(webdataset.WebDataset(shards, shardshuffle=False, empty_check=False).decode("rgb8"))
    assert [int(r["cls"]) for r in rows] == [plan.request(i).class_id for i in range(30)]
    assert [r["json"]["seed"] for r in rows] == [plan.request(i).seed for i in range(30)]
    assert rows[0]["png"].shape == (SIDE, SIDE, 3)


def test_npz_holds_arr_0_and_arr_1(tmp_path: Path) -> None:
    plan = plan_of("npz")
    runs.run(plan, tmp_path, make)
    with np.load(tmp_path / "images.npz") as data:
        assert data["arr_0"].shape == (30, SIDE, SIDE, 3)
        assert data["arr_0"].dtype == np.uint8
        assert data["arr_1"].tolist() == [plan.request(i).class_id for i in range(30)]


@pytest.mark.parametrize("sink", SINKS)
def test_unconditional_samplers_have_no_classes(sink: SinkName, tmp_path: Path) -> None:
    runs.run(plan_of(sink, classes=(None,)), tmp_path, make)
    assert [row["class"] for row in manifest(tmp_path)] == [None] * 30
    if sink == "npz":
        assert np.load(tmp_path / "images.npz").files == ["arr_0"]
    if sink == "folder":
        assert (tmp_path / "00000" / "seed29.png").exists()


# --- killed and resumed


@pytest.mark.parametrize("sink", SINKS)
def test_kill_at_random_moments_and_resume_ends_byte_identical(sink: SinkName, tmp_path: Path) -> None:
    plan = plan_of(sink)
    runs.run(plan, tmp_path / "whole", make)
    whole = tree(tmp_path / "whole")
    random_line = random.Random(f"{sink} 20 moments")
    killed = 0
    for moment in range(20):
        folder = tmp_path / str(moment)
        for _again in range(random_line.choice((1, 1, 1, 3))):  # some runs are killed three times
            if child(random_line.randint(1, 1800), plan, folder) == -signal.SIGKILL:
                killed += 1
        assert child(0, plan, folder) == 0
        assert tree(folder) == whole
    assert killed >= 20


@pytest.mark.parametrize("sink", SINKS)
def test_a_torn_journal_line_is_dropped(sink: SinkName, tmp_path: Path) -> None:
    plan = plan_of(sink)
    runs.run(plan, tmp_path / "whole", make)
    broken = tmp_path / "broken"
    assert not runs.prepare(plan, broken, resume=False)
    runs.run_shard(plan, broken, 0, make)
    journal = broken / ".nsbgan" / "00000.jsonl"
    journal.rename(journal.with_name("00000.jsonl.part")).open("a").write('{"index": 11, "cla')
    runs.run(plan, broken, make, resume=True)
    assert tree(broken) == tree(tmp_path / "whole")


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("damage", ["truncate", "delete"])
def test_files_that_were_lost_are_made_again(sink: SinkName, damage: str, tmp_path: Path) -> None:
    plan = plan_of(sink)
    runs.run(plan, tmp_path / "whole", make)
    broken = tmp_path / "broken"
    runs.prepare(plan, broken, resume=False)
    for number in (0, 1):
        runs.run_shard(plan, broken, number, make)
    lost = {
        "folder": broken / "00000" / "207_golden-retriever_seed1.png",
        "tar": broken / "shard-00000.tar",
        "npz": broken / ".nsbgan" / "rows-00000.part",
    }[sink]
    if damage == "delete":
        lost.unlink()
    else:
        os.truncate(lost, 100)
    runs.run(plan, broken, make, resume=True)
    assert tree(broken) == tree(tmp_path / "whole")


def test_a_changed_image_is_noticed_in_a_shard_that_is_not_finished(tmp_path: Path) -> None:
    plan = plan_of()
    runs.run(plan, tmp_path / "whole", make)
    broken = tmp_path / "broken"
    runs.prepare(plan, broken, resume=False)
    runs.run_shard(plan, broken, 0, make)
    journal = broken / ".nsbgan" / "00000.jsonl"
    journal.rename(journal.with_name("00000.jsonl.part"))
    file = broken / "00000" / "207_golden-retriever_seed1.png"
    file.write_bytes(bytes(file.stat().st_size))
    runs.run(plan, broken, make, resume=True)
    assert tree(broken) == tree(tmp_path / "whole")


def test_resuming_a_finished_run_makes_nothing(tmp_path: Path) -> None:
    runs.run(plan_of(), tmp_path, make)
    before = tree(tmp_path)

    def refuse(requests: Sequence[Request]) -> Output:
        raise AssertionError("nothing should be made")

    runs.run(plan_of(), tmp_path, refuse, resume=True)
    assert tree(tmp_path) == before
    assert runs.done(plan_of(), tmp_path) == 30


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"seed": 1}, "seed"),
        ({"count": 60}, "count"),
        ({"classes": (207, 1, 6)}, "classes"),
        ({"batch_size": 5}, "batch_size"),
        ({"encoding": Encoding("folder", "webp")}, "fmt"),
        ({"settings": {"truncation": 0.4}}, "truncation"),
    ],
)
def test_resuming_with_other_parameters_is_refused(changes: dict[str, Any], word: str, tmp_path: Path) -> None:
    runs.prepare(plan_of(settings={"truncation": 0.5}), tmp_path, resume=False)
    with pytest.raises(UsageError, match=f"with {word} "):
        runs.run(plan_of(**{"settings": {"truncation": 0.5}, **changes}), tmp_path, make, resume=True)


def test_a_second_run_without_resume_is_refused(tmp_path: Path) -> None:
    runs.run(plan_of(), tmp_path, make)
    with pytest.raises(UsageError, match="--resume"):
        runs.run(plan_of(), tmp_path, make)


def test_two_runs_of_one_folder_at_a_time_are_refused(tmp_path: Path) -> None:
    with runs.sole_run(tmp_path), pytest.raises(UsageError, match="Another process"):
        runs.run(plan_of(), tmp_path, make)
    assert not any(tmp_path.iterdir())
    runs.run(plan_of(), tmp_path, make)
    assert len(manifest(tmp_path)) == plan_of().count
    assert not (tmp_path / runs.LOCK).exists()


# --- failures


def test_an_unwritable_folder_is_refused_before_work(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(UsageError, match="Cannot write"):
        runs.run(plan_of(), tmp_path / "file" / "out", make)


@pytest.mark.parametrize("sink", SINKS)
@pytest.mark.parametrize("error", [ValueError("no such thing"), NonFiniteError("NaN.")])
def test_one_failing_image_harms_no_other(sink: SinkName, error: Exception, tmp_path: Path) -> None:
    plan, bad = plan_of(sink), Request(1, 3)

    def failing(requests: Sequence[Request]) -> Output:
        if bad in requests:
            raise error
        return make(requests)

    with pytest.raises(
        WorkError, match=r"1 of 30 images could not be made, first image 13 \(class 1, seed 3\)"
    ) as info:
        runs.run(plan, tmp_path, failing)
    assert info.value.exit_code == 1
    assert "\n" not in str(info.value)
    assert runs.done(plan, tmp_path) == 29
    runs.run(plan, tmp_path, make, resume=True)
    assert [row["index"] for row in manifest(tmp_path)] == list(range(30))


def test_nan_in_a_picture_is_a_failing_image(tmp_path: Path) -> None:
    def nan(requests: Sequence[Request]) -> Output:
        output = make(requests)
        for k, request in enumerate(requests):
            if request == Request(5, 9):
                output.tensors[k, 0, 0, 0] = float("nan")
        return output

    with pytest.raises(WorkError, match="NaN"):
        runs.run(plan_of(), tmp_path, nan)
    assert runs.done(plan_of(), tmp_path) == 29


def test_a_run_that_fails_image_after_image_stops(tmp_path: Path) -> None:
    asked: list[Request] = []

    def broken(requests: Sequence[Request]) -> Output:
        asked.extend(requests)
        raise RuntimeError("out of memory")

    with pytest.raises(WorkError, match="3 images in a row failed"):
        runs.run(plan_of(batch_size=1), tmp_path, broken)
    assert len(asked) == 3


@pytest.mark.parametrize("sink", SINKS)
def test_a_full_disk_ends_in_one_sentence(sink: SinkName, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, whole = plan_of(sink), tmp_path / "whole"
    runs.run(plan, whole, make)
    room = [17]

    def full(*_args: object) -> Any:
        room[0] -= 1
        if room[0] < 0:
            raise OSError(28, "No space left on device")
        return original(*_args)

    place: Any = Path if sink == "folder" else AppendedFile
    name = "write_bytes" if sink == "folder" else "append"
    original = getattr(place, name)
    monkeypatch.setattr(place, name, full)
    with pytest.raises(WorkError, match="No space left on device") as info:
        runs.run(plan, tmp_path / "run", make)
    assert info.value.exit_code == 1
    monkeypatch.undo()
    assert 0 < runs.done(plan, tmp_path / "run") < 30
    runs.run(plan, tmp_path / "run", make, resume=True)
    assert tree(tmp_path / "run") == tree(whole)


def test_an_append_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    out = AppendedFile(tmp_path / "x", 0)
    out.append(b"whole")

    class Half:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, data: memoryview) -> int:
            if len(data) < 4:
                raise OSError(28, "No space left on device")
            return int(self.file.write(data[:2]))

    real, out.file = out.file, Half(out.file)  # type: ignore[assignment]
    with pytest.raises(OSError, match="space"):
        out.append(b"halves")
    real.close()
    assert (tmp_path / "x").read_bytes() == b"whole"


@pytest.mark.parametrize("file", ["../x.png", "/etc/passwd", "a/../../b", ".hidden"])
def test_a_journal_that_leaves_the_folder_is_not_believed(file: str) -> None:
    text = Line(0, 1, 2, "00000/a.png", 0, 1, "0").to_json().replace("00000/a.png", file)
    with pytest.raises(ValueError, match="not a file"):
        Line.from_json(text)


# --- progress and memory


def test_progress_counts_written_images_and_goes_on_after_a_resume(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    plan = plan_of()
    runs.prepare(plan, tmp_path, resume=False)
    runs.run_shard(plan, tmp_path, 0, make)
    runs.run(plan, tmp_path, make, resume=True, progress=lambda done, total: seen.append((done, total)))
    counts = [d for d, _ in seen]
    assert counts[0] == 12
    assert counts[-1] == 30
    assert counts == sorted(counts)


def test_few_batches_wait_for_the_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, gate = [0], threading.Event()
    original = shard_worker.ShardWorker._write

    def slow(self: Any, images: Any) -> int:
        gate.wait(10)
        return original(self, images)

    def counting(requests: Sequence[Request]) -> Output:
        made[0] += 1
        if made[0] > shard_worker.QUEUE + 1:
            gate.set()  # only reached if the queue has no bound, or after the writer went on
        return make(requests)

    monkeypatch.setattr(shard_worker.ShardWorker, "_write", slow)
    thread = threading.Thread(target=runs.run, args=(plan_of(batch_size=1), tmp_path, counting))
    thread.start()
    thread.join(0.3)
    assert made[0] <= shard_worker.QUEUE
    gate.set()
    thread.join()
    assert len(manifest(tmp_path)) == 30


def test_memory_stays_flat_over_ten_thousand_images(tmp_path: Path) -> None:
    early, late = measured_memory(tmp_path)
    assert late - early < 8  # MiB; the pixels alone are 1.9 MB, their lines 2 MB

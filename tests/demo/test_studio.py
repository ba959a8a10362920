"""What the web page does, without a browser: files with recipes, suggestions, stages, walks."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from tiny_studio import TinyStudio

from nsbgan_infer.demo.studio import MOST_IMAGES, Clock, Studio
from nsbgan_infer.errors import UnknownNameError, UsageError
from nsbgan_infer.images import read_recipe


@pytest.fixture
def studio(tmp_path: Path) -> Studio:
    return TinyStudio(tmp_path)


def test_generate_streams_files_with_recipes(studio: Studio) -> None:
    steps = list(studio.generate("embedded", ["golden retriever", "goldfish"], seed=3, count=2, truncation=0.5))
    assert [len(s.files) for s in steps] == [1, 2, 3, 4]
    assert all(s.total == 4 for s in steps)
    names = [Path(f).name for f in steps[-1].files]
    assert names[:2] == ["207_golden-retriever_seed3.png", "207_golden-retriever_seed4.png"]
    assert read_recipe(Path(steps[-1].files[3])).class_id == 1
    assert "sample" in steps[-1].report and "an image" in steps[-1].report


def test_two_calls_never_share_a_folder(studio: Studio) -> None:
    one = list(studio.generate("embedded", ["207"], seed=0, count=1, truncation=0.5))[-1].files[0]
    two = list(studio.generate("embedded", ["207"], seed=0, count=1, truncation=0.5))[-1].files[0]
    assert Path(one).parent != Path(two).parent
    assert Path(one).read_bytes() == Path(two).read_bytes()


def test_errors_are_sentences(studio: Studio) -> None:
    with pytest.raises(UnknownNameError, match="did you mean golden retriever"):
        list(studio.generate("embedded", ["golden retreiver"], seed=0, count=1, truncation=0.5))
    with pytest.raises(UsageError, match=f"at most {MOST_IMAGES}"):
        list(studio.generate("embedded", ["207"], seed=0, count=MOST_IMAGES + 1, truncation=0.5))
    with pytest.raises(UnknownNameError):
        studio.thumbnails("embedded", "zzzz")
    with pytest.raises(UsageError, match="up to 4 million"):
        studio.enlarge(Image.new("RGB", (3000, 3000)))


def test_thumbnails_are_the_classes_that_match(studio: Studio) -> None:
    found = studio.thumbnails("embedded", "")
    assert [caption.split()[0] for _, caption in found] == ["1", "207", "217", "933"]
    assert studio.thumbnails("embedded", "golden retriever")[0][0].size == (128, 128)


def test_enlarge_gives_before_and_after_of_one_size(studio: Studio) -> None:
    before, after, report = studio.enlarge(Image.new("L", (20, 12), 128), "iwt")
    assert before.size == after.size == (80, 48)
    assert after.getpixel((40, 24)) == (128, 128, 128)
    assert "20 x 12 -> 80 x 48 with iwt" in report


def test_stages_show_every_step_and_two_decoders(studio: Studio) -> None:
    shown, left, right = studio.stages("embedded", "207", seed=0, truncation=0.5, decoders=("", "iwt"))
    captions = [caption for _, caption in shown]
    assert captions[:4] == ["sample (16)", "decoded 1 (64)", "low band 2 (32)", "decoded 2 (128)"]
    assert len(captions) == 7
    assert left.size == right.size == (128, 128)
    assert left.tobytes() != right.tobytes()


def test_walk_writes_an_animation_there_and_back(studio: Studio) -> None:
    steps = list(studio.walk("embedded", ("207", 0), ("217", 1), steps=4, truncation=0.5))
    assert [done for done, _ in steps] == [1, 2, 3, 4, 4]
    assert steps[-1][1] is not None
    with Image.open(steps[-1][1]) as film:
        assert film.n_frames == 6


def test_the_clock_adds_up_by_name() -> None:
    times = iter([0.0, 1.0, 3.0, 4.0])
    clock = Clock(lambda: next(times))
    clock.step("sample", 1, 2)
    clock.step("decoded 1", 1, 2)
    clock.step("sample", 2, 2)
    assert clock.report(2) == "sample 1.000 s, decoded 1 1.000 s; 2.00 s an image"

"""What the web page does, without a browser: files with recipes, suggestions, stages, walks."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image
from tiny import TinyClassifier
from tiny_studio import TinyStudio

from nsbgan_infer.errors import ImageFileError, UnknownNameError, UsageError
from nsbgan_infer.images import read_recipe
from nsbgan_infer.registry import load_decoder
from nsbgan_infer.serving import actions as module
from nsbgan_infer.serving.actions import MOST_IMAGES, Studio
from nsbgan_infer.serving.choices import MOST, decoders, presets, typed
from nsbgan_infer.serving.clock import Clock

COVERS = ["serving.choices", "serving.clock"]


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


def test_rejection_says_what_was_tried(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "load_classifier", lambda _name: TinyClassifier())
    steps = list(studio.generate("embedded", ["207", "1"], seed=0, count=2, truncation=1.0, threshold=0.3))
    assert len(steps) == len(steps[-1].files) == 4
    recipes = [read_recipe(Path(f)) for f in steps[-1].files]
    for recipe, caption in zip(recipes, steps[-1].captions, strict=True):
        assert recipe.rejection is not None and recipe.rejection["classifier"] == "tiny-judge"
        assert f": {recipe.rejection['score']:.2f}, " in caption
        assert ("not accepted, the best of 20" in caption) != recipe.rejection["accepted"]
        assert recipe.rejection["accepted"] == (recipe.rejection["score"] >= 0.3)
    accepted = sum(r.rejection["accepted"] for r in recipes if r.rejection)
    assert f"accepted {accepted} of " in steps[-1].report and "judge" in steps[-1].report


def test_progress_names_the_steps(studio: Studio) -> None:
    seen: list[tuple[str, int, int]] = []
    list(studio.generate("embedded", ["207"], seed=0, count=2, truncation=0.5, progress=lambda *a: seen.append(a)))
    assert seen[:2] == [("sample", 0, 2), ("decoded 1", 0, 2)] and seen[-1] == ("decoded 2", 1, 2)


def test_errors_are_sentences(studio: Studio, tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="did you mean golden retriever"):
        list(studio.generate("embedded", ["golden retreiver"], seed=0, count=1, truncation=0.5))
    with pytest.raises(UsageError, match=f"at most {MOST_IMAGES}"):
        list(studio.generate("embedded", ["207"], seed=0, count=MOST_IMAGES + 1, truncation=0.5))
    with pytest.raises(UnknownNameError):
        studio.thumbnails("embedded", "zzzz")
    with pytest.raises(UsageError, match="None of the classes of this preset matches 'tabby'"):
        studio.thumbnails("embedded", "tabby")
    with pytest.raises(UsageError, match="cannot draw class 281"):
        list(studio.walk("embedded", ("207", 0), ("tabby", 1), steps=4, truncation=0.5))
    Image.new("RGB", (2000, 1000)).save(tmp_path / "large.png")
    with pytest.raises(ImageFileError, match="2000 x 1000"):
        studio.enlarge(tmp_path / "large.png")


def test_thumbnails_are_the_classes_that_match(studio: Studio) -> None:
    found = studio.thumbnails("embedded", "")
    assert [caption for _, caption in found] == [
        "1 goldfish",
        "207 golden retriever",
        "217 English springer",
        "933 cheeseburger",
    ]
    assert len({picture.tobytes() for picture, _ in found}) == 4
    assert [caption for _, caption in studio.thumbnails("embedded", "gold")] == ["1 goldfish", "207 golden retriever"]


def test_classes_that_the_embedded_sampler_lacks_have_a_grey_tile(studio: Studio) -> None:
    found = {
        caption: picture for picture, caption in studio.thumbnails("pretrained-256-128", "gold")
    }  # nothing is fetched
    assert len(found) > 3 and len(studio.thumbnails("pretrained-256-128", "")) == MOST
    grey = {name for name, picture in found.items() if picture.getextrema() == ((224, 224),) * 3}
    assert found.keys() - grey == {"1 goldfish", "207 golden retriever"}


def test_what_is_offered_can_be_used() -> None:
    assert {"embedded", "pretrained-256-128"} <= set(presets()) and "learned-w-64" not in presets()
    assert {"iwt", "bicubic", "subband-w"} <= set(decoders())
    for name in decoders():
        assert load_decoder(name).info.name == name


def test_a_click_on_a_class_types_its_name_or_its_id() -> None:
    assert typed("207 golden retriever") == "golden retriever"
    assert typed("134 crane") == "134"  # a bird and a machine


def test_enlarge_gives_before_and_after_of_one_size_and_a_file(studio: Studio, tmp_path: Path) -> None:
    Image.new("L", (20, 12), 128).save(tmp_path / "photo.png")
    before, after, file, report = studio.enlarge(tmp_path / "photo.png", "iwt")
    assert before.size == after.size == (80, 48)
    assert before.getpixel((40, 24)) == after.getpixel((40, 24)) == (128, 128, 128)
    assert "20 x 12 -> 80 x 48 with iwt" in report
    with Image.open(file) as saved:
        assert (saved.size, saved.mode, Path(file).name) == ((80, 48), "L", "photo_x4.png")


def test_a_photo_on_the_page_is_treated_as_by_the_command(studio: Studio, tmp_path: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Phone"
    Image.new("RGB", (20, 12)).save(tmp_path / "phone.jpg", icc_profile=profile, exif=exif, dpi=(72, 72))
    with Image.open(studio.enlarge(tmp_path / "phone.jpg", "iwt").file) as saved:
        assert saved.size == (48, 80) and saved.info["icc_profile"] == profile
        assert saved.getexif()[0x010F] == "Phone" and saved.info["dpi"][0] == pytest.approx(288, abs=0.1)
    Image.new("RGB", (20, 12)).save(tmp_path / "x.avif")
    assert studio.enlarge(tmp_path / "x.avif", "iwt").after.size == (80, 48)
    Image.new("RGB", (20, 12)).save(tmp_path / "eps.jpg", "EPS")
    with pytest.raises(ImageFileError, match=r"eps\.jpg is not an image that can be read"):
        studio.enlarge(tmp_path / "eps.jpg", "iwt")


def test_enlarging_tells_its_tiles_and_writes_nothing_when_cancelled(studio: Studio, tmp_path: Path) -> None:
    Image.new("RGB", (600, 300)).save(tmp_path / "wide.png")
    before = set(studio.folder.rglob("*"))
    steps = studio.enlarge_in_steps(tmp_path / "wide.png", "iwt")
    done, total = next(steps)
    assert done == 1 and total == 6
    steps.close()
    assert set(studio.folder.rglob("*")) == before


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
        assert getattr(film, "n_frames", 1) == 6 and film.size == (128, 128)  # the largest, where none reaches 256


def test_the_clock_adds_up_by_name() -> None:
    times = iter([0.0, 1.0, 3.0, 4.0])
    clock = Clock(lambda: next(times))
    clock.step("sample", 1, 2)
    clock.step("decoded 1", 1, 2)
    clock.step("sample", 2, 2)
    assert clock.report(2) == "sample 1.000 s, decoded 1 1.000 s; 2.00 s an image"


def test_closing_removes_what_was_made(studio: Studio) -> None:
    made = list(studio.generate("embedded", ["207"], seed=0, count=1, truncation=0.5))[-1].files[0]
    studio.close()
    assert not Path(made).exists() and not studio.folder.exists()

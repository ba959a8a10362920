"""What the web page does, without a browser: files with recipes, suggestions, stages, walks."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image
from tiny import TinyClassifier
from tiny_studio import TinyStudio

from nsbgan_infer.errors import WorkError
from nsbgan_infer.images import read_recipe
from nsbgan_infer.pipeline import Drawing, NsbPipeline
from nsbgan_infer.registry import BUILT_IN, Entry, entries
from nsbgan_infer.serving import actions as module
from nsbgan_infer.serving import choices
from nsbgan_infer.serving.actions import Studio, draw_near, nth_near
from nsbgan_infer.serving.choices import MOST, decoders, find_tiles, presets, to_fetch, upscalers
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
    for recipe, caption in zip(recipes, [c.note for c in steps[-1].cards], strict=True):
        assert recipe.rejection is not None and recipe.rejection["classifier"] == "tiny-judge"
        assert caption.startswith(f"{recipe.rejection['score']:.2f}, ")
        assert ("not accepted, the best of 20" in caption) != recipe.rejection["accepted"]
        assert recipe.rejection["accepted"] == (recipe.rejection["score"] >= 0.3)
    accepted = sum(r.rejection["accepted"] for r in recipes if r.rejection)
    assert f"accepted {accepted} of " in steps[-1].report and "judge" in steps[-1].report


def test_progress_names_the_steps(studio: Studio) -> None:
    seen: list[tuple[str, int, int]] = []
    list(studio.generate("embedded", ["207"], seed=0, count=2, truncation=0.5, progress=lambda *a: seen.append(a)))
    assert seen[:2] == [("sample", 0, 2), ("decoded 1", 0, 2)] and seen[-1] == ("decoded 2", 1, 2)


def test_classes_have_a_small_picture_that_is_made_once(studio: Studio) -> None:
    paths = [studio.thumb(i) for i in (1, 207)]
    assert studio.known == (1, 207, 217, 933) and studio.thumb(281) is None
    pictures = []
    for path in paths:
        assert path is not None
        with Image.open(path) as picture:
            assert picture.size == (96, 96)
            pictures.append(picture.convert("RGB").tobytes())
    assert pictures[0] != pictures[1]
    before = paths[0] and paths[0].stat().st_mtime_ns
    assert studio.thumb(1) == paths[0] and paths[0] and paths[0].stat().st_mtime_ns == before


def test_all_small_pictures_are_drawn_ahead_until_the_studio_closes(studio: Studio) -> None:
    studio.draw_thumbs()
    assert sorted(p.name for p in (studio.folder / "thumbs").iterdir()) == [
        "1.webp",
        "207.webp",
        "217.webp",
        "933.webp",
    ]
    studio.close()
    studio.draw_thumbs()
    assert studio.thumb(1) is None and not studio.folder.exists()


def test_drawing_ahead_ends_quietly_where_nothing_can_be_kept(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise WorkError("Cannot write 1.webp: No space left on device.")

    monkeypatch.setattr("nsbgan_infer.serving.actions.save_image", full)
    studio.draw_thumbs()
    with pytest.raises(WorkError, match="No space left"):
        studio.thumb(1)


def test_tiles_are_the_classes_that_match_and_can_be_drawn(studio: Studio) -> None:
    def tiles(text: str, available: tuple[int, ...] | None = (1, 207, 217, 933)) -> tuple[list[int], int, list[int]]:
        found, more, picked = find_tiles(text, available)
        return [c.id for c in found], more, picked

    assert tiles("") == ([1, 207, 217, 933], 0, [])
    assert tiles("dog") == ([207, 217], 0, [])
    assert tiles("golden retriever") == ([1, 207, 217, 933], 0, [207])  # all, with the one that is meant marked
    assert tiles("goldfish; spri") == ([217], 0, [1]) and tiles("tabby")[2] == []
    assert tiles("zzzz") == ([], 0, []) and tiles("x", None) == ([], 0, [])
    found, more, picked = tiles("church", tuple(range(1000)))
    assert (found[0], len(found), more, picked) == (497, MOST, 1000 - MOST, [497])


def test_what_is_offered_can_be_used_and_fits() -> None:
    assert {"embedded", "pretrained-256-128"} <= set(presets()) and "learned-w-64" not in presets()
    assert {"iwt", "subband-w"} <= set(decoders("embedded")) and "esrgan-p" not in decoders("embedded")
    assert "esrgan-p" in decoders("embedded-p") and "iwt" not in decoders("embedded-p")
    assert decoders("biggan-512") == {}  # nothing is decoded there
    for name in decoders("embedded"):
        assert NsbPipeline.from_pretrained("embedded", decoder=name).resolutions[-1] >= 256
    assert {"photo", "iwt", "bicubic", "subband-w"} <= set(upscalers())


def test_a_broken_plug_in_is_not_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Entry("broken", "decoder", "from nowhere", "plug-in", "no_such_module:make")
    monkeypatch.setattr(choices, "entries", lambda kind: {**entries(kind), "broken": broken})
    monkeypatch.setattr(
        "nsbgan_infer.registry.BUILT_IN", {**BUILT_IN, "decoder": BUILT_IN["decoder"] | {"broken": broken}}
    )
    decoders.cache_clear()
    upscalers.cache_clear()
    try:
        assert "broken" not in decoders("embedded") and "broken" not in upscalers()
    finally:
        decoders.cache_clear()
        upscalers.cache_clear()


def test_a_preset_to_be_fetched_says_its_size() -> None:
    assert to_fetch("embedded") is None and "fetches" not in presets()["embedded"]
    assert to_fetch("pretrained-256-128") == "234 MB"
    assert presets()["pretrained-256-128"].endswith("(fetches 234 MB once)")


def test_pictures_like_one_are_near_it_and_made_again_from_their_recipe(studio: Studio) -> None:
    pipeline = studio.pipeline("embedded")
    (base,) = pipeline.requests("207", seeds=3)
    here = pipeline.latents([base], Drawing(0.5))
    near = draw_near(pipeline, [base], 3, "7", 0.5)
    away = [float((z - here.z[0]).norm()) for z in near.z]
    assert len(near) == 3 and all(0 < d < float(here.z.norm()) for d in away) and len(set(away)) == 3
    # the third of them, and the one like the second, by their ways
    assert torch.equal(near.z[2], draw_near(pipeline, [base], 1, nth_near("7", 2), 0.5).z[0])
    assert nth_near("7.4", 2) == "7.6" and nth_near("", 2) == ""
    assert not torch.equal(draw_near(pipeline, [base], 1, "8.1", 0.5).z[0], near.z[1])
    made = list(studio.generate("embedded", ["207"], seed=3, count=2, truncation=0.5, like="7"))[-1]
    assert [Path(f).name for f in made.files] == [
        "207_golden-retriever_seed3_like7.png",
        "207_golden-retriever_seed3_like8.png",
    ]
    assert [c.like for c in made.cards] == ["7", "8"] and made.cards[0].note == "variation 7"
    assert read_recipe(Path(made.files[0])).latents is not None


def test_all_pictures_go_into_one_file(studio: Studio) -> None:
    made = list(studio.generate("embedded", ["207"], seed=0, count=2, truncation=0.5))[-1]
    url = studio.archive(made.files)
    with zipfile.ZipFile(studio.made / url.removeprefix("made/")) as together:
        assert together.namelist() == [Path(f).name for f in made.files]
        assert together.read(together.namelist()[0]) == Path(made.files[0]).read_bytes()


def test_folders_of_yesterday_go(studio: Studio) -> None:
    old = studio.new_folder()
    os.utime(old, (0, 0))
    assert studio.new_folder().exists() and not old.exists()


def test_stages_show_every_step_and_two_decoders(studio: Studio) -> None:
    shown, left, right = studio.stages("embedded", "207", seed=0, truncation=0.5, decoders=("", "iwt"))
    captions = [caption for _, caption in shown]
    assert captions[:4] == ["sample (16)", "decoded 1 (64)", "low band 2 (32)", "decoded 2 (128)"]
    assert len(captions) == 7
    assert left.size == right.size == (128, 128)
    assert left.tobytes() != right.tobytes()


def test_walk_writes_an_animation_there_and_back_with_its_recipe(studio: Studio) -> None:
    steps = list(studio.walk("embedded", ("207", 0), ("217", 1), steps=4, truncation=0.5))
    assert [done for done, _ in steps] == [1, 2, 3, 4, 4]
    made = steps[-1][1]
    assert made is not None and made.side == 128  # the largest, where none reaches 512
    with Image.open(made.file) as film:
        assert getattr(film, "n_frames", 1) == 6 and film.size == (128, 128)
        key, _, told = film.getexif()[0x010E].partition(":")
    assert key == "nsbgan-walk" and json.loads(told) == json.loads(json.dumps(made.recipe, default=str))
    assert made.recipe["to"] == {"class": "217", "seed": 1} and made.recipe["frames"] == 4


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

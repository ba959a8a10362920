"""A photo on the page is found among the pictures of a sampler, and what was found is drawn otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from photo_file import photo
from PIL import Image
from tiny import TinyClassifier
from tiny_studio import TinyStudio
from tiny_trunk import use_tiny_trunks

from nsbgan_infer import load_latents
from nsbgan_infer.images import read_recipe
from nsbgan_infer.inversion import Distances, Inversion
from nsbgan_infer.inversion import run as inversion_run
from nsbgan_infer.serving import inverting
from nsbgan_infer.serving.actions import Studio
from nsbgan_infer.serving.inverting import Found, find_photo, look_at, seconds_left
from nsbgan_infer.serving.problems import PageError


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    use_tiny_trunks(monkeypatch)
    monkeypatch.setattr(inversion_run, "load_classifier", lambda _name: TinyClassifier())
    return TinyStudio(tmp_path / "studio")


def find(studio: Studio, file: Path, *, class_id: int | None = 207, steps: int = 4) -> Found:
    work = find_photo(studio, file, "embedded", class_id=class_id, steps=steps, freedom="pixels")
    told = []
    while True:
        try:
            told.append(next(work))
        except StopIteration as finished:
            assert told == [i + 1 for i in range(steps)]
            found: Found = finished.value
            return found


def snap(tmp_path: Path) -> Path:
    photo(tmp_path / "my dog.png", 150, 140)
    return tmp_path / "my dog.png"


def test_a_photo_comes_back_as_a_picture_latents_and_a_comparison(studio: Studio, tmp_path: Path) -> None:
    found = find(studio, snap(tmp_path))
    assert (found.stem, found.preset) == ("my dog", "embedded")
    assert (Path(found.picture).name, Path(found.file).name) == ("my dog_inverted.png", "my dog.safetensors")
    recipe = read_recipe(Path(found.picture))
    assert recipe.class_id == 207 and recipe.latents is not None
    latents, origin = load_latents(Path(found.file))
    assert latents.z.equal(found.latents.z) and origin.sampler == "tiny"
    assert [s["label"] for s in found.compared["sides"]] == ["your photo", "what came back"]
    for side in found.compared["sides"]:
        with Image.open(studio.folder / side["url"] / "whole.png") as shown:
            assert shown.size == (128, 128)
    assert found.report.startswith("In 4 steps the likeness to your photo went from ")
    assert found.report.endswith("Drawn as golden retriever.")


def test_without_a_class_a_classifier_says_and_without_steps_the_first_guess_stays(
    studio: Studio, tmp_path: Path
) -> None:
    found = find(studio, snap(tmp_path), class_id=None, steps=0)
    assert found.report.startswith("Your photo and the first guess are ") and "Drawn as " in found.report


def test_a_doubtful_class_is_said_to_be_so() -> None:
    def told(class_id: int | None, certainty: float | None) -> str:
        far, none = Distances(20.0, 3.0), cast(Any, None)
        return inverting.class_text(Inversion(none, none, class_id, certainty, None, far, far, none, none), 20)

    doubtful = told(207, 0.3)
    assert doubtful.startswith("Drawn as golden retriever, the likeliest of 20 classes, but only at 30%: if you know")
    assert told(207, 0.9) == "Drawn as golden retriever, which a classifier took it for (90% sure)."
    assert told(None, None) == ""


def test_a_search_that_is_stopped_writes_nothing(studio: Studio, tmp_path: Path) -> None:
    file = snap(tmp_path)
    work = find_photo(studio, file, "embedded", class_id=207, steps=10, freedom="pixels")
    assert next(work) == 1
    work.close()
    assert [p for p in studio.folder.rglob("*") if p.is_file()] == []


def test_what_cannot_be_taken_is_said_at_the_photo(studio: Studio, tmp_path: Path) -> None:
    Image.new("RGB", (200, 12)).save(tmp_path / "flat.png")
    (tmp_path / "damaged.jpg").write_bytes(b"\xff\xd8 nothing")
    for name, text in (("flat.png", "at least 16 a side"), ("damaged.jpg", "cannot be read as a picture")):
        with pytest.raises(PageError, match=text) as error:
            look_at(studio, tmp_path / name)
        assert error.value.problems[0].field == "invert-photo" and str(tmp_path) not in str(error.value)


def test_the_square_that_is_taken_is_shown(studio: Studio, tmp_path: Path) -> None:
    looked = look_at(studio, snap(tmp_path))
    assert (looked.size, looked.name) == ((150, 140), "my dog.png")
    with Image.open(studio.folder / looked.thumb) as small:
        assert small.size == (140, 140)


def test_the_time_left_counts_late_steps_more() -> None:
    assert seconds_left(11, 80, 16, 10.0) == 53 + 16 * 5  # a second each, and five for those at the end
    assert seconds_left(80, 80, 16, 100.0) == 0
    assert seconds_left(70, 80, 16, 63.0 + 30.0) == 50
    assert seconds_left(1, 80, 16, 0.0) == 0  # nothing is known yet


def test_what_was_found_is_drawn_as_another_class_varied_and_filmed(studio: Studio, tmp_path: Path) -> None:
    found = find(studio, snap(tmp_path))
    other = inverting.draw_as(studio, found, 1)
    assert (other.name, other.title, other.side) == ("my dog_goldfish.png", "my dog as goldfish", 128)
    file = studio.made / other.url.removeprefix("made/")
    recipe = read_recipe(file)
    assert recipe.class_id == 1 and recipe.latents is not None and "offsets" not in recipe.latents
    varied = list(inverting.draw_variations(studio, found, 0.5, 4))
    assert [c.title for c in varied] == [f"variation of my dog, seed {s}" for s in (4, 5, 6, 7)]
    pictures = {(studio.made / c.url.removeprefix("made/")).read_bytes() for c in varied}
    assert len(pictures) == 4
    *frames, (done, film) = inverting.film_to(studio, found, 1)
    assert [n for n, _ in frames] == list(range(1, 17)) and done == 16
    assert film is not None and Path(film.file).name == "my dog_to_goldfish.webp"
    assert film.recipe["from"] == {"latents": "my dog.safetensors"} and film.recipe["to"] == {"class": "1"}
    with Image.open(film.file) as shown:
        assert getattr(shown, "n_frames", 1) == 30

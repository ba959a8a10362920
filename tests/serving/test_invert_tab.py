"""The tab that inverts photos, without a browser: what a press of its button is answered with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from no_gradio import SKIP, NoGradio
from photo_file import photo
from tiny import TinyClassifier
from tiny_studio import TinyStudio
from tiny_trunk import use_tiny_trunks

from nsbgan_infer.inversion import run as inversion_run
from nsbgan_infer.serving import invert_tab as tab
from nsbgan_infer.serving.actions import Studio
from nsbgan_infer.serving.problems import PageError

gr = NoGradio()
PLAIN = {"photo": "x.png", "text": "", "preset": "embedded", "freedom": "pixels", "steps": 4}


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    use_tiny_trunks(monkeypatch)
    monkeypatch.setattr(inversion_run, "load_classifier", lambda _name: TinyClassifier())
    return TinyStudio(tmp_path / "studio")


@pytest.mark.parametrize(
    ("change", "field", "text"),
    [
        ({"photo": None}, "invert-photo", "Choose a photo first"),
        ({"text": "church"}, "invert-class", "is no class that this preset can draw"),
        ({"text": "goldfish; 207"}, "invert-class", "One class, please"),
        ({"steps": None}, "invert-steps", "a whole number from 0, the first guess, to 300"),
        ({"steps": 301}, "invert-steps", "a whole number from 0"),
        ({"preset": "embedded-p"}, "invert-page", "not offered here"),
        ({"freedom": "everything"}, "invert-page", "not offered here"),
    ],
)
def test_each_mistake_stands_at_its_field(studio: Studio, change: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(PageError, match=text) as error:
        tab.check({**PLAIN, **change}, studio)
    assert [p.field for p in error.value.problems] == [field]


def test_several_mistakes_are_told_together_and_the_folded_part_opens(studio: Studio) -> None:
    ticket, status, *problems, more = tab._ask(gr, studio, {**PLAIN, "photo": None, "text": "retreiver", "steps": -1})
    assert (ticket, status, more) == (SKIP, SKIP, {"open": True})
    assert [bool(p) for p in problems] == [True, True, True, False]


def test_what_is_right_becomes_a_ticket(studio: Studio) -> None:
    ticket, status, *problems, more = tab._ask(gr, studio, {**PLAIN, "text": "goldfish"})
    assert ticket["class_id"] == 1 and ticket["steps"] == 4 and ticket["file"] == "x.png"
    assert "In the queue." in status and problems == [""] * 4 and more == SKIP
    assert tab.check(PLAIN, studio)["class_id"] is None  # the classifier's


def test_only_presets_with_an_inverter_are_offered(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    assert list(studio.invertible()) == ["embedded"]
    monkeypatch.setattr("nsbgan_infer.serving.choices.find_spec", lambda _name: None)
    assert studio.invertible() == {}  # what looks at the pictures is missing


def test_the_job_tells_its_steps_and_ends_with_all_that_was_found(studio: Studio, tmp_path: Path) -> None:
    ticket = tab.check({**PLAIN, "photo": photo(tmp_path / "dog.png", 90, 80), "steps": 10}, studio)
    found: dict[str, Any] = {}
    at: dict[str, int] = {}
    first, *steps, last = tab._find(gr, studio, ticket, found, at)
    assert first[:5] == [SKIP] * 5 and "Reading the photo" in first[5]
    assert ["Drawing the picture." in s[5] for s in steps] == [False] * 9 + [True]
    assert "s are left" not in steps[3][5] and "s are left" in steps[4][5]
    viewer, files, pictures, film, after, status, *problems = last
    assert len(viewer["sides"]) == 2 and pictures == film == after == "" and problems == [SKIP] * 4
    assert 'download="dog_inverted.png"' in files and 'download="dog.safetensors"' in files
    assert "In 10 steps" in status and found["one"].stem == "dog" and at == {"done": 10, "steps": 10}
    first_found = found["one"]
    list(tab._find(gr, studio, ticket, found, at))
    assert found["before"] is first_found and found["one"] is not first_found


def test_a_job_that_fails_keeps_what_was_found_before(studio: Studio, tmp_path: Path) -> None:
    (tmp_path / "damaged.png").write_bytes(b"nothing")
    ticket = tab.check({**PLAIN, "photo": str(tmp_path / "damaged.png")}, studio)
    found: dict[str, Any] = {"one": "before"}
    *_, last = tab._find(gr, studio, ticket, found, {})
    assert last[:5] == [SKIP] * 5 and "Nothing was found." in last[5] and "damaged.png cannot be read" in last[6]
    assert found == {"one": "before"}
    assert list(tab._find(gr, studio, None, found, {})) == []  # no ticket, no job


def test_a_stop_says_how_far_it_was() -> None:
    assert "Stopped at step 3 of 80: nothing was written." in tab._stopped({"done": 3, "steps": 80})
    assert "Stopped." in tab._stopped({})  # while it waited


def test_times_are_told_as_roughly_as_they_are_known() -> None:
    assert [tab._round_up(s) for s in (0.2, 8.9, 10.0, 31.0)] == [1, 9, 15, 35]


def test_a_photo_is_shown_with_what_is_taken_of_it(studio: Studio, tmp_path: Path) -> None:
    facts, *problems = tab._chosen(studio, str(photo(tmp_path / "wide.png", 90, 80)))
    assert "90 x 80 pixels, of which this square of 80 x 80 is taken." in facts and problems == ["", ""]
    assert "taken whole" in tab._chosen(studio, str(photo(tmp_path / "square.png", 80, 80)))[0]
    assert tab._chosen(studio, None) == ["", "", ""]
    assert "512 x 512 pixels, taken whole." in tab._chosen(studio, tab._example(studio))[0]
    (tmp_path / "damaged.png").write_bytes(b"nothing")
    facts, problem, general = tab._chosen(studio, str(tmp_path / "damaged.png"))
    assert (facts, general) == ("", "") and "cannot be read" in problem
    assert tab._shrunk(studio, None) == [None, "", ""]
    assert "cannot be read" in tab._shrunk(studio, str(tmp_path / "damaged.png"))[1]

"""What is drawn of a photo that was found, without a browser."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from no_gradio import SKIP, NoGradio
from photo_file import photo
from tiny_studio import TinyStudio
from tiny_trunk import use_tiny_trunks

from nsbgan_infer.latents import vary
from nsbgan_infer.serving import redraw_panel as panel
from nsbgan_infer.serving.actions import Studio
from nsbgan_infer.serving.inverting import Found, find_photo

gr = NoGradio()
QUIET = [SKIP] * 3


@pytest.fixture
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    use_tiny_trunks(monkeypatch)
    return TinyStudio(tmp_path / "studio")


@pytest.fixture
def found(studio: Studio, tmp_path: Path) -> dict[str, Found]:
    file = photo(tmp_path / "dog.png", 90, 80)
    work = find_photo(studio, file, "embedded", class_id=207, steps=0, freedom="pixels")
    with pytest.raises(StopIteration) as finished:
        next(work)
    return {"one": finished.value.value}


def test_another_class_takes_the_place_of_a_blank(studio: Studio, found: dict[str, Found]) -> None:
    first, last = panel._redraw(gr, studio, found, {}, "goldfish")
    assert "card waiting" in first[0] and first[3:] == ["", "", ""]
    assert 'alt="dog as goldfish"' in last[0] and "waiting" not in last[0] and "More like this" not in last[0]
    assert last[1] == "" and "dog as goldfish." in last[2] and last[3:] == QUIET


def test_variations_come_one_by_one_and_each_time_others(studio: Studio, found: dict[str, Found]) -> None:
    at: dict[str, Any] = {}
    shown = list(panel._vary(gr, studio, found, at, 0.5))
    assert [s[0].count("card waiting") for s in shown] == [4, 3, 2, 1, 0, 0]
    assert "4 variations by 0.5." in shown[-1][2] and "seed 3" in shown[-1][0]
    again = list(panel._vary(gr, studio, found, at, 0.5))[-1][0]
    assert "seed 3" not in again and "seed 7" in again


def test_a_film_shows_the_way(studio: Studio, found: dict[str, Found]) -> None:
    *frames, last = panel._morph(gr, studio, found, {}, "goldfish")
    assert "Frame 16 of 16." in frames[-1][2]
    assert 'download="dog_to_goldfish.webp"' in last[1] and "From dog to the same as goldfish" in last[1]


def test_a_film_goes_from_the_photo_before_to_this_one(studio: Studio, found: dict[str, Found]) -> None:
    (answer,) = panel._guarded(gr, lambda: panel._between(gr, studio, found, {}))
    assert "Find a second photo" in answer[5]
    cat = replace(found["one"], stem="cat", file="cat.safetensors", latents=vary(found["one"].latents, 1.0, [3]))
    *frames, last = panel._between(gr, studio, {"before": found["one"], "one": cat}, {})
    assert "Frame 16 of 16." in frames[-1][2]
    assert 'download="dog_to_cat.webp"' in last[1] and "From dog to cat, in 16 frames" in last[1]
    (answer,) = panel._guarded(
        gr, lambda: panel._between(gr, studio, {"before": replace(cat, preset="embedded-p"), "one": cat}, {})
    )
    assert "with the same preset" in answer[5]


@pytest.mark.parametrize(
    ("work", "value", "place", "text"),
    [
        (panel._redraw, "", 3, "Which class?"),
        (panel._morph, "church", 3, "is no class that this preset can draw"),
        (panel._redraw, "goldfish; 207", 3, "One class, please"),
        (panel._vary, None, 4, "a number from 0.05 to 2."),
        (panel._vary, 2.5, 4, "a number from 0.05 to 2."),
    ],
)
def test_mistakes_stand_at_their_fields(
    studio: Studio, found: dict[str, Found], work: Any, value: Any, place: int, text: str
) -> None:
    (answer,) = panel._guarded(gr, lambda: work(gr, studio, found, {}, value))
    assert text in answer[place] and sum(bool(a) for a in answer[3:]) == 1
    assert answer[:2] == [SKIP, SKIP] and "Nothing was drawn." in answer[2]


def test_without_a_photo_nothing_is_drawn(studio: Studio) -> None:
    (answer,) = panel._guarded(gr, lambda: panel._vary(gr, studio, {}, {}, 0.5))
    assert "Find a photo first." in answer[5]


def test_a_stop_keeps_the_finished_pictures(studio: Studio, found: dict[str, Found]) -> None:
    at: dict[str, Any] = {}
    work = panel._vary(gr, studio, found, at, 0.5)
    for _ in range(3):
        next(work)
    del work
    pictures, status = panel._next_stopped(at)
    assert pictures.count("<img") == 2 and "waiting" not in pictures and "2 pictures are finished" in status
    assert panel._next_stopped({})[0] == ""

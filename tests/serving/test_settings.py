"""The fields of the page, checked, and as the query of an address."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsbgan_infer.serving.problems import PageError
from nsbgan_infer.serving.settings import Settings, check, from_event, number_of, read_query


class Offers:
    """Two presets, one of them still to be fetched."""

    def presets(self) -> Mapping[str, str]:
        return {"embedded": "", "large": ""}

    def decoders(self, preset: str) -> Mapping[str, str]:
        return {"iwt": ""}

    def available(self, preset: str) -> tuple[int, ...]:
        return (1, 207)

    def to_fetch(self, preset: str) -> str | None:
        return "234 MB" if preset == "large" else None


def wrong(**changes: Any) -> dict[str, str]:
    """The problems of the first settings with `changes`, by field."""
    with pytest.raises(PageError) as error:
        check({**asdict(Settings()), **changes}, Offers())
    return {p.field: p.text for p in error.value.problems}


def test_right_fields_are_the_settings() -> None:
    settings = Settings("embedded", "goldfish", 7, 3, 0.4, 0.2, "iwt", "7.3")
    assert check(asdict(settings), Offers()) == settings
    assert check({**asdict(settings), "seed": 7.0, "count": 3.0}, Offers()) == settings  # as a browser sends them


def test_every_wrong_field_is_named_in_its_own_place() -> None:
    found = wrong(text="zzzz", seed=-1, count=None, truncation=2, threshold=float("nan"), like="x", decoder="rm -rf")
    assert set(found) == {"class", "seed", "count", "truncation", "threshold", "like", "decoder"}
    assert found["seed"] == "The seed must be a whole number from 0 to 4,294,967,295."
    assert found["count"] == "The number of pictures must be a whole number from 1 to 16."
    assert found["truncation"] == "The truncation must be a number from 0.05 to 1.0."


def test_too_many_pictures_offer_what_is_left() -> None:
    class Many(Offers):
        def available(self, preset: str) -> tuple[int, ...]:
            return tuple(range(10))

    with pytest.raises(PageError) as error:
        check({**asdict(Settings()), "text": "all", "count": 16}, Many())
    (problem,) = error.value.problems
    assert "160 pictures" in problem.text and problem.choices[0].value == "6"


def test_a_download_is_asked_for_with_its_size() -> None:
    with pytest.raises(PageError) as error:
        check({**asdict(Settings()), "preset": "large"}, Offers())
    (problem,) = error.value.problems
    assert "234 MB" in problem.text and problem.choices[0].act == "fetch"
    assert check({**asdict(Settings()), "preset": "large"}, Offers(), fetch=True).preset == "large"


def test_an_unknown_preset_is_a_problem() -> None:
    assert set(wrong(preset="other")) == {"preset"}


@given(
    st.builds(
        Settings,
        text=st.text(max_size=30),
        seed=st.integers(0, 2**32 - 1),
        count=st.integers(1, 16),
        truncation=st.sampled_from([0.05, 0.5, 1.0]),
        like=st.from_regex(r"\A[0-9]{1,4}\Z"),
    )
)
def test_an_address_gives_the_settings_back(settings: Settings) -> None:
    query = dict(parse_qsl(settings.query(), keep_blank_values=True))
    assert read_query(query) == settings
    assert from_event({**asdict(settings), "unknown": 1}) == settings


def test_what_cannot_be_read_keeps_its_first_value() -> None:
    assert read_query({"seed": "x", "count": "3", "__class__": "y", "query": "z"}) == Settings(count=3)
    assert from_event(["no table"]) == Settings()


@pytest.mark.parametrize("value", [None, "", "7", True, float("inf"), 1.5, -1, 17])
def test_what_is_no_number_in_range_is_none(value: Any) -> None:
    assert number_of(value, 0, 16, True) is None

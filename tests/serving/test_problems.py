"""What is wrong with a field, in the page's own words."""

from __future__ import annotations

import logging

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsbgan_infer.classes import all_classes
from nsbgan_infer.errors import MissingExtraError, OfflineError, UsageError, missing_extra
from nsbgan_infer.serving.problems import (
    COMMAND,
    PageError,
    ask_classes,
    nearest,
    parts_of,
    problem_of,
    replace_part,
    typed,
    without_commands,
)

HERE = (1, 207, 217, 933)  # goldfish, golden retriever, English springer, cheeseburger


def problem(text: str, available: tuple[int, ...] = HERE) -> tuple[str, list[str]]:
    """The sentence for what was typed, and what its buttons would type."""
    with pytest.raises(PageError) as error:
        ask_classes(text, available)
    (found,) = error.value.problems
    assert found.field == "class"
    return found.text, [c.value for c in found.choices]


def test_names_ids_and_ranges_are_classes() -> None:
    assert ask_classes("golden retriever; 1 ;n02102040", HERE) == ["207", "1", "217"]
    assert ask_classes("206-208", tuple(range(1000))) == ["206", "207", "208"]
    assert ask_classes("all", HERE) == ["1", "207", "217", "933"]
    assert ask_classes("whatever", None) == []


def test_a_word_that_means_one_class_of_the_preset_is_enough() -> None:
    assert ask_classes("retriever", HERE) == ["207"]  # of five retrievers, one can be drawn
    assert ask_classes("dog", HERE[:2]) == ["207"]


def test_several_classes_are_asked_about() -> None:
    text, values = problem("goldfish; dog")
    assert text == "“dog” may mean 2 classes:"
    assert values == ["goldfish; golden retriever", "goldfish; English springer"]


def test_a_typing_mistake_offers_the_nearest_class_that_can_be_drawn() -> None:
    text, values = problem("golden retreiver")
    assert text == "No class is called “golden retreiver”. Did you mean one of these?"
    assert values[0] == "golden retriever" and len(values) <= 5


def test_a_class_of_others_offers_what_can_be_drawn() -> None:
    text, values = problem("tabby")
    assert text.startswith("“tabby” is no class that this preset can draw.")
    assert set(values) <= {"goldfish", "golden retriever", "English springer", "cheeseburger"} and values
    assert problem("1000")[0].startswith("No class is called “1000”")
    assert problem("0-300")[0].startswith("“0-300” is no class")


def test_an_empty_field_asks_which() -> None:
    text, values = problem(" ; ")
    assert text == "Which class? Type a name, or choose a picture." and values[0] == "goldfish"


@given(st.text(max_size=40))
def test_whatever_is_typed_is_classes_or_one_problem_in_the_page_s_words(text: str) -> None:
    try:
        assert {int(i) for i in ask_classes(text, HERE)} <= set(HERE)
    except PageError as error:
        assert all(
            not COMMAND.search(p.text.replace(part, "")) for p in error.problems for part in parts_of(text) or [""]
        )


def test_a_class_is_typed_by_name_unless_two_have_it() -> None:
    assert typed(all_classes()[207]) == "golden retriever"
    assert typed(all_classes()[134]) == "134"  # a crane: a bird and a machine


def test_a_name_takes_the_place_of_the_wrong_one() -> None:
    assert replace_part("goldfish; retreiver; church", "retreiver", "207") == "goldfish; 207; church"
    assert replace_part("", "", "church") == "church"


def test_the_nearest_are_of_those_available() -> None:
    assert [c.id for c in nearest("springr", HERE)] == [217]
    assert nearest("qqqq", HERE) == []


@pytest.mark.parametrize(
    ("sentence", "left"),
    [
        ("No such class: `nsbgan classes` lists all, `nsbgan classes dog` those of a kind.", "No such class."),
        ("x.png has 5 pixels: shrink it, or raise --max-pixels.", "x.png has 5 pixels."),
        ("Cannot write /tmp/abc/def/x.png: No space left.", "Cannot write x.png: No space left."),
        ("Run `nsbgan models`.", "This cannot be done."),
        ("PSNR is 31.5 dB. All is well.", "PSNR is 31.5 dB. All is well."),
    ],
)
def test_sentences_lose_commands_and_folders(sentence: str, left: str) -> None:
    assert without_commands(sentence) == left


def test_errors_of_the_work_become_problems(caplog: pytest.LogCaptureFixture) -> None:
    assert "could not be fetched" in problem_of(OfflineError("no network: /tmp/x")).text
    extra = missing_extra("gradio", "demo", "The page")
    assert isinstance(extra, MissingExtraError) and "pip" not in problem_of(extra).text
    assert problem_of(UsageError("Too many.")).text == "Too many."
    assert not caplog.records
    with caplog.at_level(logging.ERROR):
        assert problem_of(ValueError("/tmp/secret")).text == (
            "Something unexpected went wrong (ValueError). The server's log says where."
        )
    assert caplog.records[0].exc_info is not None

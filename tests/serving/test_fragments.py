"""The page's own pieces of HTML: nothing that was typed becomes HTML, blanks keep the place of what is to come."""

from __future__ import annotations

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from nsbgan_infer.classes import all_classes
from nsbgan_infer.serving import fragments
from nsbgan_infer.serving.fragments import Card
from nsbgan_infer.serving.problems import Choice, Problem
from nsbgan_infer.serving.settings import Settings

CARD = Card("made/x/a.png", "a.png", "golden retriever", 3, 512)


class Tags(HTMLParser):
    """Collects the tags and the attributes of a piece of HTML."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def test_pictures_come_with_names_and_blanks_for_those_to_come() -> None:
    html = fragments.sheet([CARD], 4, Settings(), "working")
    assert html.count('class="card waiting"') == 3 and html.count("in work") == 1
    (image,) = Tags(html).all("img")
    assert image["alt"] == "golden retriever, seed 3" and image["src"] == "made/x/a.png"
    done = fragments.sheet([CARD], 1, Settings(), "done", archive="made/x/pictures.zip")
    assert "waiting" not in done and "Save all" in done


@given(st.text(alphabet="<>&\"'`${}ab", max_size=20))
def test_what_was_typed_stays_text(text: str) -> None:
    plain = Tags(fragments.problem(Problem("class", "x", (Choice("y", "put", "z"),)))).found
    told = Tags(fragments.problem(Problem("class", text, (Choice(text, "put", text),)))).found
    assert [tag for tag, _ in told] == [tag for tag, _ in plain]
    assert dict(told[-1][1])["data-value"] == text
    card = Card("u", text, text, 1, 64, text, text)
    assert len(Tags(fragments.sheet([card], 1, Settings(text=text), "done")).all("img")) == 1
    assert Tags(fragments.photo_facts("u", text, text)).all("img")[0]["alt"] == f"Your photo {text}"
    assert [t for t, _ in Tags(fragments.say(text, 1, 2, detail=text)).found][:2] == ["div", "progress"]


def test_classes_are_buttons_with_one_stop_of_the_tabulator() -> None:
    found = [all_classes()[i] for i in (1, 207, 281)]
    buttons = Tags(fragments.tiles(found, (1, 207), (207,), 5, "Class")).all("button")
    assert [b["tabindex"] for b in buttons] == ["-1", "0", "-1"]
    assert [b["aria-pressed"] for b in buttons] == ["false", "true", "false"]
    assert [b["data-value"] for b in buttons] == ["goldfish", "golden retriever", "tabby"]
    html = fragments.tiles(found, (1, 207), (), 5, "Class")
    assert html.count("<img") == 2 and "5 more" in html
    assert "No class" in fragments.tiles([], (), (), 0, "Class")


def test_a_line_has_a_bar_only_where_the_whole_is_known() -> None:
    assert "<progress" not in fragments.say("Ready.")
    assert '<progress max="4" value="1"' in fragments.say("x", 1, 4)
    assert fragments.problem(None) == ""


def test_a_film_shows_its_recipe() -> None:
    html = fragments.film("made/x/walk.webp", "walk.webp", "From a to b", {"frames": 4}, 512)
    assert "&quot;frames&quot;: 4" in html and 'download="walk.webp"' in html

"""The lower part of the tab that inverts photos: what was found is drawn as another class, varied, or filmed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from nsbgan_infer.latents import LAST_SEED
from nsbgan_infer.serving import fragments, inverting
from nsbgan_infer.serving.actions import Studio, Walk
from nsbgan_infer.serving.controls import (
    ONE_JOB,
    class_field,
    island,
    mends,
    name_of,
    problem_for,
    raw,
    show_problems,
)
from nsbgan_infer.serving.inverting import Found
from nsbgan_infer.serving.problems import PageError, Problem, ask_one_class, problem_of
from nsbgan_infer.serving.settings import number_of

LEAST_AMOUNT, MOST_AMOUNT = 0.05, 2.0
AMOUNT = 0.5
NEXT = ("as-class", "vary-amount", "next-page")


class RedrawPanel:
    """What may be drawn of a photo that was found: itself as another class, the way there or from the photo found
    before, variations."""

    def __init__(self, gr: Any, studio: Studio, which: Any, first: str) -> None:
        self.gr, self.studio = gr, studio
        with gr.Column(elem_classes="after asks"):
            gr.HTML("<h2>And now</h2>", apply_default_css=False)
            with gr.Row(elem_classes="pair"):
                with gr.Column(min_width=260, scale=3):
                    self.field = class_field(gr, studio, which, name="as-class", label="As another class", value="",
                                             first=first)  # fmt: skip
                    with gr.Row(elem_classes="steps-on"):
                        self.redraw = gr.Button("Draw it", elem_id="redraw")
                        self.morph = gr.Button("Film the way", elem_id="morph")
                with gr.Column(min_width=220, scale=2):
                    self.amount = raw(gr.Slider(
                        LEAST_AMOUNT, MOST_AMOUNT, AMOUNT, step=0.05, label="Variations", elem_id="vary-amount",
                        info="How far they may go from your photo. Each time others."))  # fmt: skip
                    self.problem = problem_for(gr, "vary-amount")
                    with gr.Row(elem_classes="steps-on"):
                        self.vary = gr.Button(f"Draw {inverting.VARIATIONS} variations", elem_id="vary")
                        self.between = gr.Button("Film from the photo before", elem_id="between")
            with gr.Row(elem_classes="steps-on"):
                self.status = gr.HTML("", elem_id="next-status", apply_default_css=False)
                self.stop = gr.Button("Cancel", elem_id="cancel-next", min_width=90, scale=0)
            self.general = problem_for(gr, "next-page")
            self.pictures = island(gr, "next-pictures", "acts")
            self.film = island(gr, "next-film", "acts")
        mends(gr, self.amount, self.problem, _check_amount)

    def connect(self, found: Any) -> None:
        """Let the buttons work on the state `found`."""
        gr, studio = self.gr, self.studio
        at = gr.State({})
        told = [self.field.problem, self.problem, self.general]
        shown = [self.pictures, self.film, self.status, *told]

        def redraw(found: dict[str, Found], at: dict[str, Any], text: str) -> Iterator[list[Any]]:
            yield from _guarded(gr, lambda: _redraw(gr, studio, found, at, text))

        def vary(found: dict[str, Found], at: dict[str, Any], amount: Any) -> Iterator[list[Any]]:
            yield from _guarded(gr, lambda: _vary(gr, studio, found, at, amount))

        def morph(found: dict[str, Found], at: dict[str, Any], text: str) -> Iterator[list[Any]]:
            yield from _guarded(gr, lambda: _morph(gr, studio, found, at, text))

        def between(found: dict[str, Found], at: dict[str, Any]) -> Iterator[list[Any]]:
            yield from _guarded(gr, lambda: _between(gr, studio, found, at))

        how = {"show_progress": "minimal", "show_progress_on": self.status, "api_visibility": "private", **ONE_JOB}
        jobs = [
            gr.on([self.redraw.click, self.field.box.submit], redraw, [found, at, self.field.box], shown, **how),
            self.vary.click(vary, [found, at, self.amount], shown, **how),
            self.morph.click(morph, [found, at, self.field.box], shown, **how),
            self.between.click(between, [found, at], shown, **how),
        ]
        self.stop.click(None, cancels=jobs, queue=False)
        for job in jobs:
            job.failure(_next_stopped, at, [self.pictures, self.status], queue=False)


def _guarded(gr: Any, work: Callable[[], Iterator[list[Any]]]) -> Iterator[list[Any]]:
    """A job on what was found: pictures, film, status, and the problems of `NEXT`."""
    try:
        yield from work()
    except Exception as error:
        problems = error.problems if isinstance(error, PageError) else (problem_of(error),)
        yield [gr.skip(), gr.skip(), fragments.say("Nothing was drawn."), *show_problems(problems, NEXT)]


def _redraw(gr: Any, studio: Studio, found: Mapping[str, Found], at: dict[str, Any], text: str) -> Iterator[list[Any]]:
    one = _found(found)
    class_id = _other_class(studio, one, text)
    at.update(cards=[])
    said = fragments.say("Drawing.", 0, 1)
    yield [fragments.sheet([], 1, None, "working"), "", said, *show_problems((), NEXT)]
    card = inverting.draw_as(studio, one, class_id)
    yield [fragments.sheet([card], 1, None, "done"), "", fragments.say(f"{card.label}."), *[gr.skip()] * len(NEXT)]


def _vary(gr: Any, studio: Studio, found: Mapping[str, Found], at: dict[str, Any], amount: Any) -> Iterator[list[Any]]:
    one, far, total = _found(found), _check_amount(amount), inverting.VARIATIONS
    first = at.get("seed", 0)
    at.update(cards=[], seed=(first + total) % (LAST_SEED - total))
    yield [
        fragments.sheet([], total, None, "working"), "", fragments.say("Drawing.", 0, total), *show_problems((), NEXT),
    ]  # fmt: skip
    cards = at["cards"]
    for card in inverting.draw_variations(studio, one, far, first):
        cards.append(card)
        said = fragments.say(f"{len(cards)} of {total} variations.", len(cards), total)
        yield [fragments.sheet(cards, total, None, "working"), "", said, *[gr.skip()] * len(NEXT)]
    said = fragments.say(f"{total} variations by {far:g}.")
    yield [fragments.sheet(cards, total, None, "done"), "", said, *[gr.skip()] * len(NEXT)]


def _morph(gr: Any, studio: Studio, found: Mapping[str, Found], at: dict[str, Any], text: str) -> Iterator[list[Any]]:
    one = _found(found)
    class_id = _other_class(studio, one, text)
    said = f"From {one.stem} to the same as {name_of(str(class_id))}"
    yield from _film(gr, studio, at, lambda: inverting.film_to(studio, one, class_id), said)


def _between(gr: Any, studio: Studio, found: Mapping[str, Found], at: dict[str, Any]) -> Iterator[list[Any]]:
    one, before = _found(found), found.get("before")
    if before is None or before.preset != one.preset:
        text = "Find a second photo with the same preset: this films the way to it from the photo found before."
        raise PageError(Problem("next-page", text))
    said = f"From {before.stem} to {one.stem}"
    yield from _film(gr, studio, at, lambda: inverting.film_between(studio, before, one), said)


def _film(
    gr: Any, studio: Studio, at: dict[str, Any], make: Callable[[], Iterator[tuple[int, Walk | None]]], said: str
) -> Iterator[list[Any]]:
    at.update(cards=[])
    total = inverting.FRAMES
    yield ["", "", fragments.say("In work.", 0, total), *show_problems((), NEXT)]
    for done, made in make():
        if made is None:
            yield ["", "", fragments.say(f"Frame {done} of {total}.", done, total), *[gr.skip()] * len(NEXT)]
    assert made is not None
    html = fragments.film(
        studio.url(Path(made.file)), Path(made.file).name, f"{said}, in {total} frames", made.recipe, made.side
    )
    yield ["", html, fragments.say(f"{total} frames, there and back."), *[gr.skip()] * len(NEXT)]


def _next_stopped(at: Mapping[str, Any]) -> list[str]:
    """What stays after a cancellation: the pictures that are finished."""
    cards = at.get("cards") or []
    text = f"Stopped: {len(cards)} pictures are finished." if cards else "Stopped: nothing was written."
    return [fragments.sheet(cards, len(cards), None, "stopped") if cards else "", fragments.say(text)]


def _found(found: Mapping[str, Found]) -> Found:
    if "one" not in found:
        raise PageError(Problem("next-page", "Find a photo first."))
    return found["one"]


def _other_class(studio: Studio, one: Found, text: str) -> int:
    class_id = ask_one_class(str(text or "")[:2000], studio.available(one.preset), "as-class")
    if not class_id:
        raise PageError(Problem("as-class", "This preset draws without classes."))
    return int(class_id)


def _check_amount(amount: Any) -> float:
    number = number_of(amount, LEAST_AMOUNT, MOST_AMOUNT, False)
    if number is None:
        text = f"The distance of variations must be a number from {LEAST_AMOUNT} to {MOST_AMOUNT:g}."
        raise PageError(Problem("vary-amount", text))
    return number

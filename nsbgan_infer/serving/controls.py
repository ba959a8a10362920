"""What the page's tabs share: islands of the page's own HTML, the class field with pictures, and problems by field."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nsbgan_infer.classes import all_classes
from nsbgan_infer.serving import fragments
from nsbgan_infer.serving.actions import Studio
from nsbgan_infer.serving.choices import find_tiles
from nsbgan_infer.serving.problems import PageError, Problem, ask_classes, parts_of

ONE_JOB = {"concurrency_id": "work", "concurrency_limit": 1}
AT_ONCE: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
ASKED = {**AT_ONCE, "queue": True, "concurrency_id": "asked", "concurrency_limit": 16}
"""For what writes a ticket: gradio tells of a changed state only in the queue, where this never waits for a job."""
Check = Callable[..., object]  # raises PageError for what is wrong with its arguments


@dataclass(frozen=True)
class ClassField:
    """A field for classes: what is typed, the pictures below it, and what is wrong with it."""

    box: Any
    tiles: Any
    problem: Any


def island(gr: Any, name: str, script: str, *events: str, value: Any = "", template: str = "${value}") -> Any:
    """HTML of the page's own, brought to life by a function of page.js; `events` are what it triggers."""
    listed = ", ".join(f"'{e}'" for e in events)
    call = f"nsbgan.{script}(element, trigger, props, watch, [{listed}])"
    return gr.HTML(
        value, elem_id=name, html_template=template, js_on_load=call, apply_default_css=False, elem_classes="island"
    )


def problem_for(gr: Any, field: str) -> Any:
    """Where the problem of a field stands, under it."""
    return island(gr, f"problem-{field}", "acts", "put", "fetch", "shrink")


def class_field(
    gr: Any,
    studio: Studio,
    preset: Any,
    *,
    name: str,
    label: str,
    value: str,
    first: str,
    info: str | None = None,
    optional: bool = False,
) -> ClassField:
    """The field, with pictures to click on. `preset` is a component that holds the preset, at first `first`;
    `optional`: it may stay empty."""
    box = gr.Textbox(label=label, value=value, elem_id=name, info=info, max_lines=1)
    problem = problem_for(gr, name)
    tiles = island(gr, f"{name}-tiles", "tiles", "put", value=show_tiles(studio, first, value, label))

    def typed(preset: str, text: str, before: str) -> tuple[str, Any]:
        shown = show_tiles(studio, preset, text, label)
        empty = optional and not parts_of(text)
        return shown, mended(gr, before, lambda: empty or ask_classes(text, studio.available(preset), name))

    gr.on([box.change], typed, [preset, box, problem], [tiles, problem], trigger_mode="always_last", **AT_ONCE)

    def picked(text: str, data: Any) -> str:
        return "; ".join([*parts_of(text)[:-1], value_of(data)])

    tiles.put(with_event(gr, picked), box, box, **AT_ONCE)
    problem.put(with_event(gr, lambda data: (value_of(data), "")), None, [box, problem], **AT_ONCE)
    return ClassField(box, tiles, problem)


def show_tiles(studio: Studio, preset: str, text: str, label: str) -> str:
    """The pictures of the classes that fit what is being typed."""
    available = studio.available(preset)
    if available is None:
        return '<p class="none">This preset draws without classes.</p>'
    found, more, picked = find_tiles(text, available)
    return fragments.tiles(found, studio.known, picked, more, f"Pictures for {label}")


def show_problems(problems: Sequence[Problem], fields: Sequence[str]) -> list[str]:
    """What stands beside each of `fields`; a problem of another field stands at the last one."""
    by_field: dict[str, Problem] = {}
    for found in problems:
        by_field.setdefault(found.field if found.field in fields else fields[-1], found)
    return [fragments.problem(by_field.get(field)) for field in fields]


def unfold(gr: Any, problems: Sequence[Problem], folded: Sequence[str]) -> Any:
    """What opens the folded part of a form where one of its fields has a problem."""
    return gr.Accordion(open=True) if any(p.field in folded for p in problems) else gr.skip()


def mends(gr: Any, field: Any, problem: Any, check: Check) -> None:
    """A problem goes as soon as its visitor makes the field right, and stays until then. Its button `put` fills the
    field. What the page itself puts into a field mends nothing."""
    gr.on(
        [field.input], lambda value, before: mended(gr, before, lambda: check(value)), [field, problem], problem,
        trigger_mode="always_last", **AT_ONCE,
    )  # fmt: skip
    problem.put(with_event(gr, lambda data: (value_of(data), "")), None, [field, problem], **AT_ONCE)


def mended(gr: Any, before: str, check: Callable[[], object]) -> Any:
    """What stands beside a field after it was changed: nothing new, but less once `check` passes."""
    if not before:
        return gr.skip()  # a problem that was found meanwhile stays
    try:
        check()
    except PageError as error:
        return fragments.problem(error.problems[0])
    return ""


def with_event(gr: Any, work: Callable[..., Any]) -> Callable[..., Any]:
    """`work` with the data of the event as its last argument, which gradio finds by its type."""

    def one(event: Any) -> Any:
        return work(event._data)

    def two(value: Any, event: Any) -> Any:
        return work(value, event._data)

    wrapped = one if work.__code__.co_argcount == 1 else two
    wrapped.__annotations__ = {"event": gr.EventData}
    return wrapped


def value_of(data: Any) -> str:
    """The text that a button of the page's own brings with it."""
    return str(data.get("value") or "")[:2000] if isinstance(data, Mapping) else ""


def raw(component: Any) -> Any:
    """A component that hands on what its field holds: what is wrong with it is said beside it, not by gradio."""
    component.preprocess = lambda payload: payload
    return component


def name_of(class_id: str) -> str:
    """The name of a class by its id in digits."""
    return all_classes()[int(class_id)].name

"""The page's first tab: a class becomes pictures.

Generate checks the fields at once and, if all are right, writes a ticket; the ticket starts the job, which waits in the
queue. So a mistake is answered beside its field even while others' pictures are made.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from importlib.util import find_spec
from typing import Any

from nsbgan_infer.serving import fragments
from nsbgan_infer.serving.actions import Finished, Studio
from nsbgan_infer.serving.controls import (
    ASKED,
    AT_ONCE,
    ONE_JOB,
    class_field,
    island,
    mended,
    mends,
    problem_for,
    raw,
    show_problems,
    show_tiles,
    unfold,
    with_event,
)
from nsbgan_infer.serving.problems import PageError, ask_classes, problem_of
from nsbgan_infer.serving.settings import Settings, check, from_event, read_query

OWN = "the preset's own"
EXAMPLE = fragments.Card(
    "page/example.webp", "207_golden-retriever_seed2.webp", "golden retriever", 2, 512, "made with these settings",
    "golden retriever",
)  # fmt: skip
FIELDS = ("class", "seed", "count", "truncation", "threshold", "preset", "decoder", "like", "page")
NAMES = ("text", "seed", "count", "truncation", "threshold", "preset", "decoder", "like")
RANDOM = "() => Math.floor(Math.random() * 4294967296)"


def generate_tab(gr: Any, studio: Studio, preset: str, page: Any) -> None:
    """Class and Generate on the left, everything else folded below; what goes on and the pictures on the right."""
    first = Settings(preset=preset)
    with gr.Row(elem_classes="split"):
        with gr.Column(scale=5, elem_classes="asks"):
            which = gr.State(preset)  # what the class field asks; the preset's own field stands further down
            classes = class_field(
                gr, studio, which, name="class", label="What shall it be?", value=first.text, first=preset
            )
            with gr.Row(elem_id="go"):
                go = gr.Button("Generate", variant="primary", elem_id="generate")
                surprise = gr.Button("Surprise me", elem_id="surprise")
                stop = gr.Button("Cancel", elem_id="cancel")
            with gr.Accordion("More", open=False, elem_id="more") as more:
                fields, problems = _more(gr, studio, first)
        with gr.Column(scale=8, elem_classes="results"):
            status = gr.HTML(fragments.say("An example to begin with."), elem_id="status", apply_default_css=False)
            problems["page"] = problem_for(gr, "page")
            pictures = island(
                gr, "pictures", "pictures", "like", "use", value=fragments.sheet([EXAMPLE], 1, first, "example")
            )
            history = island(gr, "history", "history", "again", template="<div></div>")
    problems["class"] = classes.problem
    ticket, made = gr.State(None), gr.State({})  # a visitor's own table, which the job writes into
    inputs = [classes.box, *fields.values()]
    told = [problems[f] for f in FIELDS]
    answers = [ticket, pictures, status, *told, more]

    def ask(*values: Any, fetch: bool = False) -> list[Any]:
        return _ask(gr, studio, dict(zip(NAMES, values, strict=True)), fetch)

    gr.on([go.click, classes.box.submit], ask, inputs, answers, **ASKED)
    surprise.click(None, None, fields["seed"], js=RANDOM).then(ask, inputs, answers, **ASKED)
    problems["preset"].fetch(lambda *values: ask(*values, fetch=True), inputs, answers, **ASKED)

    def make(ticket: Mapping[str, Any] | None, made: dict[str, Any]) -> Iterator[list[Any]]:
        yield from _make(gr, studio, ticket, made, len(FIELDS) - 1)

    job = ticket.change(make, [ticket, made], [pictures, status, *told], show_progress_on=status,
                        show_progress="minimal", **ONE_JOB)  # fmt: skip
    stop.click(None, cancels=[job], queue=False)
    job.failure(_stopped, made, [pictures, status], queue=False)  # once it has really ended

    def again(data: Any) -> list[Any]:
        return _ask(gr, studio, asdict(from_event(data)), False)

    def fill(data: Any) -> list[Any]:
        return _fill(studio, from_event(data))

    shown = [classes.box, *fields.values()]
    pictures.like(with_event(gr, again), None, answers, **ASKED)
    pictures.use(with_event(gr, fill), None, shown, **AT_ONCE)
    history.again(with_event(gr, fill), None, shown, **AT_ONCE).then(ask, inputs, answers, **ASKED)
    fields["preset"].change(
        lambda *values: _preset_changed(gr, studio, *values),
        [fields["preset"], classes.box, classes.problem, fields["decoder"]],
        [which, classes.tiles, classes.problem, fields["decoder"]],
        **AT_ONCE,
    )

    def opened(request: Any) -> list[Any]:
        query = dict(request.query_params)
        if not query:  # what has been typed meanwhile stays
            return [gr.skip()] * len([*shown, *answers])
        settings = replace(read_query(query), preset=query.get("preset", preset))
        run = _ask(gr, studio, asdict(settings), False) if "class" in query else [gr.skip()] * len(answers)
        return [*_fill(studio, settings), *run]

    opened.__annotations__ = {"request": gr.Request}
    page.load(opened, None, [*shown, *answers], **ASKED)


def _more(gr: Any, studio: Studio, first: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """The fields that most visitors leave alone, each with the place of its problem, in the order of NAMES."""
    fields: dict[str, Any] = {}
    problems: dict[str, Any] = {}

    def add(name: str, field: Any) -> None:
        fields[name], problems[name] = field, problem_for(gr, name)

    with gr.Row():
        with gr.Column(min_width=120):
            add(
                "seed",
                raw(gr.Number(first.seed, label="Seed", elem_id="seed", info="Same seed, same picture.")),
            )
        with gr.Column(min_width=120):
            add("count", raw(gr.Number(first.count, label="Pictures of each", elem_id="count", info="1 to 16.")))
    add("truncation", raw(gr.Slider(
        0.05, 1.0, first.truncation, step=0.05, label="Truncation", elem_id="truncation",
        info="Low: the typical picture. High: more variety, more failures.")))  # fmt: skip
    judge = find_spec("efficientnet_lite_pytorch") is not None
    add(
        "threshold",
        raw(
            gr.Slider(
                0.0,
                0.95,
                first.threshold,
                step=0.05,
                label="Keep only what a classifier recognises",
                elem_id="threshold",
                visible=judge,
                info="The least probability of the class. 0 keeps all; up to 20 tries for a picture.",
            )
        ),
    )
    add("preset", raw(gr.Dropdown(
        [(told, name) for name, told in studio.presets().items()], value=first.preset, label="Preset",
        elem_id="preset")))  # fmt: skip
    add(
        "decoder",
        raw(gr.Dropdown(_decoder_choices(studio, first.preset), value="", label="Decoder", elem_id="decoder")),
    )
    add("like", raw(gr.Textbox(
        "", label="Variation", elem_id="like", max_lines=1,
        info="Empty: the picture of the seed. A number: one that is like it.")))  # fmt: skip
    for name in ("seed", "count", "truncation", "threshold", "like"):
        mends(gr, fields[name], problems[name], _check_one(name))
    for name in ("preset", "decoder"):
        fields[name].select(lambda: "", None, problems[name], **AT_ONCE)  # by a visitor, not by the page
    return fields, problems


def _check_one(name: str) -> Any:
    """Raises PageError while the field is wrong, whatever the others hold."""

    class Anything:
        """Offers whatever is asked for."""

        def presets(self) -> dict[str, str]:
            return {"embedded": ""}

        def decoders(self, preset: str) -> dict[str, str]:
            return {}

        def available(self, preset: str) -> None:
            return None

        def to_fetch(self, preset: str) -> None:
            return None

    return lambda value: check({**asdict(Settings()), "count": 1, name: value}, Anything())


def _ask(gr: Any, studio: Studio, values: Mapping[str, Any], fetch: bool) -> list[Any]:
    """A ticket for the job, blanks for its pictures and no problems; or problems and nothing else."""
    try:
        settings = check(values, studio, fetch=fetch)
    except PageError as error:
        unfolded = unfold(gr, error.problems, FIELDS[1:-1])
        return [gr.skip(), gr.skip(), gr.skip(), *show_problems(error.problems, FIELDS), unfolded]
    ticket = {"settings": asdict(settings), "at": time.time_ns()}
    total = _count(studio, settings)
    waiting = fragments.say("In the queue.", 0, total)
    return [ticket, fragments.sheet([], total, settings, "working"), waiting, *show_problems((), FIELDS), gr.skip()]


def _count(studio: Studio, settings: Settings) -> int:
    return settings.count * max(1, len(ask_classes(settings.text, studio.available(settings.preset))))


def _make(
    gr: Any, studio: Studio, ticket: Mapping[str, Any] | None, made: dict[str, Any], others: int
) -> Iterator[list[Any]]:
    """The job: pictures, status, and the problem if it fails. `made` always says what is finished."""
    if ticket is None:
        return
    settings = Settings(**ticket["settings"])
    quiet = [gr.skip()] * others
    finished: Finished | None = None
    made.update(settings=settings, finished=None)
    try:
        total = _count(studio, settings)
        size = studio.to_fetch(settings.preset)
        begun = f"Fetching {size}: this may take minutes." if size else _progress(0, total)
        blank = fragments.sheet([], total, settings, "working")
        yield [blank, fragments.say(begun, 0, total), *quiet, ""]
        for finished in studio.generate_as(settings):
            made["finished"] = finished
            done = len(finished.files)
            shown = fragments.sheet(finished.cards, total, settings, "working")
            yield [shown, fragments.say(_progress(done, total), done, total), *quiet, ""]
    except Exception as error:
        problems = error.problems if isinstance(error, PageError) else (problem_of(error),)
        yield [*_stopped(made), *show_problems(problems, FIELDS)]
        return
    assert finished is not None
    archive = studio.archive(finished.files) if total > 1 else ""
    shown = fragments.sheet(finished.cards, total, settings, "done", archive=archive)
    yield [shown, fragments.say(_summary(finished), detail=finished.report), *quiet, ""]


def _progress(done: int, total: int) -> str:
    return f"Making picture {min(done + 1, total)} of {total}."


def _summary(finished: Finished) -> str:
    seconds = finished.report.split(";")[1].strip().removesuffix(" an image")
    accepted = "".join(f", {part.strip()}" for part in finished.report.split(";")[2:])
    many = finished.total > 1
    return f"{finished.total} picture{'s' * many}, {seconds}{' each' * many}{accepted}."


def _stopped(made: Mapping[str, Any]) -> list[str]:
    """What stays after a cancellation or an error: what is finished."""
    settings: Settings | None = made.get("settings")
    finished: Finished | None = made.get("finished")
    cards = finished.cards if finished else ()
    total = finished.total if finished else 0
    text = f"Stopped: {len(cards)} of {total} pictures are finished." if cards else "Stopped before the first picture."
    return [fragments.sheet(cards, len(cards), settings, "stopped"), fragments.say(text)]


def _fill(studio: Studio, settings: Settings) -> list[Any]:
    """The fields as `settings` say, in the order of NAMES; a preset or decoder that is not offered becomes the first
    one."""
    offered = studio.presets()
    preset = settings.preset if settings.preset in offered else next(iter(offered))
    decoder = settings.decoder if settings.decoder in studio.decoders(preset) else ""
    values = {**asdict(settings), "preset": preset, "decoder": decoder}
    return [values[name] for name in NAMES]


def _decoder_choices(studio: Studio, preset: str) -> list[tuple[str, str]]:
    return [(OWN, ""), *((told, name) for name, told in studio.decoders(preset).items())]


def _preset_changed(gr: Any, studio: Studio, preset: str, text: str, before: str, decoder: str) -> list[Any]:
    """What follows from a preset: the classes to choose from, and the decoders that fit it."""
    problem = mended(gr, before, lambda: ask_classes(text, studio.available(preset)))
    tiles = show_tiles(studio, preset, text, "What shall it be?")
    kept = decoder if decoder in studio.decoders(preset) else ""
    return [preset, tiles, problem, gr.Dropdown(choices=_decoder_choices(studio, preset), value=kept)]

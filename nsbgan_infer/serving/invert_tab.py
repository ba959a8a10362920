"""The page's third tab: a photo is found among a sampler's pictures, and then drawn as something else.

As on the first tab a ticket starts the job, so a mistake is answered at once even while others' jobs run. What was
found stays the visitor's until another photo is.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from nsbgan_infer.inversion import STEPS, Freedom, late_steps
from nsbgan_infer.serving import darkroom, fragments, inverting
from nsbgan_infer.serving.actions import Studio
from nsbgan_infer.serving.controls import (
    ASKED,
    AT_ONCE,
    ONE_JOB,
    class_field,
    island,
    mends,
    problem_for,
    raw,
    show_problems,
    show_tiles,
    unfold,
)
from nsbgan_infer.serving.front import ASSETS
from nsbgan_infer.serving.inverting import Found
from nsbgan_infer.serving.problems import PageError, Problem, ask_one_class, problem_of
from nsbgan_infer.serving.redraw_panel import RedrawPanel
from nsbgan_infer.serving.settings import number_of

MOST_STEPS = 300
NAMES = ("photo", "text", "preset", "freedom", "steps")
FIELDS = ("invert-photo", "invert-class", "invert-steps", "invert-page")
FOLDED = ("invert-steps",)
MOVED: dict[str, Freedom] = {
    "all of it: nearest to your photo": "pixels",
    "less: between the two": "layers",
    "only what it draws from: best for the next steps": "vector",
}
TIME = "80 take about half a minute on one quiet core, longer on a busy one; the bar says what is left."
EXAMPLE = (
    '<p class="none">No photo at hand? '
    '<button type="button" class="quiet" data-act="example">Take this one</button></p>'
)
INVITE = (
    "Bring a photo: the network looks for the numbers from which it draws a picture like yours. With these it can draw "
    "it as something else."
)


def invert_tab(gr: Any, studio: Studio, preset: str) -> None:
    """The photo on the left; on the right the comparison, the files, and what else may be drawn."""
    offered = studio.invertible()
    first = preset if preset in offered else next(iter(offered))
    which = raw(gr.Dropdown([(told, n) for n, told in offered.items()], value=first, label="Preset",
                            elem_id="invert-preset", visible=len(offered) > 1, render=False))  # fmt: skip
    with gr.Row(elem_classes="split"):
        with gr.Column(scale=5, elem_classes="asks"):
            photo = gr.File(label="Your photo", file_count="single", elem_id="invert-photo", height=150)
            photo.preprocess = lambda upload: upload and upload.path  # gradio would ask for the kind by its ending
            limits = f"{darkroom.limits_text()} Its central square is taken. It leaves this server after a day."
            gr.HTML(f'<p class="none">{limits}</p>', apply_default_css=False)
            example = island(gr, "invert-example", "acts", "example", value=EXAMPLE)
            problem = problem_for(gr, "invert-photo")
            facts = island(gr, "invert-facts", "acts")
            with gr.Row(elem_classes="go"):
                go = gr.Button("Find it", variant="primary", elem_id="invert")
                stop = gr.Button("Cancel", elem_id="cancel-invert")
            shows = class_field(gr, studio, which, name="invert-class", label="What does it show?", value="",
                                first=first, info="Empty: what a classifier sees in it.", optional=True)  # fmt: skip
            with gr.Accordion("More", open=False, elem_id="more-invert") as more:
                steps = raw(gr.Slider(0, MOST_STEPS, STEPS, step=10, label="Steps", elem_id="invert-steps", info=TIME))
                steps_problem = problem_for(gr, "invert-steps")
                freedom = raw(gr.Dropdown(list(MOVED.items()), value="pixels", label="What may be moved in the network",
                                          elem_id="invert-freedom"))  # fmt: skip
                which.render()
        with gr.Column(scale=8, elem_classes="results"):
            status = island(gr, "invert-status", "strip", value=fragments.say(INVITE))
            general = problem_for(gr, "invert-page")
            viewer = island(gr, "invert-compare", "compare", value=None, template="<div></div>")
            files = island(gr, "invert-files", "acts")
            after = RedrawPanel(gr, studio, which, first)
    ticket, found, at = gr.State(None), gr.State({}), gr.State({})  # a visitor's own, which jobs write into
    told = [problem, shows.problem, steps_problem, general, more]
    mends(gr, steps, steps_problem, _check_steps)

    photo.change(lambda path: _chosen(studio, path), photo, [facts, problem, general], **AT_ONCE)
    problem.shrink(lambda path: _shrunk(studio, path), photo, [photo, problem, general], **AT_ONCE)
    which.change(lambda preset, *texts: _preset_changed(studio, preset, *texts), [which, shows.box, after.field.box],
                 [shows.tiles, after.field.tiles], **AT_ONCE)  # fmt: skip

    example.example(lambda: _example(studio), None, photo, **AT_ONCE)

    def ask(at: dict[str, int], *values: Any) -> list[Any]:
        at.clear()
        return _ask(gr, studio, dict(zip(NAMES, values, strict=True)))

    inputs = [at, photo, shows.box, which, freedom, steps]
    gr.on([go.click, shows.box.submit], ask, inputs, [ticket, status, *told], **ASKED)

    def find(ticket: Mapping[str, Any] | None, found: dict[str, Found], at: dict[str, int]) -> Iterator[list[Any]]:
        yield from _find(gr, studio, ticket, found, at)

    job = ticket.change(find, [ticket, found, at],
                        [viewer, files, after.pictures, after.film, after.status, status, *told[:-1]],
                        show_progress_on=status, show_progress="minimal", api_visibility="private",
                        **ONE_JOB)  # fmt: skip
    stop.click(None, cancels=[job], queue=False)
    job.failure(_stopped, at, status, queue=False)
    after.connect(found)


def _chosen(studio: Studio, path: str | None) -> list[str]:
    """What is said of a photo that was just brought, and the problems of photo and page."""
    if path is None:
        return ["", "", ""]
    try:
        looked = inverting.look_at(studio, Path(path))
    except PageError as error:
        return ["", *show_problems(error.problems, (FIELDS[0], FIELDS[-1]))]
    side = min(looked.size)
    taken = "taken whole" if max(looked.size) == side else f"of which this square of {side} x {side} is taken"
    text = f"{looked.size[0]} x {looked.size[1]} pixels, {taken}."
    return [fragments.photo_facts(looked.thumb, looked.name, text), "", ""]


def _example(studio: Studio) -> str:
    """A picture to try it with: the first tab's own example, as a file of the visitor's."""
    return str(shutil.copy(ASSETS / "example.webp", studio.new_folder() / "example.webp"))


def _shrunk(studio: Studio, path: str | None) -> list[Any]:
    """The smaller photo takes the place of the large one."""
    try:
        smaller = str(darkroom.shrink(studio, Path(path), field=FIELDS[0])) if path else None
    except PageError as error:
        return [None, *show_problems(error.problems, (FIELDS[0], FIELDS[-1]))]
    return [smaller, "", ""]


def _preset_changed(studio: Studio, preset: str, shows: str, other: str) -> list[str]:
    """The classes to choose from."""
    return [
        show_tiles(studio, preset, shows, "What does it show?"),
        show_tiles(studio, preset, other, "As another class"),
    ]


def _ask(gr: Any, studio: Studio, values: Mapping[str, Any]) -> list[Any]:
    """A ticket for the job and no problems; or problems and nothing else."""
    try:
        wanted = check(values, studio)
    except PageError as error:
        return [gr.skip(), gr.skip(), *show_problems(error.problems, FIELDS), unfold(gr, error.problems, FOLDED)]
    said = fragments.say("In the queue.", 0, max(1, wanted["steps"]))
    return [{**wanted, "at": time.time_ns()}, said, *show_problems((), FIELDS), gr.skip()]


def check(values: Mapping[str, Any], studio: Studio) -> dict[str, Any]:
    """What `find_photo` is to be called with. Raises PageError with a problem for each field that is wrong."""
    problems: list[Problem] = []
    if values["photo"] is None:
        problems.append(Problem(FIELDS[0], "Choose a photo first: click the field above, or drop one on it."))
    preset, freedom = str(values["preset"]), str(values["freedom"])
    if preset not in studio.invertible() or freedom not in get_args(Freedom):
        raise PageError(Problem("invert-page", "This choice is not offered here. Choose one of the list."))
    class_id, steps = "", None
    try:
        text = str(values["text"] or "")[:2000]
        class_id = ask_one_class(text, studio.available(preset), "invert-class", optional=True)
    except PageError as error:
        problems += error.problems
    try:
        steps = _check_steps(values["steps"])
    except PageError as error:
        problems += error.problems
    if problems:
        raise PageError(*problems)
    return {
        "file": str(values["photo"]),
        "preset": preset,
        "class_id": int(class_id) if class_id else None,
        "steps": steps,
        "freedom": freedom,
    }


def _find(
    gr: Any, studio: Studio, ticket: Mapping[str, Any] | None, found: dict[str, Found], at: dict[str, int]
) -> Iterator[list[Any]]:
    """The job: viewer, files, what was drawn of the photo before, status, and problems. `at` always says how far it
    is."""
    if ticket is None:
        return
    keep, quiet = [gr.skip()] * 5, [gr.skip()] * len(FIELDS)
    steps = ticket["steps"]
    at.update(done=0, steps=steps)
    try:
        # without a bar nothing could be cancelled
        yield [*keep, fragments.say("Reading the photo and making a first guess.", 0, max(1, steps)), *quiet]
        late = late_steps(studio.pipeline(ticket["preset"]), steps)
        wanted = {k: ticket[k] for k in ("class_id", "steps", "freedom")}
        work = inverting.find_photo(studio, Path(ticket["file"]), ticket["preset"], **wanted)
        start = 0.0
        while True:
            try:
                done = next(work)
            except StopIteration as finished:
                one: Found = finished.value
                break
            at.update(done=done, steps=steps)
            start = start or time.perf_counter()  # the first step has been slow: it loads
            left = inverting.seconds_left(done, steps, late, time.perf_counter() - start)
            yield [*keep, fragments.say(_progress(done, steps, left), done, steps), *quiet]
    except Exception as error:
        problems = error.problems if isinstance(error, PageError) else (problem_of(error),)
        yield [*keep, fragments.say("Nothing was found."), *show_problems(problems, FIELDS)]
        return
    if "one" in found:
        found.update(before=found["one"])
    found.update(one=one)
    links = [
        fragments.link(studio.url(Path(path)), Path(path).name, text, strong=strong)
        for path, text, strong in ((one.picture, "Save the picture", True), (one.file, "Save the latents", False))
    ]
    yield [one.compared, "".join(links), "", "", "", fragments.say(one.report), *quiet]


def _progress(done: int, steps: int, left: float) -> str:
    if done == steps:
        return "Drawing the picture."
    return f"Step {done} of {steps}." + (f" About {_round_up(left)} s are left." if done > 4 else "")


def _round_up(seconds: float) -> int:
    """A time as it is told: to 5 seconds from 10 on."""
    return int(seconds) + 1 if seconds < 10 else 5 * (int(seconds) // 5 + 1)


def _stopped(at: Mapping[str, int]) -> str:
    return fragments.say(f"Stopped at step {at['done']} of {at['steps']}: nothing was written." if at else "Stopped.")


def _check_steps(steps: Any) -> int:
    number = number_of(steps, 0, MOST_STEPS, True)
    if number is None:
        text = f"The number of steps must be a whole number from 0, the first guess, to {MOST_STEPS}."
        raise PageError(Problem("invert-steps", text))
    return int(number)

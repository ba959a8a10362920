"""The page's last two tabs: every step of one picture, and the way from one picture to another."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from nsbgan_infer.latents import LAST_SEED
from nsbgan_infer.serving import darkroom, fragments
from nsbgan_infer.serving.actions import Studio
from nsbgan_infer.serving.controls import (
    ONE_JOB,
    class_field,
    island,
    mends,
    name_of,
    problem_for,
    raw,
    show_problems,
    unfold,
)
from nsbgan_infer.serving.generate_tab import OWN
from nsbgan_infer.serving.problems import PageError, Problem, ask_one_class, problem_of
from nsbgan_infer.serving.settings import LEAST_TRUNCATION, number_of

FEWEST, MOST_FRAMES = 4, 48
FOLDED = ("steps-seed", "steps-truncation", "from-seed", "to-seed", "frames", "walk-truncation")


def steps_tab(gr: Any, studio: Studio, preset: str) -> None:
    """Every intermediate of one image, and two decoders on the same latents."""
    which = gr.State(preset)
    with gr.Row(elem_classes="split"):
        with gr.Column(scale=5, elem_classes="asks"):
            field = class_field(gr, studio, which, name="steps-class", label="Class", value="golden retriever",
                                first=preset)  # fmt: skip
            with gr.Row(elem_classes="go"):
                go = gr.Button("Show the steps", variant="primary", elem_id="stages")
            with gr.Accordion("More", open=False, elem_id="more-steps") as more:
                seed, seed_problem = _number(gr, "steps-seed", "Seed", 2)
                truncation, truncation_problem = _truncation(gr, "steps-truncation")
                choices = [(told, name) for name, told in studio.decoders(preset).items()]
                plain = "iwt" if "iwt" in studio.decoders(preset) else ""
                left = raw(gr.Dropdown([(OWN, ""), *choices], value="", label="Decoder A", elem_id="left"))
                right = raw(gr.Dropdown([(OWN, ""), *choices], value=plain, label="Decoder B", elem_id="right"))
        with gr.Column(scale=8, elem_classes="results"):
            text = "A class and a seed become latents, a sample, low bands, and the picture: see each of them."
            status = gr.HTML(fragments.say(text), elem_id="steps-status", apply_default_css=False)
            general = problem_for(gr, "steps-page")
            shown = island(gr, "steps", "acts")
            viewer = island(gr, "pair", "compare", value=None, template="<div></div>")
    fields = ("steps-class", "steps-seed", "steps-truncation", "steps-page")
    told = [field.problem, seed_problem, truncation_problem, general, more]

    def show(text: str, seed: Any, truncation: Any, left: str, right: str) -> Iterator[list[Any]]:
        try:
            class_id = ask_one_class(text, studio.available(preset), "steps-class")
            number, amount = _checked(seed, truncation, "steps-seed", "steps-truncation")
            yield [gr.skip(), gr.skip(), fragments.say("Drawing."), *show_problems((), fields), gr.skip()]
            steps, a, b = studio.stages(preset, class_id, seed=number, truncation=amount, decoders=(left, right))
            folder = studio.new_folder()
            names = [left or OWN, right or OWN]
            sides = [darkroom.save_side(studio, x, folder / f"side{i}", names[i]) for i, x in enumerate((a, b))]
            html = _step_figures(studio, steps, folder)
            compared = darkroom.compared(sides, a.size)
        except Exception as error:
            problems = error.problems if isinstance(error, PageError) else (problem_of(error),)
            yield [
                gr.skip(),
                gr.skip(),
                fragments.say("Nothing was drawn."),
                *show_problems(problems, fields),
                unfold(gr, problems, FOLDED),
            ]
            return
        said = fragments.say("From the sample to the picture, then two decoders on the same latents.")
        yield [html, compared, said, *show_problems((), fields), gr.skip()]

    gr.on([go.click, field.box.submit], show, [field.box, seed, truncation, left, right],
          [shown, viewer, status, *told], show_progress_on=status, show_progress="minimal",
          api_visibility="private", **ONE_JOB)  # fmt: skip


def walk_tab(gr: Any, studio: Studio, preset: str) -> None:
    """From one latent or class to another, as an animation."""
    which = gr.State(preset)
    with gr.Row(elem_classes="split"):
        with gr.Column(scale=5, elem_classes="asks"):
            a = class_field(gr, studio, which, name="from", label="From", value="golden retriever", first=preset)
            b = class_field(gr, studio, which, name="to", label="To", value="church", first=preset)
            with gr.Row(elem_classes="go"):
                go = gr.Button("Walk", variant="primary", elem_id="walk")
                stop = gr.Button("Cancel", elem_id="cancel-walk")
            with gr.Accordion("More", open=False, elem_id="more-walk") as more:
                seed_a, problem_a = _number(gr, "from-seed", "Seed of the start", 2)
                seed_b, problem_b = _number(gr, "to-seed", "Seed of the end", 2)
                frames = raw(gr.Slider(FEWEST, MOST_FRAMES, 16, step=1, label="Frames", elem_id="frames"))
                problem_frames = problem_for(gr, "frames")
                truncation, problem_truncation = _truncation(gr, "walk-truncation")
        with gr.Column(scale=8, elem_classes="results"):
            status = island(
                gr, "walked", "strip", value=fragments.say("One picture turns into another: a film there and back.")
            )
            general = problem_for(gr, "walk-page")
            film = island(gr, "film", "acts")
    at = gr.State({})  # a visitor's own table, which the job writes into
    fields = ("from", "to", "from-seed", "to-seed", "frames", "walk-truncation", "walk-page")
    told = [a.problem, b.problem, problem_a, problem_b, problem_frames, problem_truncation, general, more]
    mends(gr, frames, problem_frames, _check_frames)

    def run(*values: Any) -> Iterator[list[Any]]:
        yield from _walk(gr, studio, preset, values, fields)

    inputs = [a.box, b.box, seed_a, seed_b, frames, truncation, at]
    job = go.click(run, inputs, [film, status, *told], show_progress_on=status, show_progress="minimal",
                   api_visibility="private", **ONE_JOB)  # fmt: skip
    stop.click(None, cancels=[job], queue=False)
    job.failure(_walk_stopped, at, status, queue=False)


def _walk(gr: Any, studio: Studio, preset: str, values: Any, fields: tuple[str, ...]) -> Iterator[list[Any]]:
    """The job: film, status, and problems."""
    text_a, text_b, seed_a, seed_b, frames, truncation, at = values
    quiet = [gr.skip()] * (len(fields) + 1)
    try:
        start = ask_one_class(text_a, studio.available(preset), "from")
        end = ask_one_class(text_b, studio.available(preset), "to")
        first, amount = _checked(seed_a, truncation, "from-seed", "walk-truncation")
        last, _ = _checked(seed_b, truncation, "to-seed", "walk-truncation")
        total = _check_frames(frames)
        said = fragments.say("In work.", 0, total)
        at.update(done=0, total=total)
        yield [gr.skip(), said, *show_problems((), fields), gr.skip()]
        for done, made in studio.walk(preset, (start, first), (end, last), steps=total, truncation=amount):
            if made is None:
                said = fragments.say(f"Frame {done} of {total}.", done, total)
                at.update(done=done, total=total)
                yield [gr.skip(), said, *quiet]
    except Exception as error:
        problems = error.problems if isinstance(error, PageError) else (problem_of(error),)
        yield [gr.skip(), fragments.say("No film was made."), *_told(gr, problems, fields)]
        return
    assert made is not None
    names = [name_of(c) if c else "a picture" for c in (start, end)]
    text = f"From {names[0]}, seed {first}, to {names[1]}, seed {last}, in {total} frames"
    html = fragments.film(studio.url(Path(made.file)), "walk.webp", text, made.recipe, made.side)
    yield [html, fragments.say(f"{total} frames, there and back."), *quiet]


def _told(gr: Any, problems: Any, fields: tuple[str, ...]) -> list[Any]:
    return [*show_problems(problems, fields), unfold(gr, problems, FOLDED)]


def _walk_stopped(at: dict[str, int]) -> str:
    return fragments.say(f"Stopped at frame {at['done']} of {at['total']}: no film was written." if at else "Stopped.")


def _step_figures(studio: Studio, steps: Any, folder: Path) -> str:
    shown = []
    for number, (image, caption) in enumerate(steps):
        path = folder / f"step{number}.png"
        image.save(path, compress_level=1)
        text = escape(caption, quote=True)
        shown.append(
            f'<figure class="step"><img src="{studio.url(path)}" alt="{text}" width="{image.width}" '
            f'height="{image.height}"><figcaption>{text}</figcaption></figure>'
        )
    return f'<div class="steps">{"".join(shown)}</div>'


def _checked(seed: Any, truncation: Any, seed_field: str, truncation_field: str) -> tuple[int, float]:
    number = number_of(seed, 0, LAST_SEED, True)
    if number is None:
        raise PageError(Problem(seed_field, f"The seed must be a whole number from 0 to {LAST_SEED:,}."))
    return int(number), _check_truncation(truncation, truncation_field)


def _check_truncation(truncation: Any, field: str) -> float:
    amount = number_of(truncation, LEAST_TRUNCATION, 1.0, False)
    if amount is None:
        raise PageError(Problem(field, f"The truncation must be a number from {LEAST_TRUNCATION} to 1."))
    return amount


def _check_frames(frames: Any) -> int:
    number = number_of(frames, FEWEST, MOST_FRAMES, True)
    if number is None:
        text = f"The number of frames must be a whole number from {FEWEST} to {MOST_FRAMES}."
        raise PageError(Problem("frames", text))
    return int(number)


def _number(gr: Any, name: str, label: str, value: int) -> tuple[Any, Any]:
    """A seed's field and the place of its problem."""
    field, problem = raw(gr.Number(value, label=label, elem_id=name)), problem_for(gr, name)
    mends(gr, field, problem, lambda seed: _checked(seed, 0.5, name, ""))
    return field, problem


def _truncation(gr: Any, name: str) -> tuple[Any, Any]:
    field = raw(gr.Slider(LEAST_TRUNCATION, 1.0, 0.5, step=0.05, label="Truncation", elem_id=name))
    problem = problem_for(gr, name)
    mends(gr, field, problem, lambda amount: _check_truncation(amount, name))
    return field, problem

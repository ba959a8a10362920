"""The page's second tab: one's own photo, enlarged, and laid over what plain bicubic makes of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nsbgan_infer.serving import darkroom, fragments
from nsbgan_infer.serving.actions import Studio
from nsbgan_infer.serving.choices import upscalers
from nsbgan_infer.serving.controls import AT_ONCE, ONE_JOB, island, problem_for, raw, show_problems
from nsbgan_infer.serving.problems import PageError, Problem, problem_of
from nsbgan_infer.storage.shipped import default_upscaler

BEST = "the best for photos"
BOTH = "the best and the sharp one, side by side"
FIELDS = ("photo", "photo-page")


def photo_tab(gr: Any, studio: Studio) -> None:
    """The photo on the left, the comparison and the file on the right."""
    sharp = darkroom.sharp_decoder()
    with gr.Row(elem_classes="split"):
        with gr.Column(scale=5, elem_classes="asks"):
            photo = gr.File(label="Your photo", file_count="single", elem_id="photo", height=150)
            photo.preprocess = lambda upload: upload and upload.path  # gradio would ask for the kind by its ending
            gr.HTML(f'<p class="none">{darkroom.limits_text()} It leaves this server after a day.</p>',
                    apply_default_css=False)  # fmt: skip
            problem = problem_for(gr, "photo")
            facts = island(gr, "photo-facts", "acts")
            with gr.Row(elem_id="go-photo", elem_classes="go"):
                go = gr.Button("Enlarge four times", variant="primary", elem_id="enlarge")
                stop = gr.Button("Cancel", elem_id="cancel-photo")
            with gr.Accordion("More", open=False, elem_id="more-photo"):
                both = [(BOTH, "both")] if sharp else []
                named = [(told, name) for name, told in upscalers().items()]
                decoder = raw(gr.Dropdown([(BEST, ""), *both, *named], value="", label="Decoder", elem_id="enlarger"))
        with gr.Column(scale=8, elem_classes="results"):
            status = island(
                gr, "photo-status", "strip", value=fragments.say("Choose a photo: it is shown here, before and after.")
            )
            general = problem_for(gr, "photo-page")
            viewer = island(gr, "compare", "compare", value=None, template="<div></div>")
            files = island(gr, "large", "acts")
    done = gr.State({})  # a visitor's own table, which the job writes into
    told = [problem, general]

    def chosen(path: str | None) -> list[Any]:
        return _chosen(studio, path)

    photo.change(chosen, photo, [facts, *told], **AT_ONCE)
    problem.shrink(lambda path: _shrunk(studio, path), photo, [photo, *told], **AT_ONCE)

    def enlarge(path: str | None, decoder: str, at: dict[str, int]) -> Iterator[list[Any]]:
        names = {"": (), "both": (default_upscaler(), sharp or "")}.get(decoder, (decoder,))
        yield from _enlarge(gr, studio, path, names, at)

    job = go.click(enlarge, [photo, decoder, done], [viewer, files, status, *told], show_progress_on=status,
                   show_progress="minimal", api_visibility="private", **ONE_JOB)  # fmt: skip
    stop.click(None, cancels=[job], queue=False)
    job.failure(_stopped, done, status, queue=False)


def _chosen(studio: Studio, path: str | None) -> list[str]:
    """What is said of a photo that was just brought, and its problems."""
    if path is None:
        return ["", *show_problems((), FIELDS)]
    try:
        looked = darkroom.look(studio, Path(path))
    except PageError as error:
        return ["", *show_problems(error.problems, FIELDS)]
    (w, h), (n, m) = looked.size, (looked.size[0] * 4, looked.size[1] * 4)
    text = f"{w} x {h} pixels, will become {n} x {m}."
    return [fragments.photo_facts(looked.thumb, looked.name, text), *show_problems((), FIELDS)]


def _shrunk(studio: Studio, path: str | None) -> list[Any]:
    """The smaller photo takes the place of the large one."""
    try:
        return [str(darkroom.shrink(studio, Path(path or ""))), *show_problems((), FIELDS)]
    except Exception as error:
        problems = error.problems if isinstance(error, PageError) else (problem_of(error),)
        return [path, *show_problems(problems, FIELDS)]


def _enlarge(
    gr: Any, studio: Studio, path: str | None, names: tuple[str, ...], at: dict[str, int]
) -> Iterator[list[Any]]:
    """The job: comparison, files, status, and problems. `at` always says how far it is."""
    quiet = [gr.skip()] * len(FIELDS)
    at.update(done=0, total=1)
    try:
        if path is None:
            raise PageError(Problem("photo", "Choose a photo first: click the field above, or drop one on it."))
        yield [gr.skip(), "", fragments.say("Reading the photo."), *show_problems((), FIELDS)]
        steps = darkroom.enlarge_for_page(studio, Path(path), names)
        while True:
            try:
                done, total = next(steps)
            except StopIteration as finished:
                made: darkroom.Enlarged = finished.value
                break
            at.update(done=done, total=total)
            text = f"{done / total:.0%}: part {done} of {total}." if done < total else "Writing the file."
            # between two of these it can be cancelled
            yield [gr.skip(), gr.skip(), fragments.say(text, done, total), *quiet]
    except Exception as error:
        problems = error.problems if isinstance(error, PageError) else (problem_of(error),)
        said = fragments.say("Nothing was enlarged.")
        yield [gr.skip(), gr.skip(), said, *show_problems(problems, FIELDS)]
        return
    links = "".join(
        fragments.link(
            studio.url(Path(file)), Path(file).name, "Save the result" + f" ({name})" * (len(made.files) > 1)
        )
        for name, file in made.files
    )
    yield [made.compared, links, fragments.say(made.report), *quiet]


def _stopped(at: dict[str, int]) -> str:
    return fragments.say(f"Stopped at {at['done'] / at['total']:.0%}: no file was written.")

"""The page's four tabs in gradio. Every button that computes waits in one queue; searching for classes does not."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any

from nsbgan_infer.errors import NsbError, UsageError
from nsbgan_infer.serving.actions import Enlarged, Studio
from nsbgan_infer.serving.choices import decoders, presets, typed

OWN = "the preset's own"
BEST = "the best for photos"
ONE_JOB = {"concurrency_id": "work", "concurrency_limit": 1}


def generate_tab(gr: Any, studio: Studio, preset: str, page: Any) -> None:
    """Classes, settings and rejection on the left; pictures, times and downloads on the right."""
    bar = gr.Progress()  # as a default, it is how gradio hands the event's own bar to a function
    with gr.Row():
        with gr.Column(scale=1):
            classes = gr.Textbox(
                label="Class",
                value="golden retriever",
                elem_id="class",
                info="A name or id, several with ; between them, or click a picture.",
            )
            find = gr.Button("Search classes", size="sm", elem_id="search")
            found = gr.Gallery(
                label="Classes",
                show_label=False,
                height=230,
                allow_preview=False,
                buttons=[],
                elem_id="found",
            )
            with gr.Row():
                seed = gr.Number(0, label="Seed", precision=0, minimum=0)
                count = gr.Number(2, label="Images of each", precision=0, minimum=1, maximum=16, elem_id="count")
            truncation = gr.Slider(0.05, 1.0, 0.5, step=0.05, label="Truncation")
            threshold = gr.Slider(
                0.0,
                0.95,
                0.0,
                step=0.05,
                label="Reject below",
                info="Least probability of the class; 0: keep all.",
                elem_id="reject",
            )
            with gr.Row():
                which = gr.Dropdown(presets(), value=preset, label="Preset")
                decoder = gr.Dropdown([OWN, *decoders()], value=OWN, label="Decoder")
            with gr.Row():
                go = gr.Button("Generate", variant="primary", elem_id="generate")
                stop = gr.Button("Cancel", elem_id="cancel")
        with gr.Column(scale=2):
            gallery = gr.Gallery(label="Pictures", columns=2, height="auto", elem_id="pictures", type="filepath")
            report = gr.Textbox(label="Time of each step", interactive=False, elem_id="report")
            files = gr.Files(label="Download, with the recipe inside", elem_id="files", interactive=False)

    def make(
        text: str,
        seed: float,
        count: float,
        truncation: float,
        threshold: float,
        preset: str,
        decoder: str,
        progress: Any = bar,
    ) -> Iterator[tuple[list[tuple[str, str]], str, list[str]]]:
        drawn = 0

        def step(name: str, done: int, total: int) -> None:
            nonlocal drawn
            drawn += name == "sample"
            progress((done, total), desc=f"{name} of draw {drawn}", unit="pictures")

        for made in studio.generate(
            preset,
            _names(text),
            seed=int(seed),
            count=int(count),
            truncation=truncation,
            decoder=_ref(decoder),
            threshold=threshold,
            progress=step,
        ):
            yield list(zip(made.files, made.captions, strict=True)), made.report, list(made.files)

    inputs = [classes, seed, count, truncation, threshold, which, decoder]
    job = gr.on(
        [go.click, classes.submit],
        sentences(gr, make),
        inputs,
        [gallery, report, files],
        show_progress_on=report,
        **ONE_JOB,
    )
    _stops(stop, job, report)
    gr.on(
        [page.load, which.change],
        sentences(gr, lambda preset: studio.thumbnails(preset, "")),
        which,
        found,
        show_progress="hidden",
    )
    find.click(sentences(gr, lambda preset, text: studio.thumbnails(preset, _last(text))), [which, classes], found)
    found.select(_picked(gr), classes, classes, show_progress="hidden")


def enlarge_tab(gr: Any, studio: Studio) -> None:
    """One's own photo, bicubic against decoded, and the result as a file."""
    bar = gr.Progress()
    with gr.Row():
        with gr.Column(scale=1):
            photo = gr.Image(
                type="filepath", image_mode=None, sources=["upload", "clipboard"], label="Your photo", elem_id="photo"
            )
            photo.preprocess = lambda upload: upload and upload.path  # gradio would open any format to look at it
            decoder = gr.Dropdown([BEST, *decoders()], value=BEST, label="Decoder")
            with gr.Row():
                go = gr.Button("Enlarge four times", variant="primary", elem_id="enlarge")
                stop = gr.Button("Cancel")
        with gr.Column(scale=2):
            slider = gr.ImageSlider(label="Bicubic | decoded", type="pil", format="png", elem_id="slider")
            report = gr.Textbox(label="What was done", interactive=False, elem_id="enlarged")
            file = gr.File(label="Download", interactive=False, elem_id="large")

    def enlarge(photo: str | None, decoder: str, progress: Any = bar) -> Iterator[tuple[Any, Any, Any]]:
        if photo is None:
            raise UsageError("Choose a photo first.")
        steps = studio.enlarge_in_steps(Path(photo), _ref(decoder))
        while True:
            try:
                done, total = next(steps)
            except StopIteration as finished:
                made: Enlarged = finished.value
                yield (made.before, made.after), made.report, made.file
                return
            progress((done, total), unit="tiles")
            yield gr.skip(), f"{done} of {total} tiles", gr.skip()  # between two of these it can be cancelled

    outputs = [slider, report, file]
    job = go.click(sentences(gr, enlarge), [photo, decoder], outputs, show_progress_on=slider, **ONE_JOB)
    _stops(stop, job, report)


def stages_tab(gr: Any, studio: Studio, preset: str) -> None:
    """Every intermediate of one image, and two decoders on the same latents."""
    with gr.Row():
        name = gr.Textbox(label="Class", value="golden retriever", elem_id="stages-class")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0)
        truncation = gr.Slider(0.05, 1.0, 0.5, step=0.05, label="Truncation")
        left = gr.Dropdown([OWN, *decoders()], value=OWN, label="Decoder left", elem_id="left")
        right = gr.Dropdown([OWN, *decoders()], value="iwt", label="Decoder right", elem_id="right")
        go = gr.Button("Show the stages", variant="primary", elem_id="stages")
    shown = gr.Gallery(label="From the sample to the picture", columns=4, height="auto", elem_id="steps")
    slider = gr.ImageSlider(label="The same latents, two decoders", type="pil", format="png", elem_id="pair")

    def show(name: str, seed: float, truncation: float, left: str, right: str) -> tuple[Any, tuple[Any, Any]]:
        pair = (_ref(left), _ref(right))
        steps, a, b = studio.stages(preset, name, seed=int(seed), truncation=truncation, decoders=pair)
        return steps, (a, b)

    inputs = [name, seed, truncation, left, right]
    go.click(sentences(gr, show), inputs, [shown, slider], show_progress_on=shown, **ONE_JOB)


def walk_tab(gr: Any, studio: Studio, preset: str) -> None:
    """From one latent or class to another, as an animation."""
    bar = gr.Progress()
    with gr.Row():
        a = gr.Textbox(label="From class", value="golden retriever", elem_id="from")
        seed_a = gr.Number(0, label="Seed", precision=0, minimum=0)
        b = gr.Textbox(label="To class", value="church", elem_id="to")
        seed_b = gr.Number(1, label="Seed", precision=0, minimum=0)
        steps = gr.Slider(4, 48, 16, step=1, label="Frames", elem_id="frames")
        truncation = gr.Slider(0.05, 1.0, 0.5, step=0.05, label="Truncation")
    with gr.Row():
        go = gr.Button("Walk", variant="primary", elem_id="walk")
        stop = gr.Button("Cancel")
    status = gr.Textbox(label="Frames", interactive=False, elem_id="walked")
    film = gr.Image(label="Animated WebP", type="filepath", format="webp", elem_id="film", buttons=["download"])

    def run(
        a: str, seed_a: float, b: str, seed_b: float, steps: float, truncation: float, progress: Any = bar
    ) -> Iterator[tuple[str | None, str]]:
        ends = ((a, int(seed_a)), (b, int(seed_b)))
        for done, path in studio.walk(preset, *ends, steps=int(steps), truncation=truncation):
            progress((done, int(steps)), unit="frames")
            yield path, f"{done} of {int(steps)}"

    inputs = [a, seed_a, b, seed_b, steps, truncation]
    job = go.click(sentences(gr, run), inputs, [film, status], show_progress_on=status, **ONE_JOB)
    _stops(stop, job, status)


def _stops(button: Any, job: Any, report: Any) -> None:
    """`button` cancels `job`. `report` says so once the job has really ended and its button takes clicks again;
    a function of the click itself would run before that (gradio does not wait for a cancellation)."""
    button.click(None, cancels=[job], queue=False)
    job.failure(lambda: "Stopped: what was finished stays.", None, report, queue=False)


def sentences(gr: Any, work: Callable[..., Any]) -> Callable[..., Any]:
    """Our errors appear on the page as their one sentence, others with their type; the terminal shows where."""

    def shown(error: Exception) -> Exception:
        if isinstance(error, NsbError):
            failed: Exception = gr.Error(str(error), print_exception=False)
        else:
            failed = gr.Error(f"Unexpected {type(error).__name__}: {error} (the terminal shows where).")
        return failed

    if inspect.isgeneratorfunction(work):

        @wraps(work)
        def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
            try:
                yield from work(*args, **kwargs)
            except Exception as error:
                raise shown(error) from error

        return stream

    @wraps(work)
    def once(*args: Any, **kwargs: Any) -> Any:
        try:
            return work(*args, **kwargs)
        except Exception as error:
            raise shown(error) from error

    return once


def _picked(gr: Any) -> Callable[..., str]:
    def picked(text: str, event: gr.SelectData) -> str:
        """The class clicked on takes the place of the last one in the text."""
        before = _names(text)[:-1]
        return "; ".join([*before, typed(str(event.value["caption"]))])

    picked.__annotations__ = {"text": str, "event": gr.SelectData, "return": str}  # gradio finds the event by it
    return picked


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(";") if part.strip()]


def _last(text: str) -> str:
    return (_names(text) or [""])[-1]


def _ref(decoder: str) -> str:
    return "" if decoder in (OWN, BEST) else decoder

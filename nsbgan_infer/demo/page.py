"""The web page's layout in gradio: four tabs over one `Studio`, one job at a time with a queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any

from nsbgan_infer.demo.studio import Studio
from nsbgan_infer.errors import NsbError, UsageError, missing_extra
from nsbgan_infer.presets import PRESETS
from nsbgan_infer.registry import entries

TITLE = "nsbgan"
OWN = "the preset's own"


def build_page(studio: Studio, preset: str = "embedded") -> Any:
    """The page as a gradio `Blocks`, not yet served. Raises MissingExtraError without gradio."""
    gr = _gradio()
    with gr.Blocks(title=TITLE, analytics_enabled=False) as page:
        gr.Markdown("# nsbgan\nA class becomes a latent, a sample, a low band, and a 512 x 512 picture.")
        with gr.Tab("Generate"):
            _generate_tab(gr, studio, preset)
        with gr.Tab("Enlarge a photo"):
            _enlarge_tab(gr, studio)
        with gr.Tab("Stages and decoders"):
            _stages_tab(gr, studio, preset)
        with gr.Tab("Walk"):
            _walk_tab(gr, studio, preset)
    return page.queue(default_concurrency_limit=1, max_size=32)


def serve(*, port: int | None = None, host: str = "127.0.0.1", preset: str = "embedded", block: bool = True) -> Any:
    """Build and serve the page. Raises UsageError if the port is taken."""
    studio = Studio()
    page = build_page(studio, preset)
    try:
        return page.launch(
            server_name=host,
            server_port=port,
            share=False,
            quiet=True,
            inbrowser=False,
            show_error=True,
            prevent_thread_lock=not block,
            allowed_paths=[str(studio.folder)],
        )
    except OSError as error:
        raise UsageError(f"Cannot serve on {host}:{port} ({error}): choose another --port.") from error


def _generate_tab(gr: Any, studio: Studio, preset: str) -> None:
    bar = gr.Progress()  # as a default, it is how gradio hands the event's own bar to a function
    with gr.Row():
        with gr.Column(scale=1):
            classes = gr.Textbox(
                label="Class", value="golden retriever", elem_id="class", info="name, id; several with ;"
            )
            find = gr.Button("Search classes", size="sm")
            found = gr.Gallery(label="Classes found (click one)", columns=4, height=200, allow_preview=False)
            with gr.Row():
                seed = gr.Number(0, label="Seed", precision=0, minimum=0)
                count = gr.Number(2, label="Images of each", precision=0, minimum=1, maximum=16)
            truncation = gr.Slider(0.05, 1.0, 0.5, step=0.05, label="Truncation")
            which = gr.Dropdown(sorted(PRESETS), value=preset, label="Preset")
            decoder = gr.Dropdown(_decoders(), value=OWN, label="Decoder")
            with gr.Row():
                go = gr.Button("Generate", variant="primary", elem_id="generate")
                stop = gr.Button("Cancel")
        with gr.Column(scale=2):
            gallery = gr.Gallery(label="Pictures", columns=2, height=640, elem_id="pictures", type="filepath")
            report = gr.Textbox(label="Time of each step", interactive=False, elem_id="report")
            files = gr.Files(label="Download, with the recipe inside", elem_id="files")

    def make(
        text: str,
        seed: float,
        count: float,
        truncation: float,
        preset: str,
        decoder: str,
        progress: Any = bar,
    ) -> Iterator[tuple[list[str], str, list[str]]]:
        for done in studio.generate(
            preset,
            _names(text),
            seed=int(seed),
            count=int(count),
            truncation=truncation,
            decoder=_ref(decoder),
        ):
            progress((len(done.files), done.total), unit="pictures")
            yield list(done.files), done.report, list(done.files)

    job = go.click(_sentences(gr, make), [classes, seed, count, truncation, which, decoder], [gallery, report, files])
    stop.click(None, cancels=[job])
    find.click(_sentences(gr, studio.thumbnails), [which, classes], found)
    found.select(_picked(gr), None, classes)


def _enlarge_tab(gr: Any, studio: Studio) -> None:
    with gr.Row():
        with gr.Column(scale=1):
            photo = gr.Image(type="pil", label="Your photo")
            decoder = gr.Dropdown(_decoders(), value=OWN, label="Decoder")
            go = gr.Button("Enlarge four times", variant="primary", elem_id="enlarge")
        with gr.Column(scale=2):
            slider = gr.ImageSlider(label="Bicubic | decoded", type="pil", elem_id="slider")
            report = gr.Textbox(label="What was done", interactive=False)

    def enlarge(photo: Any, decoder: str) -> tuple[tuple[Any, Any], str]:
        if photo is None:
            raise UsageError("Choose a photo first.")
        before, after, text = studio.enlarge(photo, _ref(decoder))
        return (before, after), text

    go.click(_sentences(gr, enlarge), [photo, decoder], [slider, report])


def _stages_tab(gr: Any, studio: Studio, preset: str) -> None:
    with gr.Row():
        name = gr.Textbox(label="Class", value="golden retriever")
        seed = gr.Number(0, label="Seed", precision=0, minimum=0)
        truncation = gr.Slider(0.05, 1.0, 0.5, step=0.05, label="Truncation")
        left = gr.Dropdown(_decoders(), value=OWN, label="Decoder left")
        right = gr.Dropdown(_decoders(), value="iwt", label="Decoder right")
        go = gr.Button("Show the stages", variant="primary", elem_id="stages")
    shown = gr.Gallery(label="From the sample to the picture", columns=4, height=420, elem_id="steps")
    slider = gr.ImageSlider(label="The same latents, two decoders", type="pil")

    def show(name: str, seed: float, truncation: float, left: str, right: str) -> tuple[Any, tuple[Any, Any]]:
        pair = (_ref(left), _ref(right))
        steps, a, b = studio.stages(preset, name, seed=int(seed), truncation=truncation, decoders=pair)
        return steps, (a, b)

    go.click(_sentences(gr, show), [name, seed, truncation, left, right], [shown, slider])


def _walk_tab(gr: Any, studio: Studio, preset: str) -> None:
    bar = gr.Progress()
    with gr.Row():
        a, seed_a = gr.Textbox(label="From class", value="golden retriever"), gr.Number(0, label="Seed", precision=0)
        b, seed_b = gr.Textbox(label="To class", value="church"), gr.Number(1, label="Seed", precision=0)
        steps = gr.Slider(4, 48, 16, step=1, label="Frames")
        truncation = gr.Slider(0.05, 1.0, 0.5, step=0.05, label="Truncation")
        go = gr.Button("Walk", variant="primary", elem_id="walk")
    film = gr.Image(label="Animated WebP", type="filepath", format="webp", elem_id="film")
    status = gr.Textbox(label="Frames", interactive=False)

    def run(
        a: str, seed_a: float, b: str, seed_b: float, steps: float, truncation: float, progress: Any = bar
    ) -> Iterator[tuple[str | None, str]]:
        ends = ((a, int(seed_a)), (b, int(seed_b)))
        for done, path in studio.walk(preset, *ends, steps=int(steps), truncation=truncation):
            progress((done, int(steps)), unit="frames")
            yield path, f"{done} of {int(steps)}"

    go.click(_sentences(gr, run), [a, seed_a, b, seed_b, steps, truncation], [film, status])


def _sentences(gr: Any, work: Callable[..., Any]) -> Callable[..., Any]:
    """Our errors appear on the page as their one sentence."""
    import inspect

    if inspect.isgeneratorfunction(work):

        @wraps(work)
        def stream(*args: Any, **kwargs: Any) -> Iterator[Any]:
            try:
                yield from work(*args, **kwargs)
            except NsbError as error:
                raise gr.Error(str(error), print_exception=False) from error

        return stream

    @wraps(work)
    def once(*args: Any, **kwargs: Any) -> Any:
        try:
            return work(*args, **kwargs)
        except NsbError as error:
            raise gr.Error(str(error), print_exception=False) from error

    return once


def _picked(gr: Any) -> Callable[..., str]:
    def picked(event: gr.SelectData) -> str:
        return str(event.value["caption"]).split(" ", 1)[0]

    picked.__annotations__ = {"event": gr.SelectData, "return": str}  # gradio finds the event by its annotation
    return picked


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(";") if part.strip()]


def _decoders() -> list[str]:
    return [OWN, *entries("decoder")]


def _ref(decoder: str) -> str:
    return "" if decoder == OWN else decoder


def _gradio() -> Any:
    try:
        import gradio
    except ImportError as error:
        raise missing_extra("gradio", "demo", "The web page") from error
    return gradio

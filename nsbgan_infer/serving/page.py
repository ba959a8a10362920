"""The web page as gradio serves it: its tabs over one `Studio`, one job at a time with a queue."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

from nsbgan_infer.errors import missing_extra
from nsbgan_infer.presets import find_preset
from nsbgan_infer.registry import shipped_file
from nsbgan_infer.serving.actions import KEPT, MADE, Studio
from nsbgan_infer.serving.choices import presets
from nsbgan_infer.serving.front import ASSETS, OwnHead

TITLE = "nsbgan"
HEADER = """<header class="top">{mark}<div><h1>nsbgan</h1>
<p>Name a thing and watch a small network draw it, 512 pixels wide, on this machine alone.</p></div></header>"""


def build_page(studio: Studio, preset: str = "embedded") -> Any:
    """The page as a gradio `Blocks`, not yet served. Raises MissingExtraError without gradio, CheckpointError for a
    preset whose weights nobody published."""
    gr = _gradio(studio.folder)
    from nsbgan_infer.serving.generate_tab import generate_tab
    from nsbgan_infer.serving.invert_tab import invert_tab
    from nsbgan_infer.serving.photo_tab import photo_tab
    from nsbgan_infer.serving.tabs import steps_tab, walk_tab

    if preset not in presets():
        shipped_file(find_preset(preset).sampler)  # says what is missing
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, KEPT)) as page:
        mark = (ASSETS / "mark.svg").read_text("utf-8")
        gr.HTML(HEADER.format(mark=mark), apply_default_css=False, elem_id="top")
        with gr.Tab("Generate"):
            generate_tab(gr, studio, preset, page)
        with gr.Tab("Photo"):
            photo_tab(gr, studio)
        if studio.invertible():
            with gr.Tab("Invert"):
                invert_tab(gr, studio, preset)
        with gr.Tab("Steps"):
            steps_tab(gr, studio, preset)
        with gr.Tab("Walk"):
            walk_tab(gr, studio, preset)
    return page.queue(max_size=32)


def mount_page(app: Any, page: Any, studio: Studio) -> Any:
    """The application `app` with the page at its root, behind the paths that `app` has itself."""
    from fastapi.responses import FileResponse, Response
    from fastapi.staticfiles import StaticFiles

    gr = _gradio(studio.folder)
    studio.made.mkdir(parents=True, exist_ok=True)
    app.mount("/page", StaticFiles(directory=ASSETS))
    app.mount(f"/{MADE}", StaticFiles(directory=studio.made))

    @app.get("/thumbs/{class_id}.webp", include_in_schema=False)  # type: ignore[untyped-decorator]
    def thumb(class_id: int) -> Response:
        path = studio.thumb(class_id)
        return (
            Response(status_code=404) if path is None else FileResponse(path, headers={"Cache-Control": "max-age=3600"})
        )

    app.add_middleware(OwnHead)
    threading.Thread(target=studio.draw_thumbs, daemon=True, name="thumbs").start()
    return gr.mount_gradio_app(
        app,
        page,
        path="/",
        show_error=False,
        footer_links=[],
        favicon_path=str(ASSETS / "mark.svg"),
        theme=_theme(gr),
        run_history=False,
        ssr_mode=False,
        enable_monitoring=False,
    )


def _theme(gr: Any) -> Any:
    """gradio's barest theme in our colours; page.css does the rest. Fonts are the system's, so that none is fetched."""
    theme = gr.themes.Base(
        font=["ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"],
        font_mono=["ui-monospace", "SFMono-Regular", "Menlo", "monospace"],
        radius_size=gr.themes.sizes.radius_md,
    )
    both = {
        "body_background_fill": ("#faf8f4", "#121615"),
        "body_text_color": ("#1d2321", "#e9eeeb"),
        "body_text_color_subdued": ("#55605c", "#a9b4af"),
        "background_fill_primary": ("#ffffff", "#1a201e"),
        "background_fill_secondary": ("#f3f0e9", "#202725"),
        "border_color_primary": ("#d9d4c8", "#36403c"),
        "border_color_accent": ("#0e6660", "#63d3c6"),
        "color_accent_soft": ("#dcefec", "#1d3a37"),
        "block_background_fill": ("transparent", "transparent"),
        "block_label_background_fill": ("#faf8f4", "#121615"),
        "block_label_text_color": ("#1d2321", "#e9eeeb"),
        "block_title_text_color": ("#1d2321", "#e9eeeb"),
        "block_info_text_color": ("#55605c", "#a9b4af"),
        "input_background_fill": ("#ffffff", "#1a201e"),
        "input_border_color": ("#8d958f", "#6b7772"),
        "input_border_color_focus": ("#0e6660", "#63d3c6"),
        "input_placeholder_color": ("#646e6a", "#98a39e"),
        "slider_color": ("#0e6660", "#63d3c6"),
        "button_primary_background_fill": ("#0e6660", "#63d3c6"),
        "button_primary_background_fill_hover": ("#0a504c", "#86e0d5"),
        "button_primary_text_color": ("#ffffff", "#06211e"),
        "button_primary_border_color": ("#0e6660", "#63d3c6"),
        "button_secondary_background_fill": ("#ffffff", "#1a201e"),
        "button_secondary_background_fill_hover": ("#f3f0e9", "#28302d"),
        "button_secondary_text_color": ("#1d2321", "#e9eeeb"),
        "button_secondary_border_color": ("#8d958f", "#6b7772"),
        "link_text_color": ("#0e6660", "#63d3c6"),
    }
    light = {name: pair[0] for name, pair in both.items()}
    dark = {f"{name}_dark": pair[1] for name, pair in both.items()}
    return theme.set(**light, **dark, block_border_width="0px", block_shadow="none", color_accent="#0e6660")


def _gradio(folder: Path) -> Any:
    """gradio, told to keep uploads and what it shows in `folder` and to ask nobody on the network."""
    os.environ.setdefault("GRADIO_TEMP_DIR", str(folder / "gradio"))
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio
    except ImportError as error:
        raise missing_extra("gradio", "demo", "The web page") from error
    return gradio

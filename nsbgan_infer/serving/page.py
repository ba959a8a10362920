"""The web page as gradio serves it: four tabs over one `Studio`, one job at a time with a queue."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from nsbgan_infer.errors import missing_extra
from nsbgan_infer.presets import find_preset
from nsbgan_infer.registry import shipped_file
from nsbgan_infer.serving.actions import Studio
from nsbgan_infer.serving.choices import presets

TITLE = "nsbgan"
CSS = """
#pictures .grid-wrap, #steps .grid-wrap { max-height: none; }
#found .grid-container { grid-template-columns: repeat(auto-fill, minmax(84px, 1fr)) !important; }
#found .caption-label { white-space: normal; max-width: 100%; padding: 1px 4px; font-size: 10px; line-height: 1.1; }
"""
KEPT = 24 * 3600  # seconds that a picture stays on disk while the page is served


def build_page(studio: Studio, preset: str = "embedded") -> Any:
    """The page as a gradio `Blocks`, not yet served. Raises MissingExtraError without gradio, CheckpointError for a
    preset whose weights nobody published."""
    gr = _gradio(studio.folder)
    from nsbgan_infer.serving.tabs import enlarge_tab, generate_tab, stages_tab, walk_tab

    if preset not in presets():
        shipped_file(find_preset(preset).sampler)  # says what is missing
    with gr.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(3600, KEPT)) as page:
        gr.Markdown("# nsbgan\nA class becomes a latent, a sample, a low band, and a 512 x 512 picture.")
        with gr.Tab("Generate"):
            generate_tab(gr, studio, preset, page)
        with gr.Tab("Enlarge a photo"):
            enlarge_tab(gr, studio)
        with gr.Tab("Stages and decoders"):
            stages_tab(gr, studio, preset)
        with gr.Tab("Walk"):
            walk_tab(gr, studio, preset)
    return page.queue(max_size=32)


def mount_page(app: Any, page: Any, studio: Studio) -> Any:
    """The application `app` with the page at its root, behind the paths that `app` has itself."""
    return _gradio(studio.folder).mount_gradio_app(
        app,
        page,
        path="/",
        allowed_paths=[str(studio.folder)],
        show_error=True,
        footer_links=[],
        css=CSS,
        ssr_mode=False,
        enable_monitoring=False,
    )


def _gradio(folder: Path) -> Any:
    """gradio, told to keep uploads and what it shows in `folder` and to ask nobody on the network."""
    os.environ.setdefault("GRADIO_TEMP_DIR", str(folder / "gradio"))
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    try:
        import gradio
    except ImportError as error:
        raise missing_extra("gradio", "demo", "The web page") from error
    return gradio

"""`nsbgan demo`: the web page, on this machine only unless told otherwise."""

from __future__ import annotations

import click


@click.command("demo")
@click.option("--port", type=click.IntRange(1, 65535), help="Default: the first free one from 7860.")
@click.option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 opens the page to the network.")
@click.option("--preset", default="embedded", metavar="NAME", help="The preset that the page starts with.")
def command(port: int | None, host: str, preset: str) -> None:
    """Serve a web page: generate, enlarge a photo, look at the stages, walk between classes.

    Needs the extra `demo`. Stop it with Ctrl-C: the pictures it made are then removed.
    """
    from nsbgan_infer.presets import find_preset

    find_preset(preset)
    from nsbgan_infer.serving.actions import Studio
    from nsbgan_infer.serving.page import build_page, launch

    studio = Studio()
    try:
        page = build_page(studio, preset)
        click.echo(f"Serving on {launch(page, studio, port=port, host=host)}; stop with Ctrl-C.", err=True)
        page.block_thread()
    finally:
        studio.close()

"""`nsbgan demo`: the web page, on this machine only unless told otherwise."""

from __future__ import annotations

import click

from nsbgan_infer.cli.heap import keep_few_primitives


@click.command("demo")
@click.option("--port", type=click.IntRange(1, 65535), help="Default: the first free one from 7860.")
@click.option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 opens the page to the network.")
@click.option("--preset", default="embedded", metavar="NAME", help="The preset that the page starts with.")
def command(port: int | None, host: str, preset: str) -> None:
    """Serve a web page: generate, enlarge or invert a photo, look at the stages, walk between classes.

    The service of `nsbgan serve` answers on the same address. Needs the extra `demo`. Stop it with Ctrl-C or SIGTERM:
    the pictures it made are then removed.
    """
    from nsbgan_infer.cli.serve import check_extra
    from nsbgan_infer.presets import find_preset

    find_preset(preset)
    check_extra("demo", "gradio")
    keep_few_primitives()
    from nsbgan_infer.serving.actions import Studio
    from nsbgan_infer.serving.demo import build_demo
    from nsbgan_infer.serving.server import serve

    studio = Studio()
    try:
        serve(
            build_demo(studio, preset),
            host=host,
            port=port,
            first=7860,
            ready=lambda address: click.echo(f"Serving on {address}; stop with Ctrl-C.", err=True),
        )
    finally:
        studio.close()

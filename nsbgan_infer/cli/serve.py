"""`nsbgan serve`: the HTTP service, on this machine only unless told otherwise."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nsbgan_infer.cli.complete import preset_names
from nsbgan_infer.cli.heap import keep_few_primitives
from nsbgan_infer.errors import UsageError, missing_extra

if TYPE_CHECKING:
    from nsbgan_infer.serving.limits import Limits
    from nsbgan_infer.serving.offers import Offers

LOOPBACK = ("127.0.0.1", "localhost", "::1")


@click.command("serve")
@click.option("--host", default="127.0.0.1", help="Address to listen on; 0.0.0.0 opens the service to the network.")
@click.option("--port", type=click.IntRange(1, 65535), default=8000, help="Port to listen on.")
@click.option(
    "--preset", "presets", multiple=True, metavar="NAME", shell_complete=preset_names,
    help="What is served; requests choose among these by name. Repeat for more.  [default: embedded]",
)  # fmt: skip
@click.option("--queue", type=click.IntRange(min=1), default=32, help="Requests that may wait; others get 429.")
@click.option("--batch-size", type=click.IntRange(min=1), default=4, help="Pictures made together, at most.")
@click.option("--deadline", type=click.FloatRange(min=0, min_open=True), default=60.0, help="Seconds for a request.")
@click.option("--max-pixels", type=click.IntRange(min=1), default=1 << 20, help="Of a photo to enlarge.")
@click.option(
    "--token-file", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Ask every request for the bearer token in FILE, or in NSBGAN_SERVE_TOKEN.",
)  # fmt: skip
@click.option("--ray", "on_ray", is_flag=True, help="Make the pictures in replicas on Ray Serve.")
@click.option(
    "--replicas", type=click.IntRange(min=1), nargs=2, default=(1, 2), metavar="LEAST MOST",
    help="With --ray: how many, as the load asks for.",
)  # fmt: skip
@click.option("--ray-address", metavar="ADDR", help="With --ray: a cluster. Default: RAY_ADDRESS, else here.")
@click.option("--offline", is_flag=True, help="Never use the network, not even for the weights at the start.")
def command(
    host: str,
    port: int,
    presets: tuple[str, ...],
    queue: int,
    batch_size: int,
    deadline: float,
    max_pixels: int,
    token_file: Path | None,
    on_ray: bool,
    replicas: tuple[int, int],
    ray_address: str | None,
    offline: bool,
) -> None:
    """Answer HTTP requests for pictures: POST /generate, /upscale and /invert, GET /classes, /models, /health
    and /metrics.

    Needs the extra `serve`. GET /docs explains every path. Stop it with Ctrl-C or SIGTERM: requests under way are
    finished first.
    """
    check_extra()
    keep_few_primitives()
    from nsbgan_infer.presets import find_preset
    from nsbgan_infer.serving.limits import Limits, read_token

    presets = presets or ("embedded",)
    for name in presets:
        find_preset(name)
    if ray_address and not on_ray:
        raise UsageError("--ray-address goes with --ray.")
    if replicas[0] > replicas[1]:
        raise UsageError(f"--replicas {replicas[0]} {replicas[1]}: the first number is the smaller one.")
    token = read_token(token_file)
    if host not in LOOPBACK and token is None:
        click.echo(
            "nsbgan: warning: whoever reaches this address may use the service: --token-file asks for a token.",
            err=True,
        )
    limits = Limits(queue=queue, batch=batch_size, seconds=deadline, pixels=max_pixels)
    if offline:
        _go_offline()
    if on_ray:
        from nsbgan_infer.serving.ray import replicas_on_ray

        with replicas_on_ray(
            presets, least=replicas[0], most=replicas[1], address=ray_address, offline=offline
        ) as work:
            _serve(load_offers(presets), work, limits, token, host, port, threads=2 * replicas[1])
        return
    from nsbgan_infer.serving.making import Maker

    maker = Maker()
    _serve(load_offers(presets, maker), maker, limits, token, host, port)


def check_extra(extra: str = "serve", *more: str) -> None:
    """Raise MissingExtraError unless what the service needs is installed, and the packages `more`."""
    what = "The service" if extra == "serve" else "The web page"
    for package in (*more, "fastapi", "uvicorn", "python-multipart", "prometheus-client"):
        if find_spec(package.replace("-", "_")) is None:
            raise missing_extra(package, extra, what)


def load_offers(presets: tuple[str, ...], maker: object = None) -> Offers:
    """Load the pipelines that are served, fetching what has to be fetched, before the first request."""
    from nsbgan_infer.serving.making import Maker
    from nsbgan_infer.serving.offers import open_offers, shipped_upscalers

    loaded = maker if isinstance(maker, Maker) else Maker()
    return open_offers(presets, [loaded.pipeline(name) for name in presets], shipped_upscalers())


def _serve(
    offers: Offers, work: object, limits: Limits, token: str | None, host: str, port: int, *, threads: int = 1
) -> None:
    from nsbgan_infer.serving.http import build_service
    from nsbgan_infer.serving.server import serve

    _go_offline()  # nothing that is asked for from now on may reach the network
    app = build_service(offers, work, limits=limits, token=token, threads=threads)  # type: ignore[arg-type]
    serve(
        app,
        host=host,
        port=port,
        ready=lambda address: click.echo(f"Serving on {address} (docs at {address}docs); stop with Ctrl-C.", err=True),
    )


def _go_offline() -> None:
    from nsbgan_infer.storage.hub import set_offline

    set_offline()

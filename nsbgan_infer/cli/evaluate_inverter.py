"""`nsbgan evaluate inverter`: how near do inverted photos come?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nsbgan_infer.cli.options import console_options
from nsbgan_infer.cli.output import Console, table
from nsbgan_infer.errors import UsageError


@click.command("inverter")
@click.option("--preset", default="embedded", metavar="NAME", help="The pipeline.")
@click.option(
    "--images", "paths", multiple=True, metavar="SRC", help="Photos with WordNet ids in their paths. Repeat for more."
)
@click.option("--count", type=click.IntRange(min=1), help="So many of them, spread evenly. Default: all.")
@click.option("--drawn", type=click.IntRange(min=1), default=100, help="Pictures of each class to compare with.")
@click.option("--own", type=click.IntRange(min=0), default=0, help="Invert so many drawn pictures too.")
@click.option("--steps", type=click.IntRange(min=0), help="Of each inversion. Default: as `nsbgan invert`.")
@click.option("--freedom", type=click.Choice(["vector", "layers", "pixels"]), default="pixels", help="What may move.")
@click.option("--engine", type=click.Choice(["eager", "openvino"]), default="eager", help="What draws pictures.")
@console_options
def command(
    preset: str,
    paths: tuple[str, ...],
    count: int | None,
    drawn: int,
    own: int,
    steps: int | None,
    freedom: Any,
    engine: Any,
    console: Console,
) -> None:
    """Invert photos and compare with drawn pictures (extras `train` and `eval`).

    For each photo: the distance of EfficientNet-Lite2's features, which no inversion uses, from the photo to what its
    latents give, to the nearest of --drawn pictures of its class, and to the photo's exact sample, decoded. With --own
    the PSNR with which drawn pictures are given back.
    """
    if not paths and not own:
        raise UsageError("Give photos with --images, or --own 40 for drawn pictures.")
    from nsbgan_infer.datasets import open_source
    from nsbgan_infer.engines import with_engine
    from nsbgan_infer.evaluation.inversion import measure_own, measure_photos, summary
    from nsbgan_infer.inversion import STEPS
    from nsbgan_infer.pipeline import NsbPipeline
    from nsbgan_infer.registry import load_classifier

    source = open_source([Path(p) for p in paths]) if paths else None
    if source and count:
        source = source.spread(count)
    pipeline = NsbPipeline.from_pretrained(preset)
    drawer = pipeline if engine == "eager" else with_engine(NsbPipeline.from_pretrained(preset), engine)
    asked: dict[str, Any] = {"steps": STEPS if steps is None else steps, "freedom": freedom}
    kinds = len(set(source.classes)) if source else 0
    rows = []
    with console.bar((len(source) if source else 0) + kinds * drawn + own) as bar:

        def progress(what: str, more: int) -> None:
            bar.step(what)
            bar.advance(more)

        if source:
            judge = load_classifier("efficientnet-lite2")
            for row in measure_photos(pipeline, source, judge, drawn=drawn, drawer=drawer, progress=progress, **asked):
                rows.append(row)
                console.note(f"{row.name}: {row.ratio:.2f}")
        given_back = measure_own(pipeline, own, progress=progress, **asked) if own else []
    value = summary(rows, given_back)
    each = [{**vars(r), "ratio": r.ratio} for r in rows]
    lines = [
        (r.name, f"{r.found:.2f}", f"{r.nearest:.2f}", f"{r.ratio:.2f}", f"{r.bound / r.nearest:.2f}", f"{r.psnr:.1f}")
        for r in rows
    ]
    head = [("photo", "found", "nearest", "ratio", "bound", "PSNR")]
    text = [table(head + lines)] if rows else []
    text += [f"{k:<13} {v:.3f}" if isinstance(v, float) else f"{k:<13} {v}" for k, v in value.items()]
    console.result({**value, **asked, "rows": each, "own_each": given_back}, "\n".join(text))

"""Frechet distance against score: one line for each sweep, every point labelled."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nsbgan_infer.errors import missing_extra
from nsbgan_infer.evaluation.sweep import Point, Sweep
from nsbgan_infer.storage.files import atomic_path, writable_folder

TITLE_WIDTH = 100  # characters


def plot_sweeps(sweeps: Sequence[Sweep], path: Path) -> Path:
    """Draw distance (up is worse) against score (right is better) into a PNG at `path`, whole or not at all.

    Truncations are joined by a line, rejection thresholds by a dashed one. Raises MissingExtraError without matplotlib.
    """
    try:
        from matplotlib import colormaps
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.colors import to_hex
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", "eval", "A plot of a sweep") from error
    writable_folder(path.parent)
    figure: Any = Figure(figsize=(8, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, sweep in enumerate(sweeps):
        colour = to_hex(colormaps["tab20"]((2 * number + number // 10) % 20))  # ten colours, then their light ones
        plain = [p for p in sweep.points if p.threshold is None]
        kept = [p for p in sweep.points if p.threshold is not None]
        name = f"{sweep.sampler} + {sweep.decoder}, {sweep.resolution} px"
        _line(axes, plain, colour, "-o", name)
        if kept:
            start = min(plain, key=lambda p: p.fd)
            _line(axes, [start, *kept], colour, "--s", None, skip=1)
    judge = sweeps[0].judge
    score = "IS" if judge == "FID" else judge.replace("FD", "IS")
    axes.set_xlabel(f"{score} (higher is better)")
    axes.set_ylabel(f"{judge} (lower is better)")
    title = f"against {sweeps[0].real}, n = {sweeps[0].n_real}; t: truncation, >: rejection threshold"
    axes.set_title(textwrap.fill(title, TITLE_WIDTH), fontsize=9)
    axes.margins(x=0.16)  # room for the labels of the last points
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    with atomic_path(path) as part:
        figure.savefig(part, format="png", dpi=120)
    return path


def label(point: Point) -> str:
    """`t 0.5`, or `> 0.90` for a rejection threshold, with n where few pictures were left."""
    text = f"t {point.truncation:g}" if point.threshold is None else f"> {point.threshold:.2f}"
    return text if point.short == 0 else f"{text} (n {point.n})"


def _line(axes: Any, points: Sequence[Point], colour: str, style: str, name: str | None, *, skip: int = 0) -> None:
    """A line through the points; the first `skip` have their labels already."""
    axes.plot([p.score for p in points], [p.fd for p in points], style, color=colour, label=name, markersize=4)
    for number, p in enumerate(points[skip:]):
        place = (5, -10) if skip and number % 2 else (5, 4)  # thresholds lie close: below and above
        axes.annotate(label(p), (p.score, p.fd), textcoords="offset points", xytext=place, fontsize=7, color=colour)

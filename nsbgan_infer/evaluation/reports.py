"""The files of a measurement: Markdown, JSON with every number, and a plot, each written whole or not at all."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from nsbgan_infer.evaluation.plots import plot_sweeps
from nsbgan_infer.evaluation.reproduce import Reproduction, reproduction_markdown
from nsbgan_infer.evaluation.sweep import Sweep
from nsbgan_infer.evaluation.tables import columns_of, sweep_markdown
from nsbgan_infer.storage.files import write_bytes, write_json


def write_sweep(found: Sweep, folder: Path) -> str:
    """sweep.md, sweep.json and sweep.png in `folder`; returns the text of the first. Raises MissingExtraError without
    matplotlib, after the other two are written."""
    text = sweep_markdown(found)
    write_json(folder / "sweep.json", {**asdict(found), "columns": columns_of(found)})
    write_bytes(folder / "sweep.md", (text + "\n").encode())
    plot_sweeps([found], folder / "sweep.png")
    return text


def write_reproduction(found: Reproduction, folder: Path) -> str:
    """NAME.md and NAME.json in `folder`, and where there are sweeps NAME.png; returns the table. Raises as
    `write_sweep`."""
    text = reproduction_markdown(found)
    details = [text, *(sweep_markdown(s) for s in found.sweeps)]
    write_bytes(folder / f"{found.name}.md", ("\n\n".join(details) + "\n").encode())
    write_json(folder / f"{found.name}.json", asdict(found))
    if found.sweeps:
        plot_sweeps(found.sweeps, folder / f"{found.name}.png")
    return text

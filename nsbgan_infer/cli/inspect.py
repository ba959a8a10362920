"""`nsbgan inspect`: what an image, a checkpoint or a pipeline's folder says about itself. Weights are not read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from nsbgan_infer.cli.options import EXISTING, console_options
from nsbgan_infer.cli.output import Console, size_text


@click.command("inspect")
@click.argument("path", type=EXISTING)
@console_options
def command(path: Path, console: Console) -> None:
    """Show the recipe of an image, or the configuration, tensors and header of a checkpoint or a pipeline's folder."""
    from nsbgan_infer.outputs.inspect import inspect

    value = inspect(path)
    console.result(value, "\n".join(_lines(value)))


def _lines(value: dict[str, Any], indent: str = "") -> list[str]:
    """Nested tables as indented lines; long lists are cut."""
    lines = []
    for key, item in value.items():
        if isinstance(item, dict) and item:
            lines += [f"{indent}{key}", *_lines(item, indent + "  ")]
        else:
            lines.append(f"{indent}{key}: {_shown(key, item)}")
    return lines


def _shown(key: str, item: Any) -> str:
    if key == "size" and isinstance(item, int):
        return f"{size_text(item)} ({item} bytes)"
    if isinstance(item, list):
        text = ", ".join(str(i) for i in item[:24])
        return text + (f", ... ({len(item)} in all)" if len(item) > 24 else "")
    return "-" if item is None or item == {} else str(item)

"""What a command says: results on standard output, everything else on standard error."""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, TextIO

import click

PARTS = ("torch", "numpy", "pillow", "safetensors", "huggingface-hub", "pytorch-pretrained-biggan", "pywavelets")
EXTRAS = ("accelerate", "openvino", "spandrel", "torch-fidelity", "efficientnet-lite-pytorch", "ray", "gradio")


@dataclass(frozen=True)
class Console:
    """How a command was asked to speak: `json` (one object on standard output), `quiet` (no notes, no bars)."""

    json: bool = False
    quiet: bool = False

    def __post_init__(self) -> None:
        if self.quiet:
            from nsbgan_infer.storage.hub import set_quiet

            set_quiet()

    def note(self, text: str) -> None:
        """A line that a reader may want, on standard error; not with --quiet."""
        if not self.quiet:
            _say(text, sys.stderr)

    def warn(self, text: str) -> None:
        """A line that a reader should see, on standard error."""
        _say(f"nsbgan: warning: {text}", sys.stderr)

    def result(self, value: Any, text: str) -> None:
        """The result: `value` as JSON with --json, else `text` for people."""
        if self.json:
            text = json.dumps(value, ensure_ascii=False)
            if sys.stdout is not None and not _can_say(text, sys.stdout, "strict"):
                text = json.dumps(value)  # escaped, it is the same text for whoever reads it
        _say(text, sys.stdout)

    @contextmanager
    def resumable(self, begun: Path) -> Iterator[None]:
        """Work that --resume can resume once the file `begun` exists; Ctrl-C then ends with a note that says so."""
        try:
            yield
        except KeyboardInterrupt:
            if begun.exists():
                self.note(f"Stopped: the same command with --resume goes on with what is in {begun.parent}.")
            raise

    @contextmanager
    def counted(self, made: Callable[[], str]) -> Iterator[None]:
        """Work whose results lie where they are written: Ctrl-C ends with a note of what `made` says there is."""
        try:
            yield
        except KeyboardInterrupt:
            self.note(f"Stopped: {made()}.")
            raise

    @contextmanager
    def bar(self, total: int, *, unit: str = "img") -> Iterator[Bar]:
        """A progress bar on standard error, where that is a terminal; its label is the numbered step."""
        if self.quiet:
            yield Bar(None)
            return
        from tqdm import tqdm

        with tqdm(total=total, unit=unit, disable=None, file=sys.stderr, dynamic_ncols=True, smoothing=0.1) as bar:
            yield Bar(bar)


def _say(text: str, stream: TextIO | None) -> None:
    """A line for people. What the stream's encoding lacks is escaped: names of files may be bytes of another one.

    Nothing is said into a stream that was closed before the program began (`>&-`).
    """
    if stream is None:
        return
    if not _can_say(text, stream, stream.errors or "strict"):
        encoding = stream.encoding or "utf-8"
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    click.echo(text, file=stream)


def _can_say(text: str, stream: TextIO, errors: str) -> bool:
    try:
        text.encode(stream.encoding or "utf-8", errors)
    except UnicodeEncodeError:
        return False
    return True


class Bar:
    """A progress bar, or nothing at all."""

    def __init__(self, bar: Any | None) -> None:
        self._bar = bar
        self.done: float = 0

    def step(self, label: str) -> None:
        """Show the step that runs now, for example `4 decoders`."""
        if self._bar is not None:
            self._bar.set_description(label)

    def at(self, position: float) -> None:
        """So many are done; a fraction where one of them is under way."""
        self.done = position
        if self._bar is not None:
            self._bar.n = round(position, 2)
            self._bar.refresh()

    def advance(self, count: int = 1) -> None:
        """`count` more are done."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)


def table(rows: Sequence[Sequence[str]], *, header: Sequence[str] = (), indent: str = "") -> str:
    """Rows as aligned columns; the last column is not padded."""
    lines = [list(header), *map(list, rows)] if header else [list(r) for r in rows]
    if not lines:
        return ""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]) - 1)]
    out = []
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        out.append(indent + "  ".join([*cells, line[-1]]).rstrip())
    return "\n".join(out)


def size_text(count: float | None) -> str:
    """Bytes for people: `12.3 MB`, and `-` for None."""
    if count is None:
        return "-"
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit == "B" or count >= 100 else f"{count:.1f} {unit}"


def versions() -> dict[str, str]:
    """The versions of the program, of Python and of the packages it runs on (optional ones where installed)."""
    found = {"nsbgan-infer": _version("nsbgan-infer") or "unknown", "python": platform.python_version()}
    for name in (*PARTS, *EXTRAS):
        if version := _version(name):
            found[name] = version
    return found


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None

"""The journal of a shard: `.nsbgan/00000.jsonl`, with `.part` at its end until the shard is whole."""

from __future__ import annotations

from pathlib import Path

from nsbgan_infer.bulk.sinks import Line

WORK = ".nsbgan"  # the folder of journals and of what is not finished


def read_journal(file: Path) -> list[Line]:
    """The whole lines of a journal; a torn last line, as a killed process leaves it, is dropped."""
    lines = []
    if file.exists():
        for text in file.read_text(encoding="utf-8").splitlines():
            try:
                lines.append(Line.from_json(text))
            except ValueError:
                break
    return lines


def done_journal(folder: Path, number: int) -> Path:
    """The journal of a shard that is whole."""
    return folder / WORK / f"{number:05d}.jsonl"


def open_journal(folder: Path, number: int) -> Path:
    """The journal of a shard that is not."""
    return folder / WORK / f"{number:05d}.jsonl.part"


def replace_text(part: Path, target: Path, text: str) -> None:
    """Write `text` to `part`, then put it in the place of `target`."""
    part.write_text(text, encoding="utf-8")
    part.replace(target)

"""Rejection in `nsbgan generate`: its options, the loop, what is kept aside, and the report."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nsbgan_infer.cli.bulk import Bulk
from nsbgan_infer.cli.options import Files, Images, Machine, bundled
from nsbgan_infer.cli.output import Bar, Console, table
from nsbgan_infer.cli.steps import next_steps
from nsbgan_infer.errors import UsageError, WorkError

if TYPE_CHECKING:
    from nsbgan_infer.classifiers.base import Classifier
    from nsbgan_infer.outputs.writer import ImageWriter
    from nsbgan_infer.pipeline import NsbPipeline, Request
    from nsbgan_infer.rejection import Rule

T = TypeVar("T")


@dataclass(frozen=True)
class Rejection:
    """When a picture is kept; `threshold` None: always."""

    threshold: float | None
    mode: str | None
    classifier: str | None
    max_tries: int | None

    def rule(self) -> Rule | None:
        """The rule that the options mean, over the classes of whatever sampler comes. Raises UsageError."""
        if self.threshold is None:
            if self.mode or self.classifier or self.max_tries:
                raise UsageError("--reject-mode, --classifier and --max-tries go with --reject T, the threshold.")
            return None
        from nsbgan_infer.rejection import Rule

        given = {"mode": self.mode, "max_tries": self.max_tries}
        return Rule(self.threshold, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]

    def load_classifier(self) -> Classifier:
        """The classifier by its registry name. Raises as `registry.load_classifier`."""
        from nsbgan_infer.registry import load_classifier

        return load_classifier(self.classifier or "efficientnet-lite0")


rejection_options = bundled(
    "rejection",
    Rejection,
    [
        click.option(
            "--reject",
            type=float,
            metavar="T",
            help="Draw a picture again until a classifier gives its class a probability of at least T, 0 up to 1.",
        ),
        click.option(
            "--reject-mode",
            type=click.Choice(["label", "max"]),
            help="The probability of the class asked for, or the largest one, of whatever class.  [default: label]",
        ),
        click.option(
            "--classifier", metavar="NAME", help="See `nsbgan models`.  [default: efficientnet-lite0; extra eval]"
        ),
        click.option(
            "--max-tries", type=click.IntRange(min=1), metavar="N", help="Draws for each picture.  [default: 100]"
        ),
    ],
    {"threshold": "reject", "mode": "reject_mode", "classifier": "classifier", "max_tries": "max_tries"},
)


def check_rejection(rule: Rule | None, bulk: Bulk) -> None:
    """Raise UsageError for what does not go together."""
    if rule is not None and bulk.asked:
        raise UsageError(
            "A bulk run keeps every picture: leave out --reject, or --count, --sink, --resume, --shard-size and "
            "--workers; with --reject all pictures go into one folder, however many."
        )


def make_accepted(
    pipeline: NsbPipeline,
    requests: Sequence[Request],
    images: Images,
    files: Files,
    machine: Machine,
    rule: Rule,
    classifier: Classifier,
    writer: ImageWriter,
    console: Console,
) -> dict[str, Any]:
    """Write each picture as soon as it is accepted, and the best ones of requests whose tries ended into the folder
    `below-threshold`. Returns the report."""
    from nsbgan_infer.outputs.writer import write_accepted
    from nsbgan_infer.rejection import Tally, rejected_outputs

    tally, begun = Tally(), time.perf_counter()
    with console.bar(len(requests)) as bar:
        found = rejected_outputs(
            pipeline,
            requests,
            classifier,
            rule,
            drawing=images.drawing(),
            batch_size=machine.batch_size,
            keep_steps=files.save_steps,
            progress=_Draws(bar, next_steps(pipeline, images.resolution)),
            tally=tally,
        )
        aside = write_accepted(_advancing(found, bar), writer, len(requests))
    about = {"classifier": classifier.info.name, "mode": rule.mode, "threshold": rule.threshold}
    seconds = round(time.perf_counter() - begun, 3)
    return {**about, "max_tries": rule.max_tries, "seconds": seconds, **tally.report(), "aside": aside.rows}


def _advancing(found: Iterable[T], bar: Bar) -> Iterator[T]:
    """The same, and the bar moves on once each is dealt with."""
    for item in found:
        yield item
        bar.advance()


class _Draws:
    """Progress of the draws: the step that runs now, and how many pictures were drawn so far."""

    def __init__(self, bar: Bar, following: Mapping[str, str]) -> None:
        self.bar, self.following, self.count = bar, following, 0

    def __call__(self, step: str, _done: int, batch: int) -> None:
        self.count += batch if step == "sample" else 0
        self.bar.step(f"{self.following[step]}, {self.count} drawn")


def rejection_text(report: Mapping[str, Any]) -> str:
    """The report for people: a row for each class, and the cost."""
    from nsbgan_infer.classes import all_classes

    named = [
        ("any" if c == "none" else f"{c} {all_classes()[int(c)].name}", row) for c, row in report["classes"].items()
    ]
    rows = [_cells(name, row) for name, row in [*named, *([("all", report)] if len(named) > 1 else [])]]
    header = ("class", "wanted", "accepted", "drawn", "acceptance", "draws a picture")
    judged = "p(class)" if report["mode"] == "label" else "largest p"
    kept = report["seconds"] / report["accepted"] if report["accepted"] else None
    return (
        f"{table(rows, header=header)}\n"
        f"{report['classifier']}, {judged} >= {report['threshold']:g}, at most {report['max_tries']} draws a picture; "
        f"{report['seconds']:.1f} s, {report['seconds'] / report['drawn']:.2f} s a draw, "
        f"{'-' if kept is None else f'{kept:.2f}'} s a kept picture"
    )


def _cells(name: str, row: Mapping[str, Any]) -> tuple[str, ...]:
    each = row["draws_per_image"]
    counts = [str(row[k]) for k in ("wanted", "accepted", "drawn")]
    return (name, *counts, f"{row['acceptance']:.3f}", "-" if each is None else f"{each:.2f}")


def check_shortfall(report: Mapping[str, Any]) -> None:
    """Raise WorkError if some pictures were not accepted, once everything is written and told."""
    short = len(report["aside"])
    if short:
        raise WorkError(
            f"{short} of {report['wanted']} pictures stayed below {report['threshold']:g} in {report['max_tries']} "
            f"tries: the best of each is in {Path(report['aside'][0]['file']).parent}. Raise --max-tries, lower "
            "--reject or choose another --seed."
        )

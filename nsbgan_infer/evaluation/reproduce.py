"""The paper's tables as commands: its numbers beside ours, and for every row that cannot run the file it waits for.

Rows run against the real pictures that are given, over the classes these have. The learned samplers that ship (20
classes of Imagewoof and Imagenette) follow as rows of their own, under their own names: they are no ImageNet figures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import nn

from nsbgan_infer.datasets import ImageSource
from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.encoders.base import Basis
from nsbgan_infer.engines import place
from nsbgan_infer.errors import NsbError, OfflineError, UsageError
from nsbgan_infer.evaluation.cost import multiply_adds, outline_row, seconds_a_decode, seconds_a_picture
from nsbgan_infer.evaluation.judged_cache import Judges, Studio
from nsbgan_infer.evaluation.reconstruction import DecoderReport, evaluate_decoders, own_reducer
from nsbgan_infer.evaluation.sweep import THRESHOLDS, TRUNCATIONS, Real, Sweep, sweep
from nsbgan_infer.evaluation.tables import MAX, Row, Table, columns_of, markdown, pair
from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.presets import find_preset
from nsbgan_infer.registry import entries, load_decoder, load_sampler
from nsbgan_infer.storage import hub
from nsbgan_infer.storage.shipped import default_decoder, manifest

OURS: dict[Basis, tuple[str, str]] = {"wavelet": ("Learned-W-64", "embedded"), "pixel": ("Learned-P-64", "embedded-p")}
WEIGHTLESS: dict[Basis, str] = {"wavelet": "iwt", "pixel": "bicubic"}


@dataclass(frozen=True)
class Options:
    """How rows are run. `classes` None: all that a sampler has; `weights` gives files for registry names."""

    per_class: int = 250
    seed: int = 0
    truncations: Sequence[float] = TRUNCATIONS
    thresholds: Sequence[float] = THRESHOLDS
    max_tries: int = 4
    batch: int = 8
    classes: frozenset[int] | None = None
    weights: Mapping[str, str] = field(default_factory=dict)
    timed: bool = True
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    engine: str = "eager"


@dataclass(frozen=True)
class Line:
    """One row: the paper's figures and ours by column, cost, and if nothing could be run, what is missing. `source`: of
    a system that the paper only compares with, where its figures stand."""

    sampler: str
    decoder: str
    resolution: int
    paper: Mapping[str, str]
    ours: Mapping[str, str] = field(default_factory=dict)
    n: int | None = None
    multiply_adds: int | None = None
    seconds: float | None = None
    missing: str = ""
    source: str = ""


@dataclass(frozen=True)
class Reproduction:
    """A table with both sides: `lines` are the paper's rows, `own` those of the weights that ship."""

    name: str
    title: str
    columns: tuple[str, ...]
    against: str
    lines: tuple[Line, ...]
    own: tuple[Line, ...] = ()
    sweeps: tuple[Sweep, ...] = ()


def reproduce_table(
    table: Table,
    options: Options,
    *,
    real: Real | None,
    judges: Judges | None,
    folder: Path,
    note: Callable[[str], None] = lambda _text: None,
    progress: Callable[[int], None] | None = None,
) -> Reproduction:
    """Tables 1, 2, 4, 5 and 10: run what can be run. `real` and `judges` None: only the costs and what is missing.

    `folder` keeps what was judged, so a stopped run resumes. `note` receives the name of each part as it begins.
    """
    runner = _Runner(table, options, real, judges, folder, note, progress)
    lines = [runner.paper_line(row) for row in table.rows]
    own = []
    if table.name in ("table1", "table4"):
        for basis in OURS:
            own += runner.own_lines(basis)
    against = f"{judges.name} against {real.name}, n = {real.n}" if real and judges else "nothing: give --real"
    return Reproduction(table.name, table.title, table.columns, against, tuple(lines), tuple(own), tuple(runner.sweeps))


def reproduce_mse(
    table: Table, source: ImageSource | None, options: Options, *, progress: Callable[[int], None] | None = None
) -> Reproduction:
    """Table 3: the error of every decoder that can be loaded on given pictures, x4, without an adversary or with."""
    wanted = [row.with_decoder for row in table.rows if row.with_decoder]
    names = [*wanted, *(n for n in all_decoders() if n not in wanted)]
    lines = [
        Line(r.sampler, r.decoder, r.resolution, r.figures, missing=r.note, source=r.source)
        for r in table.rows
        if r.note
    ]
    rows: dict[str, Line] = {}
    decoders: dict[str, Decoder] = {}
    for name in names:
        row = next((r for r in table.rows if r.with_decoder == name), None)
        rows[name] = Line("-", row.decoder if row else name, row.resolution if row else 256, row.figures if row else {})
        try:
            decoder = load_decoder(options.weights.get(name, name))
            own_reducer(decoder)
            decoders[name] = decoder
        except UsageError as error:
            rows[name] = replace(rows[name], missing=f"{error} Here: --weights {name}=FILE.")
    if source is None:
        rows = {n: replace(r, missing="pictures: give a folder or ZIP with --images") for n, r in rows.items()}
    else:
        for decoder in decoders.values():
            if isinstance(decoder, nn.Module):
                decoder.to(options.device)
        reports = evaluate_decoders(list(decoders.values()), source, batch=options.batch, progress=progress)
        for name, report in zip(decoders, reports, strict=True):
            rows[name] = replace(rows[name], ours=_errors(report), n=report.n)
    lines += [_decoder_cost(rows[name], name, decoders.get(name), options) for name in names]
    columns = (*table.columns, "MSE here", "Y-PSNR here")
    given = f"{len(source)} given pictures" if source else "nothing: give --images"
    return Reproduction(table.name, table.title, columns, given, tuple(lines))


def _decoder_cost(line: Line, name: str, loaded: Decoder | None, options: Options) -> Line:
    """The line with what the decoder alone costs from 64 to 256 pixels; in the paper's size if it is not here."""
    try:
        basis = loaded.info.basis if loaded else ("pixel" if name.endswith("-p") else "wavelet")
        outlined = outline_row(f"learned-{'w' if basis == 'wavelet' else 'p'}-64", name, paper=loaded is None)
        line = replace(line, multiply_adds=multiply_adds(outlined, 256, decoders_only=True))
        return replace(line, seconds=seconds_a_decode(outlined)) if options.timed else line
    except NsbError:
        return line


def all_decoders() -> list[str]:
    """The built-in decoders that can be used here: without weights, or with weights that ship."""
    shipped = manifest().get("components", {})
    return [n for n, e in entries("decoder").items() if e.source == "none" or (e.source == "shipped" and n in shipped)]


def own_decoders(basis: Basis) -> list[str]:
    """Those of a basis, the default of `generate` first, the interpolation last."""
    first = default_decoder(basis)
    loaded: list[Decoder] = []
    for name in all_decoders():
        if entries("decoder")[name].source == "shipped" and name != first:
            loaded.append(load_decoder(name))
    rest = [d.info.name for d in loaded if d.info.basis == basis]
    return list(dict.fromkeys([first, *rest, WEIGHTLESS[basis]]))


@dataclass
class _Runner:
    table: Table
    options: Options
    real: Real | None
    judges: Judges | None
    folder: Path
    note: Callable[[str], None]
    progress: Callable[[int], None] | None
    sweeps: list[Sweep] = field(default_factory=list)

    def paper_line(self, row: Row) -> Line:
        """A row of the paper, run if its weights are here."""
        line = Line(row.sampler, row.decoder, row.resolution, row.figures, source=row.source)
        if not row.preset:
            return replace(line, missing=row.note)
        line = self._cost(line, row.preset, row.with_decoder, paper=True)
        if row.note and row.note_name not in self.options.weights:
            return replace(line, missing=f"{row.note}. {self._wanted(row)}".strip())
        try:
            pipeline = self._load(row.preset, self.options.weights.get(row.note_name, row.with_decoder or ""))
        except UsageError:
            wanted = self._wanted(row) or f"the weights that were given for {row.preset} do not fit"
            return replace(line, missing=wanted)
        return self._run(line, pipeline, self.options.truncations, rejection=MAX in self.table.columns)

    def own_lines(self, basis: Basis) -> list[Line]:
        """The sampler that ships with every decoder of its basis: the default one on the whole grid, the others at
        its best truncation."""
        name, preset = OURS[basis]
        lines: list[Line] = []
        grid, rejection = self.options.truncations, MAX in self.table.columns
        for decoder in own_decoders(basis):
            line = Line(f"{name} ({preset}, 20 classes)", decoder, 256, {})
            try:
                line = self._cost(line, preset, decoder, paper=False)
                line = self._run(line, self._load(preset, decoder), grid, rejection=rejection)
            except UsageError as error:
                line = replace(line, missing=str(error))
            lines.append(line)
            if line.ours and len(grid) > 1:
                plain = [p for p in self.sweeps[-1].points if p.threshold is None]
                grid, rejection = (min(plain, key=lambda p: p.fd).truncation,), False
        return lines

    def _load(self, preset: str, decoder: str) -> NsbPipeline:
        """A pipeline whose weights are here; nothing large is fetched unasked."""
        weights = self.options.weights
        with _offline():
            pipeline = NsbPipeline.from_pretrained(
                preset, sampler=weights.get(_sampler_of(preset)), decoder=weights.get(decoder, decoder) or None
            )
        options = self.options
        return place(pipeline, options.engine, device=options.device, dtype=options.dtype)

    def _wanted(self, row: Row) -> str:
        """Every part of a row whose weights are not here, and how to give each."""
        sentences = []
        for name, load in ((_sampler_of(row.preset), load_sampler), (row.with_decoder, load_decoder)):
            try:
                with _offline():
                    if name is not None and name not in self.options.weights:
                        load(name)
            except OfflineError:
                sentences.append(
                    f"The released weights of {name} are not in the cache: `nsbgan generate --class 207 --preset "
                    f"{row.preset}` fetches them. Yours: --weights {name}=FILE."
                )
            except UsageError as error:
                sentences.append(f"{error} Here: --weights {name}=FILE.")
        return " ".join(sentences)

    def _run(self, line: Line, pipeline: NsbPipeline, grid: Sequence[float], *, rejection: bool) -> Line:
        if self.real is None or self.judges is None:
            return replace(line, missing="real pictures: give a folder, ZIP or reference with --real")
        options, available = self.options, pipeline.sampler.info.classes
        classes = [c for c in available or () if options.classes is None or c in options.classes]
        if available is not None and not classes:
            return replace(line, missing=f"none of the classes of {self.real.name} can be drawn by this sampler")
        requests = pipeline.requests(list(classes) or None, options.per_class, seeds=options.seed)
        self.note(f"{line.sampler}, {line.decoder}: {len(requests)} pictures at each of {len(grid)} truncations")
        studio = Studio(
            pipeline, self.judges, self.folder, resolution=line.resolution, batch=options.batch, progress=self.progress
        )
        found = sweep(
            studio,
            requests,
            self.real,
            truncations=grid,
            thresholds=options.thresholds if rejection and available is not None else (),
            max_tries=options.max_tries,
        )
        self.sweeps.append(found)
        ours = {k: v for k, v in columns_of(found).items() if k in self.table.columns and (rejection or k != MAX)}
        if self.table.name == "table10":
            ours = dict(zip(("FID", "IS"), pair(found.min_fd.fd, found.min_fd.score).split(" / "), strict=True))
        return replace(line, ours=ours, n=found.min_fd.n)

    def _cost(self, line: Line, preset: str, decoder: str | None, *, paper: bool) -> Line:
        try:
            outlined = outline_row(preset, decoder, paper=paper)
            line = replace(line, multiply_adds=multiply_adds(outlined, line.resolution))
            if self.options.timed:
                line = replace(line, seconds=seconds_a_picture(outlined, line.resolution))
        except NsbError as error:
            self.note(f"No cost for {line.sampler}, {line.decoder}: {error}")
        return line


def reproduction_markdown(found: Reproduction) -> str:
    """The paper's rows with ours beside, the rows of the weights that ship, and what is missing."""
    parts = [f"{found.name}: {found.title}", f"Measured: {found.against}"]
    header = ["sampler", "decoder", "px"]
    for column in found.columns:
        own = column.endswith(" here") or column == "Compute"
        header += [column] if own else [f"{column}, paper", f"{column}, here"]
    header += ["n", "G multiply-adds", "s a picture"]
    for lines in (found.lines, found.own):
        if lines:
            parts.append(markdown(header, [_cells(line, found.columns) for line in lines]))
    waiting = [
        f"* {line.sampler}, {line.decoder}: {line.missing}" for line in (*found.lines, *found.own) if line.missing
    ]
    if waiting:
        parts.append("Missing:\n" + "\n".join(waiting))
    others = [f"* {_named(line)}: {line.source}." for line in found.lines if line.source]
    if others:
        parts.append("As published:\n" + "\n".join(others))
    return "\n\n".join(parts)


def _named(line: Line) -> str:
    """A system by its name, without what it has not."""
    return line.decoder if line.sampler == "-" else line.sampler


def _cells(line: Line, columns: Sequence[str]) -> list[str]:
    cells = [line.sampler, line.decoder, str(line.resolution)]
    for column in columns:
        if column.endswith(" here"):
            cells.append(line.ours.get(column, "-"))
        elif column == "Compute":
            cells.append(line.paper.get(column, "-"))
        else:
            cells += [line.paper.get(column, "-"), line.ours.get(column, "-")]
    cost = "-" if line.multiply_adds is None else f"{line.multiply_adds / 1e9:.2f}"
    return [*cells, str(line.n or "-"), cost, "-" if line.seconds is None else f"{line.seconds:.2f}"]


def _errors(report: DecoderReport) -> dict[str, str]:
    return {"MSE here": f"{report.mse:.3g}", "Y-PSNR here": f"{report.psnr_y:.2f}"}


@contextmanager
def _offline() -> Iterator[None]:
    """No weights are fetched unasked: `nsbgan generate` does that, and says so."""
    before = hub.is_offline()
    hub.set_offline()
    try:
        yield
    finally:
        hub.set_offline(before)


def _sampler_of(preset: str) -> str:
    return find_preset(preset).sampler

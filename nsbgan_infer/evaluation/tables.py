"""The paper's tables as data, and ours beside them as markdown (paper sections 4 and 4.1, appendices B and E).

Where two of the paper's tables disagree in the last digit, each is quoted as it stands. Its third row of table 4 says
Learned-P-64 with UNet-W, which takes low bands: a slip, it is Learned-W-64 (spec section 13).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from nsbgan_infer.errors import unknown_name
from nsbgan_infer.evaluation.sweep import Sweep


@dataclass(frozen=True)
class Row:
    """One row of a table of the paper: its names and figures by column, and what it is here.

    `preset` and `with_decoder` name our pipeline (None: no decoder); `note` says what a row waits for that no preset
    names, and `note_name` under which name its file can be given. `source`: of a system that the paper only compares
    with, where its figures stand and whose they are.
    """

    sampler: str
    decoder: str
    resolution: int
    figures: Mapping[str, str]
    preset: str = ""
    with_decoder: str | None = None
    note: str = ""
    note_name: str = ""
    source: str = ""


@dataclass(frozen=True)
class Table:
    """A table of the paper: `columns` of figures, in order."""

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...] = field(default_factory=tuple)


MIN, MAX = "min FID / IS", "FID / max IS"
PUBLISHED = "published only, no part of this package"
VQVAE2, SPN = "Razavi et al. 2019, arXiv:1906.00446", "Menick & Kalchbrenner 2019, arXiv:1812.01608"


def _learned(sampler: str, decoder: str, preset: str, ours: str, **figures: str) -> Row:
    names = {"low": MIN, "high": MAX, "compute": "Compute"}
    return Row(sampler, decoder, 256, {names[k]: v for k, v in figures.items()}, preset, ours)


_TABLE1 = Table(
    "table1",
    "Learned samplers, ImageNet 256 x 256",
    (MIN, "Compute"),
    (
        _learned("Learned-P-64", "ESRGAN-P", "learned-p-64", "esrgan-p", low="32.66 / 89.81", compute="8 days, 4 V100"),
        _learned("Learned-W-64", "ESRGAN-W", "learned-w-64", "esrgan-w", low="21.82 / 119.8", compute="7 days, 4 V100"),
        Row(
            "Learned Baseline",
            "None",
            256,
            {MIN: "200 / 10", "Compute": "7 days, 8 V100"},
            note="a BigGAN-deep trained at 256 x 256 from scratch, which the paper gave up and nobody published",
        ),
    ),
)


def _pretrained(
    sampler: str, decoder: str, resolution: int, low: str, last: tuple[str, str], preset: str, ours: str | None
) -> Row:
    return Row(sampler, decoder, resolution, {MIN: low, last[0]: last[1]}, preset, ours)


_TABLE2_ROWS = tuple(
    _pretrained(sampler, decoder, side, low, ("Compute", f"{tpus} TPUs"), sampler.lower(), ours)
    for sampler, decoder, side, low, tpus, ours in (
        ("BigGAN-128", "None", 128, "10.58 / 43.72", 128, None),
        ("BigGAN-256", "None", 256, "10.68 / 52.16", 256, None),
        ("Pretrained-128-64", "ESRGAN-P", 256, "12.28 / 46.06", 128, "esrgan-p"),
        ("Pretrained-128-64", "ESRGAN-W", 256, "12.66 / 45.54", 128, "esrgan-w"),
        ("BigGAN-512", "None", 512, "11.32 / 49.37", 512, None),
        ("Pretrained-256-128", "ESRGAN-P", 512, "10.30 / 213.4", 256, "esrgan-p"),
        ("Pretrained-256-128", "ESRGAN-W", 512, "10.59 / 52.14", 256, "esrgan-w"),
        ("Pretrained-128", "ESRGAN-P", 512, "13.55 / 47.70", 128, "esrgan-p"),
    )
)
_COMPARED = Row(
    "VQVAE-2",
    "its own",
    256,
    {"Compute": "512 TPU-v3 cores"},
    note=PUBLISHED,
    source=f"the paper's abstract, which says it of BigGAN and VQVAE-2 together; {VQVAE2}",
)
_TABLE2 = Table("table2", "Pre-trained samplers, ImageNet", (MIN, "Compute"), (*_TABLE2_ROWS, _COMPARED))

_TABLE3 = Table(
    "table3",
    "Mean squared error of decoders trained without an adversary, ImageNet 256 x 256",
    ("Train MSE", "Valid MSE"),
    (
        Row("-", "UNet-P", 256, {"Train MSE": "0.0061", "Valid MSE": "0.0074"}, with_decoder="unet-p"),
        Row("-", "UNet-W", 256, {"Train MSE": "0.0045", "Valid MSE": "0.0049"}, with_decoder="unet-w"),
        Row(
            "-",
            "VQVAE-2",
            256,
            {"Train MSE": "0.0047", "Valid MSE": "0.0050"},
            note=PUBLISHED,
            source=f"the paper's table 3; {VQVAE2}",
        ),
        Row(
            "-",
            "SPN",
            256,
            {},
            note=PUBLISHED,
            source="the paper's section 2 and appendix F, in words alone: it cuts a picture in space, where parts far "
            "from each other must agree, not in frequency, where each part shows all of it (`nsbgan reproduce slicing` "
            f"draws both); {SPN}",
        ),
    ),
)

_TABLE4 = Table(
    "table4",
    "Learned samplers with truncation and rejection, ImageNet 256 x 256",
    (MIN, MAX),
    (
        _learned("Learned-P-64", "ESRGAN-P", "learned-p-64", "esrgan-p", low="32.66 / 89.81", high="33.61 / 96.12"),
        _learned("Learned-W-64", "ESRGAN-W", "learned-w-64", "esrgan-w", low="21.82 / 119.75", high="27.52 / 219.4"),
        _learned("Learned-W-64", "UNet-W", "learned-w-64", "unet-w", low="35.60 / 84.68", high="38.58 / 129.4"),
    ),
)

_TABLE5 = Table(
    "table5",
    "Pre-trained samplers with truncation and rejection, ImageNet",
    (MIN, MAX),
    tuple(
        _pretrained(f"Pretrained-{chain}", decoder, side, low, (MAX, high), f"pretrained-{chain}", decoder.lower())
        for chain, decoder, side, low, high in (
            ("128-64", "ESRGAN-P", 256, "12.28 / 46.06", "13.85 / 229.6"),
            ("128-64", "ESRGAN-W", 256, "12.66 / 45.54", "20.44 / 285.5"),
            ("256-128", "ESRGAN-P", 512, "10.30 / 213.35", "21.85 / 338.4"),
            ("256-128", "ESRGAN-W", 512, "10.59 / 52.14", "22.26 / 332.7"),
        )
    ),
)

_TABLE10 = Table(
    "table10",
    "StyleGAN2 on LSUN Church, 256 x 256",
    ("FID", "IS"),
    (
        Row("Pretrained-256-64", "ESRGAN-W", 256, {"FID": "13.53", "IS": "3.182"}, "stylegan2-256-64", "esrgan-w"),
        Row(
            "Pretrained-256-64",
            "ESRGAN-W (Church)",
            256,
            {"FID": "7.886", "IS": "2.784"},
            "stylegan2-256-64",
            "esrgan-w",
            "an ESRGAN-W trained on LSUN Church: train it with `nsbgan train decoder`, give it with "
            "--weights esrgan-w-church=FILE",
            "esrgan-w-church",
        ),
    ),
)

TABLES = {t.name: t for t in (_TABLE1, _TABLE2, _TABLE3, _TABLE4, _TABLE5, _TABLE10)}


def find_table(name: str) -> Table:
    """The paper's table called `name`. Raises UnknownNameError with near names."""
    if name not in TABLES:
        raise unknown_name("table", name, TABLES)
    return TABLES[name]


def pair(fd: float, score: float) -> str:
    """`FID / IS` as the paper writes it, four digits each."""
    return f"{fd:.4g} / {score:.4g}"


def columns_of(sweep: Sweep) -> dict[str, str]:
    """A sweep in the paper's columns."""
    return {
        MIN: pair(sweep.min_fd.fd, sweep.min_fd.score),
        MAX: pair(sweep.max_score.fd, sweep.max_score.score),
    }


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in markdown, columns aligned."""
    cells = [[str(c).replace("|", "\\|") for c in line] for line in (header, *rows)]
    widths = [max(3, *(len(line[i]) for line in cells)) for i in range(len(header))]
    lines = ["| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |" for line in cells]
    return "\n".join([lines[0], "|" + "|".join("-" * (w + 2) for w in widths) + "|", *lines[1:]])


def sweep_markdown(sweep: Sweep) -> str:
    """Every point of a sweep, and the paper's two columns below."""
    rows = []
    for p in sweep.points:
        mark = "".join(m for m, best in ((" min", sweep.min_fd), (" max", sweep.max_score)) if p == best)
        rows.append(
            (
                f"{p.truncation:g}",
                "-" if p.threshold is None else f"{p.threshold:.2f}",
                f"{p.fd:.2f}",
                f"{p.score:.2f} +- {p.deviation:.2f}",
                "-" if p.share is None else f"{p.share:.3f}",
                f"{p.draws:.2f}",
                f"{p.n}{mark}",
            )
        )
    header = (
        "truncation",
        "threshold",
        sweep.judge,
        _score_name(sweep.judge),
        "share as asked",
        "draws a picture",
        "n",
    )
    title = f"{sweep.sampler}, {sweep.decoder}, {sweep.resolution} px, against {sweep.real} (n = {sweep.n_real})"
    low, high = columns_of(sweep).values()
    names = (f"min {sweep.judge} / {_score_name(sweep.judge)}", f"{sweep.judge} / max {_score_name(sweep.judge)}")
    return f"{title}\n\n{markdown(header, rows)}\n\n{names[0]}: {low}\n{names[1]}: {high}"


def _score_name(judge: str) -> str:
    return "IS" if judge == "FID" else judge.replace("FD", "IS")

"""`nsbgan evaluate decoder`: what does a decoder restore?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from nsbgan_infer.cli.options import EXISTING, console_options
from nsbgan_infer.cli.output import Console, table
from nsbgan_infer.errors import UsageError

if TYPE_CHECKING:
    from nsbgan_infer.decoders.base import Decoder
    from nsbgan_infer.evaluation.degraded import DegradedReport
    from nsbgan_infer.evaluation.reconstruction import DecoderReport


@click.command("decoder")
@click.option(
    "--decoder",
    "names",
    required=True,
    multiple=True,
    metavar="REF",
    help="A name, folder, .safetensors file, hf://owner/repo or spandrel:FILE (?reads=gaussian behind it if it was not "
    "trained on bicubic reductions). Repeat to compare: the pictures are read once, and --json gives a list.",
)
@click.option(
    "--images",
    "paths",
    multiple=True,
    metavar="SRC",
    help="A folder, ZIP or tar of real pictures, each side at least 32. Repeat for more.",
)
@click.option(
    "--pairs",
    type=EXISTING,
    metavar="LR [HR]",
    help="Measure on given pairs instead: two folders, or one folder or ZIP that holds lr/ and hr/.",
)
@click.argument("hr", required=False, type=EXISTING, metavar="")
@click.option(
    "--ensemble",
    is_flag=True,
    help="Also the mean of each decoder's results on the eight turns and mirrors of a picture (NAME+).",
)
@click.option(
    "--degrade",
    metavar="WAY",
    help="Photos from the world: camera (blur, noise, JPEG 40 to 80) or two-round (worse) go over each picture first.",
)
@click.option("--seed", type=click.IntRange(min=0), help="Of what --degrade draws. Default: 0.")
@click.option("--count", type=click.IntRange(min=1), help="Measure this many, spread evenly over all. Default: all.")
@click.option("--batch-size", type=click.IntRange(min=1), default=8, help="Pictures of one size decoded together.")
@click.option("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--dtype", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", help="auto is fp32.")
@click.option(
    "--engine",
    type=click.Choice(["auto", "eager", "compile", "openvino"]),
    default="auto",
    help="auto is OpenVINO, where it is installed, on a CPU from 8 million pixels on. It compiles once for all sizes, "
    "compile once for each.",
)
@click.option("--offline", is_flag=True, help="Never use the network.")
@console_options
def command(
    names: tuple[str, ...],
    paths: tuple[str, ...],
    pairs: Path | None,
    hr: Path | None,
    ensemble: bool,
    degrade: str | None,
    seed: int | None,
    count: int | None,
    batch_size: int,
    device: str,
    dtype: str,
    engine: str,
    offline: bool,
    console: Console,
) -> None:
    """Shrink real pictures by 4 as the decoder reads them, restore them, and compare; or take given pairs.

    Y-PSNR and SSIM on BT.601 luma (studio range, border of the scale cut), MSE on RGB in [0, 1], means over the
    pictures; from 2,048 pictures on also FD-lite0 and FD-lite2 of the reconstructions. With --pairs as in published
    tables: every result is laid over its small picture, and grey pictures are their own luma.

    With --degrade the small pictures are what a camera or a web page makes of the large ones, the same for every
    decoder and each time for one seed. Measured are Y-PSNR, SSIM, the distance of EfficientNet-Lite2's features to
    those of the original, and how far the mean colour is off.
    """
    _check_wishes(bool(paths), pairs, hr, count, degrade, seed)
    from nsbgan_infer.datasets import describe, open_source
    from nsbgan_infer.datasets.description import read_text
    from nsbgan_infer.decoders.ensemble import SelfEnsemble
    from nsbgan_infer.degradations.world import degradation
    from nsbgan_infer.devices import pick_device, pick_dtype
    from nsbgan_infer.evaluation.degraded import evaluate_degraded
    from nsbgan_infer.evaluation.engine import estimate_pixels, place_decoder
    from nsbgan_infer.evaluation.pairs import evaluate_pairs, open_pairs
    from nsbgan_infer.evaluation.reconstruction import evaluate_decoders
    from nsbgan_infer.registry import load_decoder
    from nsbgan_infer.storage.hub import set_offline

    if offline:
        set_offline()
    chosen = pick_device(device)
    precision = pick_dtype(dtype, chosen)
    given = open_pairs(pairs, hr) if pairs is not None else None
    source = given.large if given else open_source(list(paths))
    console.note(read_text(len(source), source.classes, source.left_out))
    source = source.spread(count) if count else source
    if degrade is not None:
        degradation(degrade)  # before weights are read
    pixels = estimate_pixels(source)
    decoders = [place_decoder(load_decoder(name), engine, chosen, precision, pixels) for name in names]
    if ensemble:
        decoders = [part for d in decoders for part in (d, cast("Decoder", SelfEnsemble(d)))]
    with console.bar(len(source)) as bar:
        bar.step("4 decoders")
        if degrade is not None:
            degraded = evaluate_degraded(decoders, source, way=degrade, seed=seed or 0, progress=bar.advance)
            texts = [_degraded_text(d.info.name, r) for d, r in zip(decoders, degraded, strict=True)]
            reports: Sequence[Any] = degraded
        else:
            restored = (
                evaluate_pairs(decoders, given, progress=bar.advance)
                if given
                else evaluate_decoders(decoders, source, batch=batch_size, progress=bar.advance)
            )
            texts = [_decoder_text(d.info.name, r) for d, r in zip(decoders, restored, strict=True)]
            reports = restored
    about = asdict(describe(source))
    values = [{"decoder": d.info.name, **asdict(r), "set": about} for d, r in zip(decoders, reports, strict=True)]
    console.result(values[0] if len(values) == 1 else values, "\n".join(texts))


def _check_wishes(
    images: bool, pairs: Path | None, hr: Path | None, count: int | None, degrade: str | None, seed: int | None
) -> None:
    """Raise UsageError for options that do not go together."""
    if (pairs is None) == (not images):
        raise UsageError("Which pictures? Give --images SRC to shrink them here, or --pairs LR HR.")
    if hr is not None and pairs is None:
        raise UsageError(f"'{hr}' stands alone: folders of pairs are given as --pairs LR HR.")
    if pairs is not None and (count or degrade is not None):
        name = "--count chooses from" if count else "--degrade makes small pictures of"
        raise UsageError(f"{name} --images; of --pairs all are measured as they are.")
    if seed is not None and degrade is None:
        raise UsageError("--seed is that of --degrade: give both, or neither.")


def _decoder_text(name: str, report: DecoderReport) -> str:
    rows = [
        ("small pictures", "the given pairs" if report.reads == "pairs" else f"{report.reads} reduction"),
        ("Y-PSNR", f"{report.psnr_y:.2f} dB (interpolation {report.baseline_psnr_y:.2f})"),
        ("SSIM", f"{report.ssim:.4f}"),
        ("MSE", f"{report.mse:.6f}"),
        ("FD-lite0", _or_few(report.fd_lite0)),
        ("FD-lite2", _or_few(report.fd_lite2)),
        ("n", str(report.n)),
    ]
    return table(rows, header=(name, ""))


def _degraded_text(name: str, report: DegradedReport) -> str:
    rows = [
        ("Y-PSNR", f"{report.psnr_y:.2f} dB"),
        ("SSIM", f"{report.ssim:.4f}"),
        ("feature distance", f"{report.feature_distance:.3f} (EfficientNet-Lite2)"),
        ("colour", "red {:+.2f}, green {:+.2f}, blue {:+.2f} grey levels".format(*report.colour)),
        ("colour of one", f"{report.colour_error:.2f} grey levels off"),
        ("n", str(report.n)),
    ]
    return table(rows, header=(name, ""))


def _or_few(value: float | None) -> str:
    return "needs 2,048 pictures" if value is None else f"{value:.3f}"

"""`nsbgan evaluate`: how good are these images, this decoder, this pipeline along a sweep?"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from nsbgan_infer.cli.options import console_options
from nsbgan_infer.cli.output import Console, table

if TYPE_CHECKING:
    from nsbgan_infer.evaluation.reconstruction import DecoderReport


@click.group("evaluate")
def command() -> None:
    """Measure images, decoders and pipelines (extra `eval`)."""


@command.command("decoder")
@click.option(
    "--decoder",
    "name",
    required=True,
    metavar="REF",
    help="A name, folder, .safetensors file, hf://owner/repo or spandrel:FILE.",
)
@click.option(
    "--images",
    "paths",
    required=True,
    multiple=True,
    metavar="SRC",
    help="A folder, ZIP or tar of real pictures, each side at least 32. Repeat for more.",
)
@click.option("--batch-size", type=click.IntRange(min=1), default=8, help="Pictures of one size decoded together.")
@click.option("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--dtype", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", help="auto is fp32.")
@click.option("--offline", is_flag=True, help="Never use the network.")
@console_options
def decoder_command(
    name: str, paths: tuple[str, ...], batch_size: int, device: str, dtype: str, offline: bool, console: Console
) -> None:
    """Shrink real pictures by 4 in the decoder's own basis, restore them, and compare.

    Y-PSNR and SSIM on BT.601 luma (studio range, border of 4 cut), MSE on RGB in [0, 1], means over the pictures; from
    2,048 pictures on also FD-lite0 and FD-lite2 of the reconstructions.
    """
    import torch

    from nsbgan_infer.devices import pick_device, pick_dtype
    from nsbgan_infer.evaluation.reconstruction import evaluate_decoder
    from nsbgan_infer.hub import set_offline
    from nsbgan_infer.registry import load_decoder
    from nsbgan_infer.sources import open_source

    if offline:
        set_offline()
    chosen = pick_device(device)
    precision = pick_dtype(dtype, chosen)
    source = open_source(list(paths))
    decoder = load_decoder(name)
    if isinstance(decoder, torch.nn.Module):
        decoder.to(chosen, precision)
    with console.bar(len(source)) as bar:
        bar.step("4 decoders")
        report = evaluate_decoder(decoder, source, batch=batch_size, progress=bar.advance)
    console.result({"decoder": decoder.info.name, **asdict(report)}, _decoder_text(decoder.info.name, report))


def _decoder_text(name: str, report: DecoderReport) -> str:
    rows = [
        ("Y-PSNR", f"{report.psnr_y:.2f} dB (interpolation {report.baseline_psnr_y:.2f})"),
        ("SSIM", f"{report.ssim:.4f}"),
        ("MSE", f"{report.mse:.6f}"),
        ("FD-lite0", _or_few(report.fd_lite0)),
        ("FD-lite2", _or_few(report.fd_lite2)),
        ("n", str(report.n)),
    ]
    return table(rows, header=(name, ""))


def _or_few(value: float | None) -> str:
    return "needs 2,048 pictures" if value is None else f"{value:.3f}"

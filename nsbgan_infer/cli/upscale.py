"""`nsbgan upscale`: real photos through a decoder, larger, or shrunk and restored for comparison."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nsbgan_infer.cli.complete import decoder_names
from nsbgan_infer.cli.options import console_options
from nsbgan_infer.cli.output import Console
from nsbgan_infer.errors import UsageError, WorkError

if TYPE_CHECKING:
    from nsbgan_infer.decoders.base import Decoder
    from nsbgan_infer.photos import Photo, Wish
    from nsbgan_infer.photos.batch import Batch, Existing, Failure
    from nsbgan_infer.photos.enlarging import Tell
    from nsbgan_infer.photos.run import Done, Make


@click.command("upscale")
@click.argument(
    "inputs", nargs=-1, required=True, type=click.Path(exists=True, allow_dash=True, path_type=Path), metavar="IN..."
)
@click.option(
    "-o",
    "--out",
    default="out",
    metavar="PATH",
    help="A file name ending in .png, .jpg, .webp or .avif for one photo, - for standard output, else a folder.",
)
@click.option(
    "--decoder",
    metavar="REF",
    shell_complete=decoder_names,
    help="A name, folder, .safetensors file, hf://owner/repo or spandrel:FILE. Default: "
    "the decoder with the highest PSNR measured on photos.",
)
@click.option("--sharp", is_flag=True, help="Take the decoder for worn photos: it undoes blur, noise and JPEG as well.")
@click.option(
    "--ensemble", is_flag=True, help="The mean over eight turns and mirrors: a little better, eight times the work."
)
@click.option(
    "--scale",
    type=click.Choice(["2", "3", "4", "8"]),
    help="How many times larger. Default: as far as the decoder does.",
)
@click.option("--size", metavar="WxH", help="Exactly this size instead; 1920x or x1080 keeps the proportions.")
@click.option(
    "--format",
    "fmt",
    type=click.Choice(["png", "jpeg", "webp", "avif"]),
    help="Format of the results. Default: by the ending of --out, else png.",
)
@click.option("--quality", type=click.IntRange(1, 100), help="Of JPEG and WebP (default 92) and AVIF (85).")
@click.option(
    "-r", "--recursive", is_flag=True, help="Take the photos of sub-folders too; results keep the sub-folder."
)
@click.option("--skip-existing", is_flag=True, help="Leave results that exist and do the rest.")
@click.option("--overwrite", is_flag=True, help="Replace results that exist. Photos that are read are never replaced.")
@click.option("--round-trip", is_flag=True, help="Shrink each photo first with the decoder's own encoder; report PSNR.")
@click.option(
    "--tile", type=click.IntRange(min=8), help="Decode in tiles of this side. Default: as large as memory stays flat."
)
@click.option("--max-pixels", type=click.IntRange(min=1), default=1 << 24, help="Refuse larger photos.")
@click.option("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--dtype", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", help="auto is fp32.")
@click.option(
    "--engine",
    type=click.Choice(["auto", "eager", "compile", "openvino"]),
    default="auto",
    help="What runs the decoder. auto: OpenVINO on a CPU where it is installed and the photos are large enough to "
    "repay compiling, else plain torch.",
)
@click.option("--offline", is_flag=True, help="Never use the network.")
@console_options
def command(
    inputs: tuple[Path, ...],
    out: str,
    decoder: str | None,
    sharp: bool,
    ensemble: bool,
    scale: str | None,
    size: str | None,
    fmt: Any,
    quality: int | None,
    recursive: bool,
    skip_existing: bool,
    overwrite: bool,
    round_trip: bool,
    tile: int | None,
    max_pixels: int,
    device: str,
    dtype: str,
    engine: str,
    offline: bool,
    console: Console,
) -> None:
    """Enlarge photos four times, or as you say.

    IN is a photo, a folder of photos, or - for standard input. A photo is turned upright; transparency, grey, 16 bits,
    colour profile, EXIF data and resolution are kept where the format of the result can hold them. Photos are never
    overwritten, and results of earlier runs in a folder are not enlarged again.
    """
    from nsbgan_infer.decoders.ensemble import SelfEnsemble
    from nsbgan_infer.photos.batch import check_batch, plan_batch
    from nsbgan_infer.photos.run import Work
    from nsbgan_infer.photos.writing import check_format

    wish = _wish(scale, size, round_trip)
    existing = _existing(skip_existing, overwrite)
    if out == "-" and console.json:
        raise UsageError(
            "--out - writes the picture to standard output, where --json would write too: give one of them."
        )
    batch = plan_batch(
        inputs, out, ending="round-trip" if round_trip else "enlarged", fmt=fmt, recursive=recursive, existing=existing
    )
    for used in {j.fmt for j in batch.jobs}:
        check_format(used, quality)
    _check_places(out, batch)
    loaded = _load(decoder, sharp, ensemble, offline)
    batch = check_batch(batch, wish, 1 if round_trip else loaded.info.scale, max_pixels)
    if text := batch.left_out_text():
        console.note(text)
    if batch.failures and not batch.jobs and not batch.skipped:
        raise batch.failures[0].error
    if batch.jobs:
        loaded = _engine(loaded, batch, engine, device, dtype, console)
        loaded = SelfEnsemble(loaded) if ensemble else loaded
    failed_early = batch.failures if batch.jobs or batch.skipped else ()
    for failure in failed_early:
        console.warn(str(failure.error))
    work = Work(
        loaded, wish, _round_trip(loaded, tile) if round_trip else None, quality, tile, max_pixels, _say(console)
    )
    with console.bar(len(batch.jobs), unit="photo") as bar:
        bar.step("4 decoders")
        with console.counted(lambda: f"{int(bar.done)} of {len(batch.jobs)} photos are enlarged, in {out}"):
            done, failed = work.run(batch, bar.at)
    if out != "-":
        _report(loaded, batch, done, failed, console)
    if failed:
        count = len(batch.jobs) + len(batch.skipped) + len(batch.failures)
        raise WorkError(f"{len(failed)} of {count} photos could not be enlarged; the others are in {out}.")


def _report(decoder: Decoder, batch: Batch, done: list[Done], failed: list[Failure], console: Console) -> None:
    rows = [
        {"in": str(d.job.source), "out": str(d.job.target), **d.measured, "width": d.size[0], "height": d.size[1]}
        for d in done
    ]
    value: dict[str, Any] = {"decoder": decoder.info.name, "pictures": rows}
    value["failed"] = [{"in": str(f.source), "error": str(f.error)} for f in failed]
    value |= {"skipped": [str(j.target) for j in batch.skipped], "left_out": batch.left_out}
    console.result(value, "\n".join([*map(_line, rows), *(f"{j.target}  exists already" for j in batch.skipped)]))


def _round_trip(decoder: Decoder, tile: int | None) -> Make:
    import numpy as np

    from nsbgan_infer.evaluation.round_trip import round_trip

    def make(photo: Photo, _tell: Tell) -> tuple[Photo, dict[str, float]]:
        result = round_trip(photo, decoder, tile=tile)
        measured = {"psnr_y": result.psnr_y, "ssim": result.ssim, "baseline_psnr_y": result.baseline_psnr_y}
        return replace(photo, pixels=np.asarray(result.image)), measured

    return make


def _say(console: Console) -> Callable[[Path, str], None]:
    def say(source: Path, note: str) -> None:
        console.note(note if str(source) in note else f"{source}: {note}")

    return say


def _wish(scale: str | None, size: str | None, round_trip: bool) -> Wish:
    from nsbgan_infer.photos.resizing import Wish, parse_size

    if scale and size:
        raise UsageError("Give --scale or --size, not both.")
    if round_trip and (scale or size):
        raise UsageError("--round-trip gives the photo's own size back: leave out --scale and --size.")
    return Wish(int(scale) if scale else None, parse_size(size) if size else None)


def _existing(skip: bool, overwrite: bool) -> Existing:
    if skip and overwrite:
        raise UsageError("Give --skip-existing or --overwrite, not both.")
    return "skip" if skip else "overwrite" if overwrite else "refuse"


def _check_places(out: str, batch: Batch) -> None:
    """Make the folder of the results and try that it can be written to; a terminal is no place for pictures."""
    from nsbgan_infer.photos.batch import STREAM, is_file_name
    from nsbgan_infer.storage.files import writable_folder

    if any(j.source == STREAM for j in batch.jobs) and sys.stdin.isatty():
        raise UsageError("Standard input is a terminal: pipe a picture's file into it, or name one.")
    if out == "-":
        if sys.stdout.isatty():
            raise UsageError("--out - would write a picture to the terminal: pipe it on, or give a file name.")
        return
    writable_folder(Path(out).parent if is_file_name(out) else Path(out))


def _load(name: str | None, sharp: bool, ensemble: bool, offline: bool) -> Decoder:
    from nsbgan_infer.cli.loading import go_offline
    from nsbgan_infer.decoders.ensemble import SelfEnsemble
    from nsbgan_infer.registry import load_decoder
    from nsbgan_infer.storage.shipped import default_upscaler

    if offline:
        go_offline()
    if sharp and name:
        raise UsageError("Give --sharp or --decoder, not both.")
    loaded = load_decoder(name or default_upscaler(sharp=sharp))
    if ensemble:
        SelfEnsemble(loaded)  # refuses one that it does not fit before any work
    return loaded


def _engine(decoder: Decoder, batch: Batch, engine: str, device: str, dtype: str, console: Console) -> Decoder:
    from nsbgan_infer.devices import pick_device, pick_dtype
    from nsbgan_infer.engines import place_part
    from nsbgan_infer.photos.batch import pixels_of
    from nsbgan_infer.photos.engine import pick_photo_engine

    chosen = pick_device(device)
    name = pick_photo_engine(engine, chosen, decoder, pixels_of(batch))
    if engine == "auto" and name != "eager":
        console.note(f"Using the engine {name}: --engine eager for plain torch.")
    return place_part(decoder, name, chosen, pick_dtype(dtype, chosen))


def _line(row: dict[str, Any]) -> str:
    text = f"{row['out']}  {row['width']} x {row['height']}"
    if "psnr_y" in row:
        text += f"  Y-PSNR {row['psnr_y']:.2f} dB (interpolation {row['baseline_psnr_y']:.2f}), SSIM {row['ssim']:.4f}"
    return text

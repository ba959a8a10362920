"""`nsbgan upscale`: real photos through a decoder, four times larger, or shrunk and restored for comparison."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nsbgan_infer.cli.complete import decoder_names
from nsbgan_infer.cli.options import EXISTING, FILE_OR_FOLDER, console_options
from nsbgan_infer.cli.output import Console
from nsbgan_infer.errors import ImageFileError, NsbError, UsageError, WorkError

if TYPE_CHECKING:
    from PIL import Image

    from nsbgan_infer.decoders.base import Decoder
    from nsbgan_infer.photos import Photo

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True)
class Job:
    """One photo and where its enlargement goes."""

    source: Path
    target: Path


@click.command("upscale")
@click.argument("inputs", nargs=-1, required=True, type=EXISTING, metavar="IN...")
@click.option(
    "-o",
    "--out",
    type=FILE_OR_FOLDER,
    default=Path("out"),
    help="A file name ending in .png, .webp or .jpg for one photo, else a folder. Existing files are replaced.",
)
@click.option(
    "--decoder",
    metavar="REF",
    shell_complete=decoder_names,
    help="A name, folder, .safetensors file, hf://owner/repo or spandrel:FILE. Default: "
    "the wavelet decoder with the highest measured PSNR.",
)
@click.option("--round-trip", is_flag=True, help="Shrink each photo first with the decoder's own encoder; report PSNR.")
@click.option("--tile", type=click.IntRange(min=8), help="Decode in tiles of this side. Default: 256 if it is large.")
@click.option("--max-pixels", type=click.IntRange(min=1), default=1 << 24, help="Refuse larger photos.")
@click.option("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps.")
@click.option("--dtype", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", help="auto is fp32.")
@click.option("--offline", is_flag=True, help="Never use the network.")
@console_options
def command(
    inputs: tuple[Path, ...],
    out: Path,
    decoder: str | None,
    round_trip: bool,
    tile: int | None,
    max_pixels: int,
    device: str,
    dtype: str,
    offline: bool,
    console: Console,
) -> None:
    """Enlarge photos four times, or as far as the decoder does.

    IN is a photo, or a folder whose photos are taken. The photo is taken for the decoder's low band. It is turned
    upright; transparency and grey are kept, 16-bit grey becomes 8-bit.
    """
    jobs = _jobs(inputs, out, "round-trip" if round_trip else "enlarged")
    from nsbgan_infer.photos import open_photo

    only = open_photo(jobs[0].source, max_pixels=max_pixels) if len(jobs) == 1 else None  # unreadable: before any work
    loaded = _load(decoder, device, dtype, offline)
    done, failed = [], []
    with console.bar(len(jobs), unit="photo") as bar:
        for job in jobs:
            bar.step("4 decoders")
            try:
                photo = only or open_photo(job.source, max_pixels=max_pixels)
                done.append(_one(job, photo, loaded, tile, round_trip, console))
            except (ImageFileError, WorkError) as error:
                if len(jobs) == 1:
                    raise
                console.warn(f"{job.source}: {error}")
                failed.append({"in": str(job.source), "error": str(error)})
            bar.advance()
    console.result({"decoder": loaded.info.name, "pictures": done, "failed": failed}, "\n".join(map(_line, done)))
    if failed:
        raise WorkError(f"{len(failed)} of {len(jobs)} photos could not be enlarged; the others are in {out}.")


def _jobs(inputs: tuple[Path, ...], out: Path, ending: str) -> list[Job]:
    """Where each photo goes. Raises UsageError before any work if that cannot be."""
    from nsbgan_infer.files import writable_folder
    from nsbgan_infer.images import format_of

    sources = [p for given in inputs for p in (_photos_in(given) if given.is_dir() else [given])]
    into_folder = len(sources) > 1 or inputs[0].is_dir() or out.is_dir() or not out.suffix
    if into_folder:
        if out.suffix and not out.is_dir():
            raise UsageError(f"{len(sources)} photos do not go into one file: give a folder with --out, not {out}.")
        jobs = [Job(p, out / f"{p.stem}_{ending}.png") for p in sources]
    else:
        format_of(out)
        jobs = [Job(sources[0], out)]
    targets = [j.target for j in jobs]
    for job in jobs:
        if targets.count(job.target) > 1:
            raise UsageError(f"Two photos would be written to {job.target}: enlarge them into two folders.")
        if job.target.exists() and job.target.samefile(job.source):
            raise UsageError(f"{job.target} is the photo itself: choose another --out.")
    writable_folder(out if into_folder else out.parent)
    return jobs


def _photos_in(folder: Path) -> list[Path]:
    found = sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file())
    if not found:
        raise UsageError(f"No photos in {folder}: expected {', '.join(SUFFIXES)} files.")
    return found


def _load(name: str | None, device: str, dtype: str, offline: bool) -> Decoder:
    import torch

    from nsbgan_infer.cli.loading import go_offline
    from nsbgan_infer.devices import pick_device, pick_dtype
    from nsbgan_infer.pretrained import default_decoder
    from nsbgan_infer.registry import load_decoder

    if offline:
        go_offline()
    chosen = pick_device(device)
    decoder = load_decoder(name or default_decoder("wavelet", "upscale"))
    if isinstance(decoder, torch.nn.Module):
        decoder.to(chosen, pick_dtype(dtype, chosen))
    return decoder


def _one(
    job: Job, photo: Photo, decoder: Decoder, tile: int | None, round_trip: bool, console: Console
) -> dict[str, Any]:
    from nsbgan_infer import photos

    for note in photo.notes:
        console.note(f"{job.source}: {note}")
    row: dict[str, Any] = {"in": str(job.source), "out": str(job.target)}
    if round_trip:
        result = photos.round_trip(photo, decoder, tile=tile)
        image = result.image
        row |= {"psnr_y": result.psnr_y, "ssim": result.ssim, "baseline_psnr_y": result.baseline_psnr_y}
    else:
        image = photos.enlarge(photo, decoder, tile=tile)
    _write(image, job.target, photo.profile)
    return row | {"width": image.width, "height": image.height}


def _write(image: Image.Image, target: Path, profile: bytes | None) -> None:
    from PIL import Image

    from nsbgan_infer.images import format_of, save_image

    if image.mode == "RGBA" and format_of(target) == "jpeg":  # JPEG has no transparency
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image).convert("RGB")
    if profile and image.mode in ("RGB", "RGBA", "L"):
        image.info["icc_profile"] = profile
    try:
        save_image(image, target)
    except NsbError:
        raise
    except (OSError, ValueError) as error:
        raise WorkError(f"Cannot write {target}: {error}.") from error


def _line(row: dict[str, Any]) -> str:
    text = f"{row['out']}  {row['width']} x {row['height']}"
    if "psnr_y" in row:
        text += f"  Y-PSNR {row['psnr_y']:.2f} dB (interpolation {row['baseline_psnr_y']:.2f}), SSIM {row['ssim']:.4f}"
    return text

"""The paper's figures on a picture of one's own: the pyramid (figure 1), both encoders at 64 (figure 2), and spatial
slices against bands (appendix F, figure 29). Pictures in, one captioned sheet out (PIL, RGB).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from nsbgan_infer.datasets import ImageSource, centre_square, to_tensor
from nsbgan_infer.encoders import PixelEncoder, WaveletEncoder
from nsbgan_infer.encoders.lifting import dwt2
from nsbgan_infer.evaluation.reconstruction import baseline, quantise, y_scores
from nsbgan_infer.images import save_image, to_pil

SIDE = 256
GAP, CAPTION = 8, 18
DETAIL_GAIN = 4.0  # details are small: shown around mid-grey, this much stronger


@dataclass(frozen=True)
class Kept:
    """What the two encoders keep of one picture at 64 x 64: Y-PSNR in dB of interpolating back to 256."""

    name: str
    wavelet_psnr_y: float
    pixel_psnr_y: float


def draw_figure(name: str, source: ImageSource, path: Path) -> tuple[list[dict[str, object]], str]:
    """Figure `name` (fig1, fig2: up to eight pictures, slicing) of the first pictures of `source` as a PNG at `path`.

    Returns a row for each picture shown, and the same in words.
    """
    if name == "fig2":
        page, kept = encoders_sheet(
            [(Path(source.names[i]).stem[:40], source.image(i)) for i in range(len(source))[:8]]
        )
        rows: list[dict[str, object]] = [asdict(k) for k in kept]
        lines = [f"{k.name}: wavelet {k.wavelet_psnr_y:.2f} dB, pixel {k.pixel_psnr_y:.2f} dB" for k in kept]
    else:
        page = (pyramid_sheet if name == "fig1" else slicing_sheet)(source.image(0))
        rows, lines = [{"name": source.names[0]}], [source.names[0]]
    save_image(page, path)
    return rows, "\n".join(lines)


def packed(picture: Tensor, levels: int) -> Tensor:
    """The pyramid of (3, S, S) in one picture of the same size: TL the low band, TR cH, BL cV, BR cD, details around
    mid-grey; only TL is transformed again."""
    low, details = dwt2(picture[None])
    top = packed(low[0], levels - 1) if levels > 1 else low[0]
    right, below, corner = (0.5 + DETAIL_GAIN * details[0]).unbind(0)
    return torch.cat((torch.cat((top, right), -1), torch.cat((below, corner), -1)), -2)


def pyramid_sheet(image: Image.Image) -> Image.Image:
    """Figure 1: the picture, one level and two levels of its wavelet transform."""
    picture = _square(image)
    cells = [(picture, "picture"), (packed(picture, 1), "1 level"), (packed(picture, 2), "2 levels")]
    return sheet([cells])


def encoders_sheet(images: Sequence[tuple[str, Image.Image]]) -> tuple[Image.Image, list[Kept]]:
    """Figure 2: each picture, its wavelet low band and its Gaussian low band at 64, shown four times larger, and what
    can be restored from each by interpolation."""
    rows, kept = [], []
    for name, image in images:
        picture = _square(image)
        cells, psnrs = [(picture, name)], []
        for encoder, what in ((WaveletEncoder(2), "wavelet, 64"), (PixelEncoder(2), "pixel (Gaussian), 64")):
            low = encoder(picture[None])
            restored = quantise(baseline(low, encoder.makes))
            psnrs.append(float(y_scores(restored, picture[None])[0]))
            cells.append((low[0].repeat_interleave(4, -1).repeat_interleave(4, -2), f"{what}: {psnrs[-1]:.2f} dB"))
        rows.append(cells)
        kept.append(Kept(name, psnrs[0], psnrs[1]))
    return sheet(rows), kept


def slicing_sheet(image: Image.Image) -> Image.Image:
    """Figure 29: four spatial slices (every second pixel, as subscale pixel networks take them) against four bands."""
    picture = _square(image)
    slices = torch.cat(
        [torch.cat([picture[:, i::2, j::2] for j in (0, 1)], -1) for i in (0, 1)], -2
    )  # neighbours end up in different slices, and each slice looks like the next
    cells = [(picture, "picture"), (slices, "spatial slices"), (packed(picture, 1), "bands TL TR BL BR")]
    return sheet([cells])


def sheet(rows: Sequence[Sequence[tuple[Tensor, str]]]) -> Image.Image:
    """Pictures (3, S, S) with captions below, in rows of equal cells."""
    side = rows[0][0][0].shape[-1]
    columns = max(len(row) for row in rows)
    width, height = columns * (side + GAP) + GAP, len(rows) * (side + CAPTION + GAP) + GAP
    page = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(page)
    for y, row in enumerate(rows):
        for x, (picture, caption) in enumerate(row):
            left, top = GAP + x * (side + GAP), GAP + y * (side + CAPTION + GAP)
            page.paste(to_pil(picture[None])[0], (left, top))
            pen.text((left, top + side + 2), caption, fill="black")
    return page


def _square(image: Image.Image) -> Tensor:
    return to_tensor(centre_square(image.convert("RGB"), SIDE))

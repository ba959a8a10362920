"""A photo encoded and decoded again: what a decoder loses of a photo that is known."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from nsbgan_infer.datasets import to_tensor
from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.errors import ImageFileError
from nsbgan_infer.evaluation.reconstruction import SMALLEST, baseline, own_reducer, quantise, y_scores
from nsbgan_infer.photos import Photo, decode_image


@dataclass(frozen=True)
class RoundTrip:
    """A photo reduced as the decoder reads it and decoded again: same size as the photo.

    `psnr_y` (dB) and `ssim` compare it with the photo; `baseline_psnr_y` is that of interpolation in the same basis.
    """

    image: Image.Image
    psnr_y: float
    ssim: float
    baseline_psnr_y: float


def round_trip(photo: Photo, decoder: Decoder, *, tile: int | None = None) -> RoundTrip:
    """Reduce the photo by 4 as the decoder reads it, decode, and compare (transparency is left out).

    Raises UsageError for a decoder that is not x4 and ImageFileError for a photo with a side under 32.
    """
    reduce = own_reducer(decoder)
    width, height = photo.size
    if min(width, height) < SMALLEST:
        raise ImageFileError(f"A round trip needs at least {SMALLEST} pixels a side, the photo is {width} x {height}.")
    low = reduce(photo.rgb)
    anchor = decoder.info.reduction.anchor
    image = decode_image(decoder, low, tile=tile, anchor=anchor).crop((0, 0, width, height))
    plain = quantise(baseline(low, decoder.info.reads)[..., :height, :width])
    psnr_y, ssim = y_scores(to_tensor(image)[None], photo.rgb)
    baseline_psnr_y, _ = y_scores(plain, photo.rgb)
    return RoundTrip(image, float(psnr_y), float(ssim), float(baseline_psnr_y))

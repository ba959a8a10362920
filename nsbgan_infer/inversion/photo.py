"""A photo as an inversion looks for it: a square picture, and the sample that would give it."""

from __future__ import annotations

from pathlib import Path

import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from nsbgan_infer.datasets import centre_square, to_tensor
from nsbgan_infer.encoders.reduce import make_reducer
from nsbgan_infer.errors import ImageFileError, UsageError
from nsbgan_infer.images import to_uint8
from nsbgan_infer.photos.reading import Photo, open_photo, to_srgb
from nsbgan_infer.pipeline import NsbPipeline

SEEN_SIDE = 128  # classifiers see nothing smaller
SMALLEST_PHOTO = 16


def working_side(pipeline: NsbPipeline) -> int:
    """The side at which photo and picture are compared: the smallest that the pipeline makes from 128 pixels on."""
    sides = [s for s in pipeline.resolutions if s >= SEEN_SIDE]
    return sides[0] if sides else pipeline.resolutions[-1]


def reduce_to_sample(pipeline: NsbPipeline, picture: Tensor) -> Tensor:
    """What the sampler would have to emit for `picture` (1, 3, S, S): (1, 3, resolution, resolution)."""
    info = pipeline.sampler.info
    times, rest = divmod(picture.shape[-1], info.resolution)
    if rest:
        raise UsageError(f"A photo of {picture.shape[-1]} pixels is no whole multiple of {info.resolution}.")
    return picture if times == 1 else make_reducer(info.makes, times)(picture)


def read_square(photo: str | Path | Photo | Image.Image, side: int) -> Tensor:
    """The central square of a photo, upright, in sRGB, what is transparent on white: (1, 3, side, side) in [0, 1].

    Raises ImageFileError if it cannot be read or is smaller than 16 pixels.
    """
    if isinstance(photo, Image.Image):
        rgb = photo.convert("RGB")
    else:
        opened = to_srgb(open_photo(Path(photo)) if isinstance(photo, str | Path) else photo)
        values = opened.rgb
        if opened.alpha is not None:
            values = values * opened.alpha + (1 - opened.alpha)
        rgb = Image.fromarray(to_uint8(values)[0])
    if min(rgb.size) < SMALLEST_PHOTO:
        raise ImageFileError(
            f"The photo has {rgb.width} x {rgb.height} pixels: give one of at least {SMALLEST_PHOTO} a side."
        )
    return to_tensor(centre_square(rgb, side))[None]


def multiple_of_32(picture: Tensor) -> Tensor:
    """A square picture at the nearest side that the classifiers take."""
    side = max(32, round(picture.shape[-1] / 32) * 32)
    if side == picture.shape[-1]:
        return picture
    return F.interpolate(picture, size=(side, side), mode="bilinear", align_corners=False, antialias=True)

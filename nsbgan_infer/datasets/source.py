"""The pictures of a set, one after the other: decoded, turned upright, and prepared for trainers and measures.

One shared preparation, `centre_square`, serves every trainer and measure: short side resized with antialiasing, centre
crop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nsbgan_infer.errors import ImageFileError, NsbError, UsageError
from nsbgan_infer.storage.image_files import GREY16, check_numbers, grey16, open_whole, sentences, tags_of


@dataclass(frozen=True)
class ImageSource:
    """A set of pictures in a fixed order (sorted by name within each file or folder given).

    `names[i]` is the picture's name for messages, `classes[i]` its ImageNet id or None, `read(i)` its bytes. `left_out`
    counts the files that lie beside them and were not taken, by reason.
    """

    names: tuple[str, ...]
    classes: tuple[int | None, ...]
    read: Callable[[int], bytes]
    left_out: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def image(self, index: int) -> Image.Image:
        """Picture `index` as RGB. Raises ImageFileError naming the file if it cannot be read or decoded."""
        try:
            data = self.read(index)
        except OSError as error:
            raise ImageFileError(f"{self.names[index]} cannot be read: {error.strerror or error}.") from error
        return decode_image(data, self.names[index])

    def spread(self, count: int) -> ImageSource:
        """`count` of the pictures, evenly over the whole order. Raises UsageError if there are fewer."""
        if count > len(self):
            raise UsageError(f"There are {len(self)} pictures, not {count}: ask for fewer, or give more.")
        return self.take([i * len(self) // count for i in range(count)])

    def take(self, rows: Sequence[int]) -> ImageSource:
        """The pictures at `rows`, in that order."""
        names, classes = tuple(self.names[i] for i in rows), tuple(self.classes[i] for i in rows)
        return ImageSource(names, classes, lambda i: self.read(rows[i]), self.left_out)


def decode_image(data: bytes, name: str) -> Image.Image:
    """Bytes of a picture -> RGB image, turned upright, transparent parts on white, 16-bit greys scaled to 8.

    Raises ImageFileError naming `name` for what is damaged, of another format, a decompression bomb or of floats.
    """
    from PIL import ImageOps

    with sentences(name):  # tags of a damaged file fail wherever they are read
        image = open_whole(data, name)
        check_numbers(image, name)
        return _to_rgb(ImageOps.exif_transpose(image), tags_of(image))


def _to_rgb(image: Image.Image, tags: Mapping[int, Any]) -> Image.Image:
    if image.mode in GREY16:  # convert() would clip, not scale
        return Image.fromarray((grey16(image, tags) / 257).round().astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def centre_square(image: Image.Image, size: int) -> Image.Image:
    """Short side resized to `size` with antialiasing (bicubic, only if it differs), then the central square."""
    width, height = image.size
    short = min(width, height)
    if short != size:
        width, height = max(size, round(width * size / short)), max(size, round(height * size / short))
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (width - size) // 2, (height - size) // 2
    return image.crop((left, top, left + size, top + size)) if (width, height) != (size, size) else image


def to_tensor(image: Image.Image) -> Tensor:
    """RGB image -> (3, H, W) float32 in [0, 1]."""
    return torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1).float().div_(255)


def check_images(source: ImageSource, *, smallest: int = 1) -> list[str]:
    """One sentence for every picture that cannot be decoded or has a side under `smallest` (empty: all are good)."""
    problems = []
    for i, name in enumerate(source.names):
        try:
            size = source.image(i).size
            if min(size) < smallest:
                problems.append(f"{name} is {size[0]} x {size[1]}, smaller than {smallest}.")
        except NsbError as error:
            problems.append(str(error))
    return problems

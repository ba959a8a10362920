"""What a set of pictures is, said in one way in reports, caches and the records of training."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from nsbgan_infer.datasets.names import left_out_text
from nsbgan_infer.datasets.source import ImageSource
from nsbgan_infer.errors import ImageFileError
from nsbgan_infer.storage.image_files import open_header


@dataclass(frozen=True)
class SetDescription:
    """A set of pictures in a few words."""

    n: int
    """Pictures."""
    classes: int
    """How many known classes they have."""
    unlabelled: int
    """Pictures without a known class."""
    sizes: str
    """`512 x 512`, or the smallest and the largest by area: `120 x 90 to 512 x 512`."""
    hash: str
    """`files:` over names, classes and bytes of the files in their order, or `pixels:` over the prepared pictures in
    any order; 16 hexadecimal digits."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Files that lie beside the pictures and were not taken, by reason."""


def describe(source: ImageSource) -> SetDescription:
    """Read every file of `source` once, without decoding it. Raises ImageFileError for one that cannot be read."""
    digest = hashlib.sha256()
    sizes = set()
    for i, (name, class_id) in enumerate(zip(source.names, source.classes, strict=True)):
        try:
            data = source.read(i)
        except OSError as error:
            raise ImageFileError(f"{name} cannot be read: {error.strerror or error}.") from error
        digest.update(f"{name}\0{class_id}\0{len(data)}\0".encode("utf-8", "surrogateescape") + data)
        with open_header(data, name) as image:
            sizes.add(image.size)
    return SetDescription(
        len(source),
        *count_classes(source.classes),
        sizes_text(sizes),
        f"files:{digest.hexdigest()[:16]}",
        dict(source.left_out),
    )


def count_classes(classes: tuple[int | None, ...]) -> tuple[int, int]:
    """The number of known classes, and of pictures without one."""
    return len(set(classes) - {None}), classes.count(None)


def sizes_text(sizes: set[tuple[int, int]]) -> str:
    """See `SetDescription.sizes`."""
    by_area = sorted(sizes, key=lambda size: (size[0] * size[1], size))
    ends = by_area[:1] + by_area[1:][-1:]
    return " to ".join(f"{width} x {height}" for width, height in ends)


def read_text(n: int, classes: tuple[int | None, ...], left_out: Mapping[str, int]) -> str:
    """`Read 12 pictures of 3 classes (2 without one); left out: 1 hidden.` for people."""
    known, unknown = count_classes(classes)
    of = f" of {known} class{'es' if known > 1 else ''}" if known else " of unknown class"
    without = f" ({unknown} without one)" if known and unknown else ""
    left = left_out_text(left_out)
    return f"Read {n} picture{'s' if n > 1 else ''}{of}{without}{f'; {left}' if left else ''}."

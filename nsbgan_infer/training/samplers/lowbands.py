"""Low-band sets: pictures encoded once, for training samplers (`nsbgan data encode`; spec 1.7 and 5.2).

A set is a folder with `low.npy`, a memory-mapped float16 array (N, F, 3, h, w) of gain-free low bands, nominally
[0, 1], where F is 2 with flips (the second is the low band of the mirrored picture: flips happen in pixel space, since
the 5/3 grid is not flip-symmetric, spec 8 row 10), and `index.json`: encoder, size, class table, count, statistics.
Every picture is in it, the last ones too (spec 8 row 15), and each has its class.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nsbgan_infer.datasets import ImageSource, centre_square, describe, to_tensor
from nsbgan_infer.encoders import Encoder, encoder_config
from nsbgan_infer.errors import CheckpointError, ImageFileError, NsbError, UsageError
from nsbgan_infer.registry import load_encoder
from nsbgan_infer.storage.files import atomic_path, read_json, writable_folder, write_json

FORMAT = "nsbgan low bands 1"
INDEX_LIMIT = 64 << 20
CHUNK = 64


@dataclass(frozen=True)
class LowBandSet:
    """An encoded set. `low` (N, F, 3, h, w) float16, memory-mapped; `labels` (N,) int64 are places in `classes`.

    `classes` are ImageNet ids in rising order, `minimum` and `maximum` those of the gain-free values, `mean` and `std`
    over all of them, `encoder` what made them.
    """

    low: NDArray[np.float16]
    labels: Tensor
    classes: tuple[int, ...]
    encoder: Encoder
    size: int
    minimum: float
    maximum: float
    mean: float
    std: float

    def __len__(self) -> int:
        return int(self.low.shape[0])

    @property
    def flips(self) -> int:
        """1, or 2 where mirrored pictures are in the set."""
        return int(self.low.shape[1])

    def batch(self, rows: Tensor, flips: Tensor) -> Tensor:
        """Low bands of pictures `rows` (B,), mirrored where `flips` (B,) is 1: (B, 3, h, w) float32."""
        return torch.from_numpy(self.low[rows.numpy(), flips.numpy()].astype(np.float32))

    def thinned(self, count: int) -> LowBandSet:
        """At most `count` pictures of the set, evenly spaced, in memory. Statistics stay those of the whole."""
        if count >= len(self):
            return self
        rows = torch.linspace(0, len(self) - 1, count).round().long()
        return replace(self, low=self.low[rows.numpy()], labels=self.labels[rows])

    def shift_and_scale(self) -> tuple[float, float]:
        """Min-max constants of the raw low band by the authors' rule: ceil of |min|, and that plus ceil of max.

        For the whole of ImageNet at two levels: 3 and 10 (spec 1.7). The pixel basis keeps 0 and 1.
        """
        if self.encoder.basis == "pixel":
            return 0.0, 1.0
        gain = 2.0**self.encoder.levels
        shift = float(math.ceil(abs(self.minimum * gain)))
        return shift, shift + math.ceil(self.maximum * gain)


def encode_lowbands(
    source: ImageSource,
    out: Path,
    encoder: Encoder,
    *,
    size: int = 256,
    flips: bool = True,
    smallest: int = 64,
    progress: Callable[[int, int], None] | None = None,
) -> LowBandSet:
    """Encode every picture of `source`, prepared by `centre_square` at `size` pixels, into the folder `out`.

    All pictures are decoded before anything is replaced; `progress(done, of)` is called after each chunk. Raises
    UsageError if a picture's class is unknown, if `size` does not suit the encoder or `out` cannot be written;
    ImageFileError naming up to five pictures that are damaged or have a side under `smallest`.
    """
    if size % 2**encoder.levels:
        raise UsageError(
            f"{size} pixels cannot be halved {encoder.levels} times: choose a multiple of {2**encoder.levels}."
        )
    unknown = [n for n, c in zip(source.names, source.classes, strict=True) if c is None]
    if unknown:
        raise UsageError(
            f"{len(unknown)} pictures have no class, the first is {unknown[0]}: a sampler needs the WordNet id in "
            "every path, as in n02099601/NAME.webp."
        )
    writable_folder(out)
    classes = tuple(sorted({c for c in source.classes if c is not None}))
    side = size >> encoder.levels
    shape = (len(source), 2 if flips else 1, 3, side, side)
    problems: list[str] = []
    tally = _Tally()
    with atomic_path(out / "low.npy") as part:
        array = np.lib.format.open_memmap(part, mode="w+", dtype=np.float16, shape=shape)
        for start in range(0, len(source), CHUNK):
            rows = range(start, min(start + CHUNK, len(source)))
            pictures = [_prepare(source, i, size, smallest, problems) for i in rows]
            x = torch.stack(pictures)  # (B, 3, size, size)
            for flip in range(shape[1]):
                band = encoder(x.flip(-1) if flip else x).half()
                array[rows.start : rows.stop, flip] = band.numpy()
                tally.add(band.double())
            if progress:
                progress(rows.stop, len(source))
        if problems:
            more = f" And {len(problems) - 5} more." if len(problems) > 5 else ""
            raise ImageFileError(" ".join(problems[:5]) + more)
        array.flush()
        del array
    index = {
        "format": FORMAT,
        "count": len(source),
        "size": size,
        "flips": flips,
        "encoder": encoder_config(encoder),
        "classes": list(classes),
        "pictures_per_class": [Counter(source.classes)[c] for c in classes],
        "labels": [classes.index(c) for c in source.classes if c is not None],
        "set": asdict(describe(source)),
        **tally.statistics(),
    }
    write_json(out / "index.json", index)
    return open_lowbands(out)


def open_lowbands(folder: Path) -> LowBandSet:
    """The set in `folder`. Raises CheckpointError if it is missing, damaged or from another version."""
    index = read_json(folder / "index.json", limit=INDEX_LIMIT)
    try:
        if index["format"] != FORMAT:
            raise CheckpointError(f"{folder} is {index['format']!r}, not {FORMAT!r}: encode it again.")
        low = np.load(folder / "low.npy", mmap_mode="r", allow_pickle=False)
        labels = torch.tensor(index["labels"], dtype=torch.int64)
        classes = tuple(int(c) for c in index["classes"])
        encoder = load_encoder(index["encoder"])
        numbers: dict[str, Any] = {k: float(index[k]) for k in ("minimum", "maximum", "mean", "std")}
        whole = low.ndim == 5 and low.dtype == np.float16 and len(low) == len(labels) == index["count"]
        if not whole or not 0 <= int(labels.min()) <= int(labels.max()) < len(classes):
            raise CheckpointError(f"{folder}: low.npy and index.json do not belong together: encode it again.")
        return LowBandSet(low, labels, classes, encoder, int(index["size"]), **numbers)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, json.JSONDecodeError) as error:
        raise CheckpointError(
            f"{folder} is no whole low-band set ({error}): run `nsbgan data encode` again."
        ) from error


def _prepare(source: ImageSource, index: int, size: int, smallest: int, problems: list[str]) -> Tensor:
    """Picture `index`, (3, size, size), or grey where it is bad and `problems` got a sentence."""
    try:
        image = source.image(index)
        if min(image.size) < smallest:
            problems.append(f"{source.names[index]} is {image.size[0]} x {image.size[1]}, smaller than {smallest}.")
        return to_tensor(centre_square(image, size))
    except NsbError as error:
        problems.append(str(error))
        return torch.full((3, size, size), 0.5)


class _Tally:
    """Minimum, maximum, mean and standard deviation of values that come in pieces."""

    def __init__(self) -> None:
        self.count, self.total, self.squares = 0, 0.0, 0.0
        self.low, self.high = math.inf, -math.inf

    def add(self, values: Tensor) -> None:
        self.count += values.numel()
        self.total += float(values.sum())
        self.squares += float(values.square().sum())
        self.low, self.high = min(self.low, float(values.min())), max(self.high, float(values.max()))

    def statistics(self) -> dict[str, float]:
        mean = self.total / self.count
        std = math.sqrt(max(0.0, self.squares / self.count - mean * mean))
        return {"minimum": self.low, "maximum": self.high, "mean": mean, "std": std}

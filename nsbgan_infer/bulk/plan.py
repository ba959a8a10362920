"""What a bulk run is to make, and the words in which its parts talk: a plan, a batch, a failure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from nsbgan_infer.bulk.sinks import Encoding
from nsbgan_infer.errors import UsageError
from nsbgan_infer.latents import LAST_SEED
from nsbgan_infer.pipeline import Output, Request

Make = Callable[[Sequence[Request]], Output]  # one batch: its tensors and recipes
Progress = Callable[[int, int], None]  # images that are written, images in all


@dataclass(frozen=True)
class Plan:
    """What is to be made. Nothing else decides a byte of it.

    `count` images over `classes` (None: an unconditional sampler). Without `uniform` each class gets the same number,
    class by class, and image j of each class has seed `seed` + j. With `uniform` image i has seed `seed` + i and a
    class drawn uniformly from `classes` by a hash of both. `settings` holds whatever else the bytes depend on (names,
    weights, truncation, dtype, engine, versions): a run is only resumed with the same ones.
    Raises UsageError for numbers that cannot work.
    """

    classes: tuple[int | None, ...]
    count: int
    resolution: int
    seed: int = 0
    uniform: bool = False
    batch_size: int = 1
    shard_size: int = 1000
    encoding: Encoding = field(default_factory=Encoding)
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.count < 1 or not self.classes:
            raise UsageError("A run needs at least one class and one image.")
        if self.batch_size < 1 or self.shard_size < 1:
            raise UsageError("Batch size and shard size must be at least 1.")
        if not self.uniform and self.count % len(self.classes):
            raise UsageError(f"{self.count} images cannot be shared evenly by {len(self.classes)} classes.")
        last = self.seed + (self.count if self.uniform else self.count // len(self.classes)) - 1
        if self.seed < 0 or last > LAST_SEED:
            raise UsageError(f"The seeds {self.seed} to {last} leave the range 0 to {LAST_SEED}: begin lower.")

    @property
    def shards(self) -> range:
        """The numbers of the shards."""
        return range(-(-self.count // self.shard_size))

    def shard(self, number: int) -> range:
        """The indices of the images of one shard."""
        return range(number * self.shard_size, min((number + 1) * self.shard_size, self.count))

    def batches(self, number: int) -> Iterator[range]:
        """The indices of each batch of one shard."""
        indices = self.shard(number)
        for start in range(0, len(indices), self.batch_size):
            yield indices[start : start + self.batch_size]

    def request(self, index: int) -> Request:
        """Class and seed of image `index`."""
        if not self.uniform:
            place, j = divmod(index, self.count // len(self.classes))
            return Request(self.classes[place], self.seed + j)
        digest = hashlib.sha256(f"{self.seed}:{index}".encode()).digest()
        return Request(self.classes[int.from_bytes(digest[:8], "big") % len(self.classes)], self.seed + index)

    def to_dict(self) -> dict[str, Any]:
        """The plan as `plan.json` holds it."""
        plain: dict[str, Any] = json.loads(json.dumps({"format": 1, **asdict(self)}))
        return plain


@dataclass(frozen=True)
class Failure:
    """An image that could not be made, and why."""

    index: int
    request: Request
    reason: str

    def __str__(self) -> str:
        which = "" if self.request.class_id is None else f"class {self.request.class_id}, "
        return f"image {self.index} ({which}seed {self.request.seed}): {self.reason}"

"""Sets of pictures to train on or to measure: a folder, a ZIP archive, or WebDataset tar shards, read where they lie.

The class of a picture is the WordNet id in its path (`n02099601/NAME.webp`), or the id in a name that `nsbgan generate`
gives (`207_golden-retriever_seed0.png`), else unknown. One shared preparation, `centre_square`, serves every trainer
and measure: short side resized with antialiasing, centre crop.
"""

from __future__ import annotations

import os
import re
import tarfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nsbgan_infer.classes import NUM_CLASSES, all_classes
from nsbgan_infer.errors import ImageFileError, NsbError, UsageError
from nsbgan_infer.storage.image_files import GREY16, SUFFIXES, check_numbers, grey16, open_whole, sentences, tags_of

ASIDE = "below-threshold"  # the folder of what rejection kept aside, no part of the set that it lies in
BYTES_LIMIT = 512 << 20  # of one picture's file inside an archive


@dataclass(frozen=True)
class ImageSource:
    """A set of pictures in a fixed order (sorted by name within each file or folder given).

    `names[i]` is the picture's name for messages, `classes[i]` its ImageNet id or None, `read(i)` its bytes.
    """

    names: tuple[str, ...]
    classes: tuple[int | None, ...]
    read: Callable[[int], bytes]

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
        rows = [i * len(self) // count for i in range(count)]
        return ImageSource(
            tuple(self.names[i] for i in rows), tuple(self.classes[i] for i in rows), lambda i: self.read(rows[i])
        )


def open_source(paths: str | Path | Sequence[str | Path]) -> ImageSource:
    """The pictures in a folder (searched recursively), a ZIP, tar shards or several of these.

    Raises UsageError if a path does not exist, cannot be read or holds no pictures.
    """
    given = [paths] if isinstance(paths, str | Path) else list(paths)
    parts = [_open_one(Path(p).expanduser()) for p in given]
    names = tuple(n for part in parts for n in part.names)
    classes = tuple(c for part in parts for c in part.classes)
    owner = [(part, i) for part in parts for i in range(len(part))]
    if not names:
        raise UsageError(f"No pictures in {', '.join(map(str, given))}: expected {', '.join(SUFFIXES)} files.")
    return ImageSource(names, classes, lambda i: owner[i][0].read(owner[i][1]))


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


def _open_one(path: Path) -> ImageSource:
    if not path.exists():
        raise UsageError(f"No such file or folder: {path}.")
    if path.is_dir():
        found = (p for p in path.rglob("*") if ASIDE not in p.relative_to(path).parts)
        files = sorted(p for p in found if _is_picture(p.name) and p.is_file())
        names = [p.relative_to(path).as_posix() for p in files]
        return _source(names, lambda i: files[i].read_bytes(), within=path.name)
    if path.suffix.lower() in SUFFIXES:
        return _source([path.name], lambda _i: path.read_bytes())
    try:
        if zipfile.is_zipfile(path):
            archive = _Zip(path)
            names = sorted(n for n in archive.open().namelist() if _is_picture(n))
            return _source(names, lambda i: archive.read(names[i]))
        if tarfile.is_tarfile(path):
            return _open_tar(path)
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror or error}.") from error
    except (zipfile.BadZipFile, tarfile.TarError, ValueError) as error:
        raise UsageError(
            f"{path} cannot be used as an archive of pictures ({error}): tar shards must not be compressed, and a "
            "damaged file must be fetched again."
        ) from error
    raise UsageError(f"{path} is neither a folder, a picture, a ZIP archive nor a tar shard of pictures.")


def _open_tar(path: Path) -> ImageSource:
    """WebDataset: pictures at known offsets; the class is the number in the `.cls` file with the same key, if any."""
    with tarfile.open(path, "r:") as tar:
        members = [m for m in tar.getmembers() if m.isfile()]
        labels = {
            m.name.removesuffix(".cls"): int(tar.extractfile(m).read(16))  # type: ignore[union-attr]
            for m in members
            if m.name.endswith(".cls")
        }
    if wrong := [f"{k}.cls" for k, v in labels.items() if not 0 <= v < NUM_CLASSES]:
        raise ValueError(f"{wrong[0]} holds no class id from 0 to {NUM_CLASSES - 1}")
    pictures = sorted((m for m in members if _is_picture(m.name)), key=lambda m: m.name)

    def read(i: int) -> bytes:
        with path.open("rb") as file:
            file.seek(pictures[i].offset_data)
            return file.read(pictures[i].size)

    source = _source([m.name for m in pictures], read)
    classes = tuple(labels.get(n.rsplit(".", 1)[0], c) for n, c in zip(source.names, source.classes, strict=True))
    return ImageSource(source.names, classes, read)


class _Zip:
    """A ZIP archive that every process opens for itself: a forked one shares the position in the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._opened: tuple[int, zipfile.ZipFile] | None = None

    def open(self) -> zipfile.ZipFile:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), zipfile.ZipFile(self.path)
        return self._opened[1]

    def read(self, name: str) -> bytes:
        archive = self.open()
        if archive.getinfo(name).file_size > BYTES_LIMIT:
            raise ImageFileError(f"{name} unpacks to more than {BYTES_LIMIT:,} bytes and is refused.")
        try:
            return archive.read(name)
        except Exception as error:  # wrong sums, unknown or encrypted members, damaged streams: a type for each
            raise ImageFileError(f"{name} cannot be read from {self.path.name} ({error}).") from error


def _is_picture(name: str) -> bool:
    """By its suffix; macOS adds `._NAME` twins that are none."""
    return name.lower().endswith(SUFFIXES) and not name.rsplit("/", 1)[-1].startswith("._")


def _source(names: Sequence[str], read: Callable[[int], bytes], *, within: str = "") -> ImageSource:
    by_wnid = {c.wnid: c.id for c in all_classes()}
    return ImageSource(tuple(names), tuple(_class_of(n, within, by_wnid) for n in names), read)


def _class_of(name: str, within: str, by_wnid: Mapping[str, int]) -> int | None:
    """By the WordNet id in a name or in that of the folder `within` which all lie, else by the name of an image that
    was generated."""
    if found := re.search(r"n\d{8}", name) or re.search(r"n\d{8}", within):
        return by_wnid.get(found[0])
    made = re.search(r"(?:^|/)(\d{3})_([a-z0-9-]+)_seed\d+\.\w+$", name)
    return int(made[1]) if made and all_classes()[int(made[1])].slug == made[2] else None

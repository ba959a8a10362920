"""Sets of pictures to train on or to measure: a folder, a ZIP archive, or WebDataset tar shards, read where they lie.

The class of a picture is the WordNet id in its path (`n02099601/NAME.webp`), else unknown. One shared preparation,
`centre_square`, serves every trainer and measure: short side resized with antialiasing, centre crop.
"""

from __future__ import annotations

import io
import re
import tarfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from nsbgan_infer.classes import all_classes
from nsbgan_infer.errors import ImageFileError, NsbError, UsageError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff")


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
        """Picture `index` as RGB. Raises ImageFileError naming the file if it cannot be decoded."""
        return decode_image(self.read(index), self.names[index])


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
    """Bytes of a picture -> RGB image, turned upright. Raises ImageFileError naming `name`."""
    from PIL import ImageOps

    try:
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image)
            return upright.convert("RGB")
    except Image.DecompressionBombError as error:
        raise ImageFileError(f"{name} is refused: {error}") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise ImageFileError(f"{name} is not a picture that can be read ({error}): repair or remove it.") from error


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
        files = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
        names = [str(p.relative_to(path)) for p in files]
        return _source(names, lambda i: files[i].read_bytes())
    if path.suffix.lower() in SUFFIXES:
        return _source([path.name], lambda _i: path.read_bytes())
    try:
        if zipfile.is_zipfile(path):
            archive = zipfile.ZipFile(path)
            names = sorted(n for n in archive.namelist() if n.lower().endswith(SUFFIXES))
            return _source(names, lambda i: _read_zip(archive, names[i]))
        if tarfile.is_tarfile(path):
            return _open_tar(path)
    except OSError as error:
        raise UsageError(f"Cannot read {path}: {error.strerror or error}.") from error
    raise UsageError(f"{path} is neither a folder, a picture, a ZIP archive nor a tar shard of pictures.")


def _open_tar(path: Path) -> ImageSource:
    """WebDataset: pictures at known offsets; the class is the number in the `.cls` file with the same key, if any."""
    with tarfile.open(path, "r:") as tar:
        members = [m for m in tar.getmembers() if m.isfile()]
        labels = {
            m.name.removesuffix(".cls"): int(tar.extractfile(m).read())  # type: ignore[union-attr]
            for m in members
            if m.name.endswith(".cls")
        }
    pictures = sorted((m for m in members if m.name.lower().endswith(SUFFIXES)), key=lambda m: m.name)

    def read(i: int) -> bytes:
        with path.open("rb") as file:
            file.seek(pictures[i].offset_data)
            return file.read(pictures[i].size)

    source = _source([m.name for m in pictures], read)
    classes = tuple(labels.get(n.rsplit(".", 1)[0], c) for n, c in zip(source.names, source.classes, strict=True))
    return ImageSource(source.names, classes, read)


def _read_zip(archive: zipfile.ZipFile, name: str) -> bytes:
    try:
        return archive.read(name)
    except zipfile.BadZipFile as error:
        raise ImageFileError(f"{name} is damaged inside its archive ({error}): fetch the archive again.") from error


def _source(names: Sequence[str], read: Callable[[int], bytes]) -> ImageSource:
    by_wnid = {c.wnid: c.id for c in all_classes()}
    found = (re.search(r"n\d{8}", n) for n in names)
    return ImageSource(tuple(names), tuple(by_wnid.get(m[0]) if m else None for m in found), read)

"""Step 5, images: decoded tensor (B, 3, H, W) nominally [0, 1] -> PNG, WebP or JPEG with the recipe inside.

The only place that clamps and rounds. The recipe is a JSON object: as an iTXt chunk named `nsbgan` in PNG, as the EXIF
image description in WebP and JPEG. It holds no paths.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from PIL import Image, PngImagePlugin

from nsbgan_infer.classes import NUM_CLASSES, all_classes
from nsbgan_infer.errors import ImageFileError, NonFiniteError, UsageError, WrongTypeError
from nsbgan_infer.storage.files import write_bytes
from nsbgan_infer.storage.image_files import open_whole

if TYPE_CHECKING:  # reading a recipe needs neither
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

Format = Literal["png", "webp", "jpeg"]
SUFFIX: dict[Format, str] = {"png": ".png", "webp": ".webp", "jpeg": ".jpg"}
KEY = "nsbgan"
EXIF_DESCRIPTION = 0x010E
RECIPE_LIMIT = 64 << 10


@dataclass(frozen=True)
class Recipe:
    """Everything needed to make one image again.

    `preset` is a registry name; `sampler` and `decoders` are names and `weights` maps them to the SHA-256 of their
    weights; `class_id` is None for an unconditional sampler; `attempt` counts the draws of rejection sampling
    (0: the first); `versions` holds nsbgan_infer and torch; `labels` says whether the class is one of ImageNet's or has
    only a number. `latents` are those that were given instead of drawn from class and seed (`latents.file.read_table`).
    """

    preset: str
    sampler: str
    decoders: tuple[str, ...]
    resolution: int
    class_id: int | None
    seed: int
    truncation: float
    truncation_mode: str
    device: str
    dtype: str
    batch_size: int
    weights: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    engine: str = "eager"
    attempt: int = 0
    rejection: dict[str, Any] | None = None
    labels: str = "imagenet"
    latents: dict[str, Any] | None = None

    def to_json(self) -> str:
        """The recipe as one line of ASCII JSON."""
        values = asdict(self)
        if self.latents is None:
            del values["latents"]  # so that older versions read what they can make
        return json.dumps({"format": 1, **values}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Recipe:
        """Parse and check; raises ImageFileError for anything that is not a recipe (it may be hostile)."""
        if len(text) > RECIPE_LIMIT:
            raise ImageFileError(f"The recipe is longer than {RECIPE_LIMIT} characters and not read.")
        try:
            values = json.loads(text)
            if not isinstance(values, dict) or not isinstance(values.get("decoders"), list):
                raise ValueError("it is not a table with a list of decoders")
            if values.pop("format") != 1:
                raise ImageFileError("The recipe was written by a newer version: update nsbgan-infer.")
            unknown = set(values) - {f.name for f in fields(cls)}
            if unknown:
                raise ValueError(f"unknown field {sorted(unknown)[0]!r}")
            recipe = cls(**{**values, "decoders": tuple(values["decoders"])})
            recipe.check()
        except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
            raise ImageFileError(f"The image carries a damaged recipe ({error}).") from error
        return recipe

    def check(self) -> None:
        """Raise ValueError unless every field has its type and a sane value."""
        texts = (self.preset, self.sampler, self.truncation_mode, self.device, self.dtype, self.engine)
        numbers = (self.resolution, self.seed, self.batch_size, self.attempt)
        if not all(_is_name(t) for t in (*texts, *self.decoders)):
            raise ValueError("a name is not a short text")
        if not all(type(n) is int and 0 <= n < 2**32 for n in numbers):
            raise ValueError("a count is not a whole number")
        if self.class_id is not None and not (type(self.class_id) is int and 0 <= self.class_id < NUM_CLASSES):
            raise ValueError("the class id is out of range")
        if type(self.truncation) not in (int, float) or not 0 < self.truncation <= 1:
            raise ValueError("the truncation is not a number above 0 and up to 1")
        for table in (self.weights, self.versions):
            if not isinstance(table, dict) or not all(_is_name(t) for row in table.items() for t in row):
                raise ValueError("weights and versions are not tables of short texts")
        if self.labels not in ("imagenet", "numbers"):
            raise ValueError("the labels are of an unknown kind")
        if self.rejection is not None and not isinstance(self.rejection, dict):
            raise ValueError("rejection is not a table")
        if self.latents is not None and not isinstance(self.latents, dict):
            raise ValueError("latents are not a table")


def _is_name(text: object) -> bool:
    return isinstance(text, str) and len(text) < 200 and text.isprintable()


def to_uint8(tensor: Tensor) -> NDArray[np.uint8]:
    """(B, 3, H, W) nominally [0, 1] -> (B, H, W, 3) uint8, clamped, round(255 x). Raises NonFiniteError for NaN."""
    import torch

    if not torch.isfinite(tensor).all():
        raise NonFiniteError("Step 5 (images) got NaN or infinity: run with --dtype fp32, or check the weights.")
    scaled = tensor.detach().float().clamp(0, 1).mul(255).round().to(torch.uint8)
    array: NDArray[np.uint8] = scaled.permute(0, 2, 3, 1).cpu().contiguous().numpy()
    return array


def to_pil(tensor: Tensor) -> list[Image.Image]:
    """(B, 3, H, W) nominally [0, 1] -> B RGB images."""
    return [Image.fromarray(a) for a in to_uint8(tensor)]


def file_name(class_id: int | None, seed: int, fmt: Format = "png", *, labels: str = "imagenet") -> str:
    """`207_golden-retriever_seed0.png`, `class3_seed0.png` where `labels` are numbers, `seed0.png` without classes."""
    if class_id is None:
        return f"seed{seed}{SUFFIX[fmt]}"
    start = f"{class_id:03d}_{all_classes()[class_id].slug}" if labels == "imagenet" else f"class{class_id}"
    return f"{start}_seed{seed}{SUFFIX[fmt]}"


def format_of(path: str | Path) -> Format:
    """The format meant by a file name. Raises UsageError for other suffixes."""
    path = Path(path)
    known: dict[str, Format] = {".png": "png", ".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg"}
    if path.suffix.lower() not in known:
        raise UsageError(f"Cannot tell an image format from '{path.name}': end it in .png, .webp or .jpg.")
    return known[path.suffix.lower()]


def encode_image(
    image: Image.Image, fmt: Format = "png", *, recipe: Recipe | None = None, quality: int = 92, compress: int = 1
) -> bytes:
    """The bytes of an image file. `compress` is PNG's level: 1 is four times faster than Pillow's 6, a fifth larger."""
    buffer = io.BytesIO()
    if fmt == "png":
        info = PngImagePlugin.PngInfo()
        if recipe:
            info.add_itxt(KEY, recipe.to_json())
        image.save(buffer, "PNG", compress_level=compress, pnginfo=info)
    else:
        exif = Image.Exif()
        if recipe:
            exif[EXIF_DESCRIPTION] = f"{KEY}:{recipe.to_json()}"
        profile = image.info.get("icc_profile", b"")  # PNG takes it by itself
        image.save(buffer, fmt.upper(), quality=quality, exif=exif, icc_profile=profile)
    return buffer.getvalue()


def save_image(
    image: Image.Image, path: str | Path, *, recipe: Recipe | None = None, quality: int = 92, compress: int = 1
) -> None:
    """Write an image, whole or not at all, in the format of the path's suffix. Raises UsageError, WrongTypeError.

    >>> save_image(Image.new("RGB", (8, 8)), Path("black.png"))
    >>> open_image(Path("black.png")).size
    (8, 8)
    """
    if not isinstance(image, Image.Image):
        raise WrongTypeError(f"An image is a PIL image, not a {type(image).__name__}: take one of `output.images`.")
    write_bytes(Path(path), encode_image(image, format_of(path), recipe=recipe, quality=quality, compress=compress))


def read_recipe(path: str | Path) -> Recipe:
    """The recipe inside an image. Raises ImageFileError if the file is not an image or carries none."""
    image = open_image(path)
    text: Any = image.info.get(KEY)
    if text is None:
        try:
            described = str(image.getexif().get(EXIF_DESCRIPTION, ""))
        except Exception as error:  # damaged EXIF data can raise anything inside Pillow
            raise ImageFileError(f"{path} carries damaged EXIF data ({error}).") from error
        text = described.removeprefix(f"{KEY}:") if described.startswith(f"{KEY}:") else None
    if not isinstance(text, str):
        raise ImageFileError(f"{path} carries no recipe: it was not made by nsbgan, or with --no-recipe.")
    return Recipe.from_json(text)


def open_image(path: str | Path) -> Image.Image:
    """Open and fully decode an image file. Raises ImageFileError with one sentence (missing, damaged, a bomb)."""
    return open_whole(Path(path), str(path))


def grid(images: Sequence[Image.Image], columns: int, *, gap: int = 0) -> Image.Image:
    """Images of one size in rows of `columns`, `gap` white pixels apart. Raises UsageError for none or mixed sizes."""
    if len(images) == 0 or columns < 1:
        raise UsageError("A grid needs at least one image and one column.")
    width, height = images[0].size
    if any(i.size != (width, height) for i in images):
        raise UsageError("A grid needs images of one size.")
    rows = math.ceil(len(images) / columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), "white")
    for k, image in enumerate(images):
        sheet.paste(image, (k % columns * (width + gap), k // columns * (height + gap)))
    return sheet

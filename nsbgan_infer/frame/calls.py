"""What a call of the pipeline is given and what it returns: requests, a drawing, an output.

An output is a sequence of pictures that a notebook shows, and that saves itself with its recipes.
"""

from __future__ import annotations

import html
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import torch
from torch import Tensor

from nsbgan_infer.classes import find_class
from nsbgan_infer.errors import UsageError
from nsbgan_infer.images import Format, Recipe, encode_image, file_name, grid, save_image, to_pil
from nsbgan_infer.latents import Latents, TruncationMode, join_latents
from nsbgan_infer.storage.files import writable_folder

if TYPE_CHECKING:
    from PIL import Image

Mix: TypeAlias = Mapping[str | int, float]
"""A class between classes: each with its share."""
Classes: TypeAlias = str | int | Mix | Sequence[str | int | Mix]
SHOWN = 24  # pictures of an output in a notebook
SHOWN_SIDE = 256  # pixels of each, where there are several


@dataclass(frozen=True)
class Request:
    """One image to make: an ImageNet class id (None for an unconditional sampler) and a seed."""

    class_id: int | None
    seed: int


@dataclass(frozen=True)
class Drawing:
    """What decides, beside the request, what is drawn. `NsbPipeline.settle` fills in what is left out."""

    truncation: float | None = None
    """Above 0 and up to 1; None: what the sampler's weights expect."""
    mode: TruncationMode | None = None
    """How z is truncated (`latents.draw_z`); None: as the sampler's weights expect."""
    resolution: int | None = None
    """Stop after the stage that emits pictures of this side; None: after the last."""


AS_TRAINED = Drawing()


@dataclass(frozen=True, repr=False)
class Output(Sequence[Any]):
    """What a call returns: a sequence of pictures. An index gives a PIL image, a slice an Output of those pictures.

    >>> from nsbgan_infer import NsbPipeline
    >>> output = NsbPipeline.from_pretrained("embedded")("church", 2, resolution=256)
    >>> len(output), output[0].size, output[1:]
    (2, (256, 256), <Output: 1 picture of 256 x 256: church seed 1>)
    >>> [path.name for path in output.save("pictures")]
    ['497_church_seed0.png', '497_church_seed1.png']
    """

    tensors: Tensor
    """(N, 3, H, W) float32, nominally [0, 1], unclamped."""
    requests: tuple[Request, ...]
    """Class and seed of each."""
    recipes: tuple[Recipe, ...]
    """All that is needed to make each again."""
    steps: dict[str, Tensor] = field(default_factory=dict)
    """Every intermediate by name (`sample`, `low band 1`, `decoded 1`, ...), if asked for."""
    latents: Latents | None = None
    """What the pictures were drawn from."""

    @property
    def images(self) -> list[Image.Image]:
        """The pictures, clamped and rounded to 8 bit."""
        return to_pil(self.tensors)

    def __len__(self) -> int:
        return len(self.tensors)

    @overload
    def __getitem__(self, index: int) -> Image.Image: ...

    @overload
    def __getitem__(self, index: slice) -> Output: ...

    def __getitem__(self, index: int | slice) -> Image.Image | Output:
        if isinstance(index, slice):
            at = list(range(len(self))[index])  # torch knows no negative steps
            return Output(
                self.tensors[at],
                self.requests[index],
                self.recipes[index],
                {name: tensor[at] for name, tensor in self.steps.items()},
                self.latents and self.latents.pick(at),
            )
        one = range(len(self))[index]  # an IndexError for what is outside, as of any sequence
        return to_pil(self.tensors[one : one + 1])[0]

    def __iter__(self) -> Iterator[Image.Image]:
        return iter(self.images)

    def save(self, folder: str | Path, fmt: Format = "png", *, recipe: bool = True) -> list[Path]:
        """Write each picture into `folder` by its class and seed, with its recipe inside; the paths.

        Pictures of one class and seed (a walk) are numbered. A file of the same name is replaced. Raises UsageError
        where nothing can be written.
        """
        if fmt not in ("png", "webp", "jpeg"):
            raise UsageError(f"Unknown format {fmt!r}: use png, webp or jpeg.")
        place = writable_folder(Path(folder))
        paths: list[Path] = []
        for image, request, made in zip(self.images, self.requests, self.recipes, strict=True):
            path = place / file_name(request.class_id, request.seed, fmt, labels=made.labels)
            if self.requests.count(request) > 1:
                path = path.with_stem(f"{path.stem}_{len(paths):03d}")
            save_image(image, path, recipe=made if recipe else None)
            paths.append(path)
        return paths

    def __repr__(self) -> str:
        if not len(self):
            return "<Output: no pictures>"
        height, width = self.tensors.shape[-2:]
        named = [self._caption(i) for i in range(min(4, len(self)))]
        more = ", ..." if len(self) > len(named) else ""
        count = f"{len(self)} picture{'s' * (len(self) > 1)}"
        return f"<Output: {count} of {width} x {height}: {', '.join(named)}{more}>"

    def _repr_png_(self) -> bytes | None:
        """The pictures side by side, for what shows no HTML."""
        if not len(self):
            return None
        shown = self._shown()
        return encode_image(grid(shown, columns=min(len(shown), 4)))

    def _repr_html_(self) -> str:
        """The pictures with their classes and seeds, for notebooks."""
        figure = (
            '<figure style="display:inline-block;margin:4px;text-align:center">'
            '<img alt="{0}" src="data:image/webp;base64,{1}"><figcaption>{0}</figcaption></figure>'
        )
        figures = [
            figure.format(html.escape(self._caption(i)), b64encode(encode_image(image, "webp")).decode())
            for i, image in enumerate(self._shown())
        ]
        hidden = len(self) - len(figures)
        more = f"<p>and {hidden} more: <code>output[{SHOWN}:]</code></p>" if hidden else ""
        return "".join(figures) + more or "no pictures"

    def _shown(self) -> list[Image.Image]:
        images = self[:SHOWN].images
        if len(images) > 1 and images[0].width > SHOWN_SIDE:
            height = max(1, images[0].height * SHOWN_SIDE // images[0].width)
            return [image.resize((SHOWN_SIDE, height)) for image in images]
        return images

    def _caption(self, index: int) -> str:
        request, labels = self.requests[index], self.recipes[index].labels
        if request.class_id is None:
            return f"seed {request.seed}"
        name = find_class(request.class_id).name if labels == "imagenet" else f"class {request.class_id}"
        return f"{name} seed {request.seed}"


def join_outputs(parts: Sequence[Output]) -> Output:
    """Several outputs of one size as one, in their order; of none: (0, 3, 0, 0)."""
    if not parts:
        return Output(torch.empty(0, 3, 0, 0), (), ())
    latents = [p.latents for p in parts if p.latents is not None]
    return Output(
        torch.cat([p.tensors for p in parts]),
        tuple(r for p in parts for r in p.requests),
        tuple(r for p in parts for r in p.recipes),
        {k: torch.cat([p.steps[k] for p in parts]) for k in parts[0].steps},
        join_latents(latents) if len(latents) == len(parts) else None,
    )


def with_recipe(output: Output, **changes: Any) -> Output:
    """The same output with fields of all its recipes changed (rejection sampling notes its attempts)."""
    return replace(output, recipes=tuple(replace(r, **changes) for r in output.recipes))

"""From a photo back to latents: a first guess by an inverter, refined by gradient through the pipeline.

A photo is made a square and reduced to what the sampler emits. The guess is a vector of the sampler
(`samplers.vectors`) and is moved until the sample, and at the end the decoded picture, is near the photo: in its
pixels, and in what EfficientNet-Lite0 and -Lite1 see. Where a vector cannot reach the photo, what it gives inside the
sampler may be moved too (`Freedom`). Spec-seeds 4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from nsbgan_infer.classes import find_class
from nsbgan_infer.classifiers.lite_trunk import LiteTrunk, Seen
from nsbgan_infer.datasets import centre_square, to_tensor
from nsbgan_infer.decoders.anchor import decode_over
from nsbgan_infer.encoders.lifting import idwt2
from nsbgan_infer.encoders.reduce import make_reducer
from nsbgan_infer.errors import ImageFileError, NonFiniteError, UsageError
from nsbgan_infer.images import to_uint8
from nsbgan_infer.inverters.base import Inverter
from nsbgan_infer.latents import Latents, draw_latents
from nsbgan_infer.latents_file import Origin
from nsbgan_infer.photos.reading import Photo, open_photo, to_srgb
from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.registry import inverter_for, load_classifier, load_inverter
from nsbgan_infer.samplers.vectors import vectors
from nsbgan_infer.storage.components import weights_sha256

Freedom = Literal["vector", "layers", "pixels"]
STEPS = 80
LAST = 0.2  # share of the steps that go through the decoder, too dear for all of them
SEEN_SIDE = 128  # a sample is enlarged to this for the classifiers
SMALLEST_PHOTO = 16
CLASS_JUDGE = "efficientnet-lite0"
TAP_WEIGHTS = (0.1, 0.2, 0.5, 0.5)  # of strides 4, 8, 16, 32
PIXELS, COARSE = 5.0, 5.0  # weights of a sample's L1 distance, whole and at a quarter of the side
WHOLE_PIXELS = 10.0  # weight of the L1 distance of decoded pictures: with less, features are bought with coloured grain
SHIFT = 7  # decoded pictures are moved by up to so many pixels before the classifiers see them, which then agree more
RATES = {"vector": 0.05, "layers": 0.02, "pixels": 0.003}
LATE_RATE = 0.2  # times the rates of vector and layers, in the steps that go through the decoder
DECAY = 0.4  # share of the steps, the last ones, over which rates fall to 0
Progress = Callable[[int, int], None]  # steps done, steps in all


@dataclass(frozen=True)
class Distances:
    """From a picture to the photo."""

    psnr: float
    """dB over RGB, after rounding to 8 bits."""
    features: float
    """Euclidean distance of EfficientNet-Lite0's pooled features: small is alike."""


@dataclass(frozen=True)
class Inversion:
    """A photo's latents, and how near they come."""

    latents: Latents
    """Of one image; `pipeline(latents=...)` draws it, `latents_file.save_latents` keeps it."""
    origin: Origin
    class_id: int | None
    certainty: float | None
    """Probability of the class, where it was guessed."""
    inverter: str | None
    """What made the first guess; None: the mean of drawn vectors."""
    before: Distances
    """The first guess."""
    after: Distances
    picture: Tensor
    """(1, 3, S, S) float32: what the latents give."""
    photo: Tensor
    """(1, 3, S, S) float32 in [0, 1]: the square of the photo that was looked for."""


def invert(
    photo: str | Path | Photo | Image.Image,
    pipeline: NsbPipeline,
    *,
    class_id: int | None = None,
    inverter: Inverter | str | None = None,
    steps: int = STEPS,
    freedom: Freedom = "pixels",
    seed: int = 0,
    progress: Progress | None = None,
) -> Inversion:
    """The latents from which `pipeline` draws a picture like the photo, whose central square is taken.

    `class_id`: None lets EfficientNet-Lite0 guess among the sampler's classes. `inverter`: None is the one that ships
    for the sampler, or the mean of drawn vectors where none does. `steps` 0 keeps the first guess. `freedom`: what may
    be moved, `vector` alone, also what it gives inside the sampler (`layers`), or the sample itself at last (`pixels`).
    Samplers without `SamplerInfo.offsets` have the vector only. Raises UsageError, ImageFileError, CheckpointError or
    MissingExtraError (extra `train`) before the work, NonFiniteError during it.

    >>> from nsbgan_infer import NsbPipeline
    >>> pipeline = NsbPipeline.from_pretrained("embedded")
    >>> drawn = pipeline("church", seeds=3, resolution=256).images[0]
    >>> found = invert(drawn, pipeline, class_id=497, steps=0)
    >>> found.latents.z.shape, found.inverter
    (torch.Size([1, 256]), 'invert-embedded-w-64')
    """
    if steps < 0 or freedom not in get_args(Freedom):
        raise UsageError(f"steps is at least 0, and freedom one of {', '.join(get_args(Freedom))}.")
    if pipeline.engine != "eager":
        raise UsageError(f"An inversion needs gradients, which the engine {pipeline.engine} has not: use eager.")
    guesser = find_inverter(pipeline, inverter)
    side = working_side(pipeline)
    picture = read_square(photo, side).to(pipeline.device)
    certainty = None
    if class_id is None and pipeline.sampler.info.classes is not None:
        class_id, certainty = guess_class(pipeline, picture)
    blank = blank_latents(pipeline, class_id, seed)
    search = _Search(pipeline, picture, freedom)
    with torch.no_grad():
        vector = guesser(search.sample, blank.y.to(pipeline.device)) if guesser else mean_vector(pipeline, blank)
    first = search.finish(vector, None, blank)
    before = search.distances(search.draw_whole(first))
    latents = search.refine(vector, blank, steps, progress) if steps else first
    made = search.draw_whole(latents)
    return Inversion(
        latents.to(torch.device("cpu")),
        origin_of(pipeline),
        class_id,
        certainty,
        guesser.info.name if guesser else None,
        before,
        search.distances(made),
        made.cpu(),
        picture.cpu(),
    )


class _Search:
    """The refining of one photo."""

    def __init__(self, pipeline: NsbPipeline, picture: Tensor, freedom: Freedom) -> None:
        self.pipeline, self.picture = pipeline, picture
        self.vectors = vectors(pipeline.sampler)
        self.inside, self.added = pipeline.sampler.info.offsets
        self.freedom: Freedom = freedom if self.inside else "vector"
        self.sample = reduce_to_sample(pipeline, picture)
        wish = "An inversion"
        trunks = (LiteTrunk("lite0", wish=wish), LiteTrunk("lite1", wish=wish))
        self.trunks = tuple(t.to(pipeline.device) for t in trunks)
        with torch.no_grad():
            self.wanted = tuple(t(self.shown(self.sample)) for t in self.trunks)
            self.wanted_pooled = self.trunks[0](_multiple_of_32(picture)).pooled

    def shown(self, sample: Tensor) -> Tensor:
        """A sample as the classifiers see it, enlarged without details."""
        while sample.shape[-1] < SEEN_SIDE:
            if self.pipeline.sampler.info.basis == "wavelet":
                sample = idwt2(sample, None)
            else:
                sample = F.interpolate(sample, scale_factor=2.0, mode="bilinear", align_corners=False)
        return _multiple_of_32(sample)

    def refine(self, vector: Tensor, blank: Latents, steps: int, progress: Progress | None) -> Latents:
        """Adam on vector and offsets; first on the sample, then on the decoded picture."""
        vector = vector.clone().requires_grad_(True)
        moved: dict[str, Tensor] = {"vector": vector}
        if self.freedom != "vector":
            moved["layers"] = torch.zeros(1, self.inside, device=vector.device, requires_grad=True)
        groups = [{"params": [tensor], "lr": RATES[name], "base": RATES[name]} for name, tensor in moved.items()]
        adam = torch.optim.Adam(groups, betas=(0.9, 0.99))
        late = round(steps * LAST) if self.pipeline.stages else 0
        early = steps - late
        for step in range(early):
            sample = self.draw(vector, moved.get("layers"), None, blank)
            self._step(adam, self._sample_loss(sample, step), step, early)
            if progress:
                progress(step + 1, steps)
        if self.freedom == "pixels":
            with torch.no_grad():
                drawn = self.draw(vector, moved["layers"], None, blank)
            moved["pixels"] = (self.sample - drawn).requires_grad_(True)
            adam = torch.optim.Adam(
                [{"params": [moved["pixels"]], "lr": 0.0, "base": RATES["pixels"]}], betas=(0.9, 0.99)
            )
        for step in range(late):
            if "pixels" in moved:  # what is inside the sampler stays, so it is not run again
                sample = drawn + moved["pixels"]
            else:
                sample = self.draw(vector, moved.get("layers"), None, blank)
            whole = self.decode(sample)
            self._step(adam, self._whole_loss(whole, step), step, late, 1.0 if "pixels" in moved else LATE_RATE)
            if progress:
                progress(early + step + 1, steps)
        offsets = None
        if self.freedom != "vector":
            added = moved["pixels"].flatten(1) if "pixels" in moved else torch.zeros(1, self.added).to(vector)
            offsets = torch.cat((moved["layers"], added), 1)
        return self.finish(vector, offsets, blank)

    def draw(self, vector: Tensor, layers: Tensor | None, added: Tensor | None, blank: Latents) -> Tensor:
        """The sample of a vector and what is moved beside it."""
        offsets = None
        if layers is not None:
            offsets = torch.cat((layers, torch.zeros(1, self.added).to(layers) if added is None else added), 1)
        return self.vectors.draw_vector(vector, replace(blank, offsets=offsets).to(vector.device)).float()

    def decode(self, sample: Tensor) -> Tensor:
        """Steps 3 and 4 up to the side of the picture, with gradients."""
        x = sample
        pairs = zip(self.pipeline.stages, self.pipeline.reductions, strict=True)
        for stage, came in pairs:
            if x.shape[-1] == self.picture.shape[-1] and x is not sample:
                break
            low = stage.encoder(x) if stage.encoder else x
            x = decode_over(stage.decoder, low, came.anchor, gradients=True).float()
        return x

    def finish(self, vector: Tensor, offsets: Tensor | None, blank: Latents) -> Latents:
        """Latents as they are kept: offsets rounded to fp16. Raises NonFiniteError."""
        with torch.no_grad():
            latents = self.vectors.at_vector(vector.detach(), blank.to(vector.device))
        if offsets is not None:
            offsets = offsets.detach().half().float()
        if not torch.isfinite(latents.z).all() or (offsets is not None and not torch.isfinite(offsets).all()):
            raise NonFiniteError("The search ran away: take fewer steps, or another class.")
        return replace(latents, z=latents.z.float(), offsets=offsets)

    def draw_whole(self, latents: Latents) -> Tensor:
        """The picture that the pipeline makes of latents, at the side of the photo: (1, 3, S, S)."""
        *_, (_, made) = self.pipeline.steps(latents, resolution=self.picture.shape[-1])
        return made.clone()

    def distances(self, made: Tensor) -> Distances:
        """How far a picture is from the photo."""
        eight = torch.from_numpy(to_uint8(made)).permute(0, 3, 1, 2).to(self.picture) / 255
        error = float((eight - self.picture).square().mean().clamp(min=1e-10))
        with torch.no_grad():
            pooled = self.trunks[0](_multiple_of_32(eight)).pooled
        features = float((pooled - self.wanted_pooled).norm())
        return Distances(-10 * float(torch.tensor(error).log10()), features)

    def _sample_loss(self, made: Tensor, step: int) -> Tensor:
        """L1 of pixels, of pixels at a quarter of the side, and what one of the two classifiers sees, in turn."""
        which = step % len(self.trunks)
        near = PIXELS * (made - self.sample).abs().mean()
        near = near + COARSE * (F.avg_pool2d(made, 4) - F.avg_pool2d(self.sample, 4)).abs().mean()
        return near + feature_distance(self.trunks[which](self.shown(made)), self.wanted[which])

    def _whole_loss(self, made: Tensor, step: int) -> Tensor:
        """The same of decoded pictures, both moved by some pixels for the classifier."""
        trunk = self.trunks[step % len(self.trunks)]
        down, right = torch.randint(SHIFT + 1, (2,), generator=torch.Generator().manual_seed(step)).tolist()
        seen = trunk(_moved(made, down, right))
        with torch.no_grad():
            wanted = trunk(_moved(self.picture, down, right))
        return WHOLE_PIXELS * (made - self.picture).abs().mean() + feature_distance(seen, wanted)

    @staticmethod
    def _step(adam: torch.optim.Adam, loss: Tensor, step: int, steps: int, rate: float = 1.0) -> None:
        for group in adam.param_groups:
            group["lr"] = group["base"] * rate * min(1.0, (steps - step) / (steps * DECAY))
        adam.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        adam.step()


def feature_distance(made: Seen, wanted: Seen) -> Tensor:
    """A sum of relative distances: of four taps, L1, and of the pooled features, Euclidean."""
    total: Tensor = (made.pooled - wanted.pooled).norm() / wanted.pooled.norm().clamp(min=1e-6)
    for a, b, weight in zip(made.taps, wanted.taps, TAP_WEIGHTS, strict=True):
        total = total + weight * (a - b).abs().mean() / b.abs().mean().clamp(min=1e-6)
    return total


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


def guess_class(pipeline: NsbPipeline, picture: Tensor) -> tuple[int, float]:
    """The class among the sampler's that EfficientNet-Lite0 gives the most, and how much. Raises UsageError."""
    info = pipeline.sampler.info
    assert info.classes is not None
    if info.labels != "imagenet":
        raise UsageError(f"The classes of {info.name} have no names, so they cannot be guessed: give the class.")
    judge = load_classifier(CLASS_JUDGE)
    chances = judge(picture).logits[0, list(info.classes)].float().softmax(0)
    best = int(chances.argmax())
    return info.classes[best], float(chances[best])


def find_inverter(pipeline: NsbPipeline, given: Inverter | str | None) -> Inverter | None:
    """The inverter of a pipeline's sampler: the one given, else the one that ships for these weights, if any.

    Raises UsageError for one that belongs to another sampler.
    """
    info, weights = pipeline.sampler.info, weights_sha256(pipeline.sampler)
    name = inverter_for(info.name) if given is None else given
    if name is None:
        return None
    found = load_inverter(name) if isinstance(name, str) else name
    about = found.info
    if (about.sampler, about.resolution, about.makes) != (info.name, info.resolution, info.makes) or (
        about.weights and weights and about.weights != weights
    ):
        if given is None:
            return None  # other weights of that name: those that ship know nothing of them
        raise UsageError(
            f"The inverter {about.name} was trained for {about.sampler} (weights {about.weights[:12] or 'unknown'}), "
            f"not for {info.name} (weights {(weights or 'unknown')[:12]}): train one with `nsbgan train inverter`."
        )
    if isinstance(found, torch.nn.Module):
        found.to(pipeline.device)
    return found


def blank_latents(pipeline: NsbPipeline, class_id: int | None, seed: int) -> Latents:
    """Latents of a class whose z is still to be found. Raises UsageError for a class that the sampler has not."""
    info = pipeline.sampler.info
    if (class_id is None) != (info.classes is None):
        raise UsageError(f"The sampler {info.name} draws {'without classes' if info.classes is None else 'classes'}.")
    if class_id is not None and info.classes is not None and class_id not in info.classes:
        named = find_class(class_id).name if info.labels == "imagenet" else "unknown"
        raise UsageError(f"The sampler {info.name} cannot draw class {class_id} ({named}): choose one that it has.")
    truncation = 1.0 if info.truncates == "w" else info.truncation  # w is found, not pulled to its mean
    return draw_latents(
        [seed], [class_id], z_dim=info.z_dim, truncation=truncation, mode=info.truncation_mode, truncates=info.truncates
    )


def mean_vector(pipeline: NsbPipeline, blank: Latents, count: int = 64) -> Tensor:
    """Where a search without an inverter begins: (1, length), the mean over drawn latents of the same class."""
    info = pipeline.sampler.info
    drawn = draw_latents(
        list(range(count)), [None] * count, z_dim=info.z_dim, truncation=info.truncation, mode=info.truncation_mode,
        truncates=info.truncates,
    )  # fmt: skip
    many = replace(drawn, y=blank.y.expand(count, -1)).to(pipeline.device)
    return vectors(pipeline.sampler).vector_of(many).mean(0, keepdim=True)


def origin_of(pipeline: NsbPipeline) -> Origin:
    """What latents of this pipeline belong to."""
    sampler = pipeline.sampler
    return Origin(pipeline.name, sampler.info.name, weights_sha256(sampler) or "")


def _moved(picture: Tensor, down: int, right: int) -> Tensor:
    """A window of the picture's size, moved; beyond the border the picture is mirrored."""
    side = picture.shape[-1]
    window = F.pad(picture, (0, right, 0, down), mode="reflect")[..., down : down + side, right : right + side]
    return _multiple_of_32(window)


def _multiple_of_32(picture: Tensor) -> Tensor:
    side = max(32, round(picture.shape[-1] / 32) * 32)
    if side == picture.shape[-1]:
        return picture
    return F.interpolate(picture, size=(side, side), mode="bilinear", align_corners=False, antialias=True)

"""The refining of one photo's vector by gradient, on its sample first and through the decoder at last."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.classifiers.lite_trunk import LiteTrunk, Seen
from nsbgan_infer.decoders.anchor import decode_over
from nsbgan_infer.encoders.lifting import idwt2
from nsbgan_infer.errors import NonFiniteError
from nsbgan_infer.images import to_uint8
from nsbgan_infer.inversion.photo import SEEN_SIDE, multiple_of_32, reduce_to_sample
from nsbgan_infer.latents import Latents
from nsbgan_infer.pipeline import NsbPipeline
from nsbgan_infer.samplers.vectors import vectors

Freedom = Literal["vector", "layers", "pixels"]
LAST = 0.2  # share of the steps that go through the decoder, too dear for all of them
TAP_WEIGHTS = (0.1, 0.2, 0.5, 0.5)  # of strides 4, 8, 16, 32
PIXELS, COARSE = 5.0, 5.0  # weights of a sample's L1 distance, whole and at a quarter of the side
WHOLE_PIXELS = 10.0  # weight of the L1 distance of decoded pictures: with less, features are bought with coloured grain
SHIFT = 7  # decoded pictures are moved by up to so many pixels before the classifiers see them, which then agree more
RATES = {"vector": 0.05, "layers": 0.02, "pixels": 0.003}
LATE_RATE = 0.2  # times the rates of vector and layers, in the steps that go through the decoder
DECAY = 0.4  # share of the steps, the last ones, over which rates fall to 0


@dataclass(frozen=True)
class Distances:
    """From a picture to the photo."""

    psnr: float
    """dB over RGB, after rounding to 8 bits."""
    features: float
    """Euclidean distance of EfficientNet-Lite0's pooled features: small is alike."""


class Search:
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
            self.wanted_pooled = self.trunks[0](multiple_of_32(picture)).pooled

    def shown(self, sample: Tensor) -> Tensor:
        """A sample as the classifiers see it, enlarged without details."""
        while sample.shape[-1] < SEEN_SIDE:
            if self.pipeline.sampler.info.basis == "wavelet":
                sample = idwt2(sample, None)
            else:
                sample = F.interpolate(sample, scale_factor=2.0, mode="bilinear", align_corners=False)
        return multiple_of_32(sample)

    def refine(self, vector: Tensor, blank: Latents, steps: int) -> Generator[int, None, Latents]:
        """Adam on vector and offsets; first on the sample, then on the decoded picture. Tells each step done."""
        vector = vector.clone().requires_grad_(True)
        moved: dict[str, Tensor] = {"vector": vector}
        if self.freedom != "vector":
            moved["layers"] = torch.zeros(1, self.inside, device=vector.device, requires_grad=True)
        groups = [{"params": [tensor], "lr": RATES[name], "base": RATES[name]} for name, tensor in moved.items()]
        adam = torch.optim.Adam(groups, betas=(0.9, 0.99))
        late = late_steps(self.pipeline, steps)
        early = steps - late
        for step in range(early):
            sample = self.draw(vector, moved.get("layers"), None, blank)
            self._step(adam, self._sample_loss(sample, step), step, early)
            yield step + 1
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
            yield early + step + 1
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
            pooled = self.trunks[0](multiple_of_32(eight)).pooled
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


def late_steps(pipeline: NsbPipeline, steps: int) -> int:
    """How many of the steps, the last ones, go through the decoder."""
    return round(steps * LAST) if pipeline.stages else 0


def feature_distance(made: Seen, wanted: Seen) -> Tensor:
    """A sum of relative distances: of four taps, L1, and of the pooled features, Euclidean."""
    total: Tensor = (made.pooled - wanted.pooled).norm() / wanted.pooled.norm().clamp(min=1e-6)
    for a, b, weight in zip(made.taps, wanted.taps, TAP_WEIGHTS, strict=True):
        total = total + weight * (a - b).abs().mean() / b.abs().mean().clamp(min=1e-6)
    return total


def _moved(picture: Tensor, down: int, right: int) -> Tensor:
    """A window of the picture's size, moved; beyond the border the picture is mirrored."""
    side = picture.shape[-1]
    window = F.pad(picture, (0, right, 0, down), mode="reflect")[..., down : down + side, right : right + side]
    return multiple_of_32(window)

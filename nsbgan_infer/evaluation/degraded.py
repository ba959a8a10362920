"""How well a decoder restores photos from the world: pictures that blur, noise and JPEG went over, enlarged again.

Each picture is cropped to a multiple of the decoder's scale, degraded (`training.decoders.degradations`) with numbers
that depend on the seed and on the picture's name alone, enlarged on the grid of what came in and rounded to 8 bit. The
same seed gives every decoder, here and elsewhere, the same low-resolution pictures. Figures are means over pictures.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nsbgan_infer.classifiers.base import Classifier
from nsbgan_infer.classifiers.efficientnet_lite import load_lite2
from nsbgan_infer.datasets import ImageSource, to_tensor
from nsbgan_infer.decoders.anchor import decode_over
from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.degradations.world import degradation, degrade
from nsbgan_infer.engines.classifiers import in_bulk
from nsbgan_infer.engines.graph import place_of
from nsbgan_infer.errors import ImageFileError
from nsbgan_infer.evaluation.reconstruction import SMALLEST, Originals, quantise


@dataclass(frozen=True)
class DegradedReport:
    """Means over `n` pictures, of decoded and original ones."""

    psnr_y: float
    """Y-PSNR in dB on BT.601 luma with studio range, a border of 4 cut."""
    ssim: float
    """Structural similarity of the same."""
    feature_distance: float
    """Euclidean distance of EfficientNet-Lite2's pooled features: what a network that judges pictures sees of it."""
    colour: tuple[float, float, float]
    """By how many grey levels of 255 red, green and blue are brighter than in the original, on the whole."""
    colour_error: float
    """How many grey levels the mean colour of one picture is off, the mean of three absolute values."""
    n: int
    """Pictures."""
    degrade: str
    """The name of the degradation."""
    seed: int
    """Of what it drew."""


def degraded_picture(picture: Tensor, name: str, *, way: str, seed: int, scale: int) -> Tensor:
    """The low-resolution picture (3, H / scale, W / scale) that `evaluate_degraded` makes of (3, H, W) in [0, 1].

    `name` is the picture's; of a path or an archive's member only the last part counts. Raises UnknownNameError.
    """
    text = f"{seed}:{name.replace(':', '/').rpartition('/')[2]}"
    number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
    return degrade(picture, degradation(way), scale, generator=torch.Generator("cpu").manual_seed(number))


@torch.inference_mode()
def evaluate_degraded(
    decoders: Sequence[Decoder],
    source: ImageSource,
    *,
    way: str = "camera",
    seed: int = 0,
    classifier: Classifier | None = None,
    progress: Callable[[int], None] | None = None,
) -> list[DegradedReport]:
    """Measure each of `decoders` on the pictures of `source`, degraded by the preset `way` with `seed`.

    `classifier` is EfficientNet-Lite2 unless another is given; `progress` is called after every picture. Raises
    UnknownNameError for an unknown `way`, ImageFileError for a picture that cannot be read or is too small,
    MissingExtraError without EfficientNet-Lite2.
    """
    degradation(way)
    classifier = classifier or in_bulk(load_lite2())
    sums = torch.zeros(len(decoders), 7, dtype=torch.float64)
    for index in range(len(source)):
        name, whole = source.names[index], to_tensor(source.image(index))
        for scale in sorted({d.info.scale for d in decoders}):
            rows = [row for row, d in enumerate(decoders) if d.info.scale == scale]
            picture = _cropped(whole, scale, name)
            low = degraded_picture(picture, name, way=way, seed=seed, scale=scale)
            decoded = [_enlarge(decoders[row], low[None]) for row in rows]
            sums[rows] += _measure(picture[None], decoded, classifier)
        if progress:
            progress(1)
    return [_report((row / len(source)).tolist(), len(source), way, seed) for row in sums]


def _cropped(picture: Tensor, scale: int, name: str) -> Tensor:
    """The upper left part whose sides are multiples of `scale`."""
    height, width = (side // scale * scale for side in picture.shape[-2:])
    if min(height, width) < SMALLEST:
        raise ImageFileError(
            f"{name} is {picture.shape[-1]} x {picture.shape[-2]}: decoders are measured on pictures of at least "
            f"{SMALLEST} pixels a side."
        )
    return picture[:, :height, :width]


def _enlarge(decoder: Decoder, low: Tensor) -> Tensor:
    """(1, 3, h, w) -> (1, 3, scale h, scale w) over what came in, as a PNG would hold it, on the CPU."""
    return quantise(decode_over(decoder, low.to(*place_of(decoder)), "centre").to(low))


def _measure(picture: Tensor, decoded: Sequence[Tensor], classifier: Classifier) -> Tensor:
    """PSNR, SSIM, feature distance, differences of mean R, G and B, and their mean absolute value: (n, 7) float64.

    All that was made of a picture is judged with it, in one batch.
    """
    made, originals = torch.cat(list(decoded)), Originals(picture)
    features = classifier(torch.cat([picture, made])).features.double().cpu()
    distances = torch.linalg.vector_norm(features[1:] - features[:1], dim=1)
    scores = [torch.cat(originals.y_scores(one)) for one in decoded]
    colour = (made.double() - picture.double()).mean((2, 3)) * 255
    return torch.cat((torch.stack(scores), distances[:, None], colour, colour.abs().mean(1, keepdim=True)), 1)


def _report(means: list[float], n: int, way: str, seed: int) -> DegradedReport:
    psnr, ssim, distance, red, green, blue, error = means
    return DegradedReport(psnr, ssim, distance, (red, green, blue), error, n, way, seed)

"""How well a decoder restores real pictures: Y-PSNR, SSIM, MSE and the Frechet distance of its reconstructions (x4).

Each picture is cropped to a multiple of 4, shrunk by the reduction that the decoder reads (`reductions`: wavelet with
symmetric boundary, the paper's Gaussian, or an ordinary bicubic resize to 8 bit), decoded and rounded to 8 bit. PSNR
and SSIM are taken on BT.601 luma with studio range (16 to 235) after a border of 4 pixels is cut, as super-resolution
papers do; MSE on RGB in [0, 1], whole picture (paper table 3). Figures are means over pictures. Zero details then give
28.71 dB on Set5 and 26.38 dB on Set14.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from nsbgan_infer.classifiers.base import Classifier
from nsbgan_infer.classifiers.efficientnet_lite import load_lite0, load_lite2
from nsbgan_infer.datasets import ImageSource, to_tensor
from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.decoders.interpolate import make_bicubic, make_iwt
from nsbgan_infer.decoders.tiling import decode
from nsbgan_infer.encoders.reduce import Reducer, make_reducer
from nsbgan_infer.engines.classifiers import in_bulk
from nsbgan_infer.engines.graph import place_of
from nsbgan_infer.errors import ImageFileError, UsageError
from nsbgan_infer.evaluation.frechet import Moments, frechet_distance
from nsbgan_infer.reductions import reduction

BORDER = 4
SMALLEST = 32  # a low band of 8 x 8, the least that decoders promise
FD_LEAST = 2048  # pictures below which a Frechet distance says more about their number than about their quality
WAITING = 32  # pictures that are held in memory for others of their size
BEST_PSNR = 100.0  # stands for "no difference at all", so that a mean stays finite


@dataclass(frozen=True)
class DecoderReport:
    """Means over `n` pictures. `psnr_y` and `baseline_psnr_y` in dB; `fd_*` are None below 2,048 pictures.

    `baseline_psnr_y` is the interpolation of the same low bands: zero details, or bicubic on their grid. `reads` is the
    reduction that made them, or `pairs` where they were given.
    """

    psnr_y: float
    ssim: float
    mse: float
    fd_lite0: float | None
    fd_lite2: float | None
    n: int
    baseline_psnr_y: float
    reads: str = ""


def luma(rgb: Tensor) -> Tensor:
    """BT.601 luma with studio range: RGB (B, 3, H, W) in [0, 1] -> (B, 1, H, W) float64 in [16, 235]."""
    weights = torch.tensor([65.481, 128.553, 24.966], dtype=torch.float64, device=rgb.device)
    return 16 + (rgb.double() * weights.view(1, 3, 1, 1)).sum(1, keepdim=True)


def psnr(a: Tensor, b: Tensor, *, peak: float = 255.0) -> Tensor:
    """Peak signal-to-noise ratio of each picture in dB: (B, C, H, W) twice -> (B,), at most 100."""
    mse = (a.double() - b.double()).square().mean((1, 2, 3))
    return (10 * torch.log10(peak**2 / mse)).clamp(max=BEST_PSNR)


def ssim(a: Tensor, b: Tensor, *, peak: float = 255.0) -> Tensor:
    """Structural similarity of each picture: (B, C, H, W) twice, sides of at least 11 -> (B,) float64.

    Wang et al. 2004: Gaussian window 11 x 11 with sigma 1.5, K = (0.01, 0.03), windows inside the picture only.
    """
    return Windows(b.double(), peak).similarity(a.double())


class Windows:
    """The means and variances of a picture's windows (B, C, H, W), found once for all that is compared with it."""

    def __init__(self, picture: Tensor, peak: float) -> None:
        self.picture, self.peak = picture, peak
        self.mean = blur(picture)
        self.variance = blur(picture * picture) - self.mean**2

    def similarity(self, other: Tensor) -> Tensor:
        """SSIM of `other` (B, C, H, W) float64 -> (B,)."""
        mean = blur(other)
        variance = blur(other * other) - mean**2
        covariance = blur(other * self.picture) - mean * self.mean
        c1, c2 = (0.01 * self.peak) ** 2, (0.03 * self.peak) ** 2
        luminance = (2 * mean * self.mean + c1) / (mean**2 + self.mean**2 + c1)
        structure = (2 * covariance + c2) / (variance + self.variance + c2)
        return (luminance * structure).mean((1, 2, 3))


def blur(x: Tensor) -> Tensor:
    """SSIM's window: (B, C, H, W) -> (B, C, H-10, W-10), 11 taps of a Gaussian with sigma 1.5, sum 1.

    By sums of moved pictures: torch's convolution in float64 takes three times as long on a CPU.
    """
    weights = [math.exp(-0.5 * (k / 1.5) ** 2) for k in range(-5, 6)]
    taps = [w / sum(weights) for w in weights]
    for dim in (-1, -2):
        length = x.shape[dim] - 10
        total = x.narrow(dim, 0, length) * taps[0]
        for k in range(1, 11):
            total = total.add_(x.narrow(dim, k, length), alpha=taps[k])
        x = total
    return x


def quantise(picture: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to 8 bit, still as float: what a PNG would hold."""
    return picture.clamp(0, 1).mul(255).round().div(255)


def y_scores(output: Tensor, target: Tensor, *, border: int = BORDER, grey: bool = False) -> tuple[Tensor, Tensor]:
    """Y-PSNR (B,) in dB and SSIM (B,) of 8-bit RGB pictures (B, 3, H, W) in [0, 1], a border cut.

    `grey`: all three colours are the same, and are taken as they are, in [0, 255], for luma.
    """
    return Originals(target, border=border, grey=grey).y_scores(output)


class Originals:
    """8-bit RGB pictures (B, 3, H, W) in [0, 1] that others are compared with; what that needs is found once."""

    def __init__(self, pictures: Tensor, *, border: int = BORDER, grey: bool = False) -> None:
        self.pictures, self.border, self.grey = pictures, border, grey
        self.luma = self._luma(pictures)

    def y_scores(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """As the function of that name."""
        found = self._luma(output)
        return psnr(found, self.luma), self.windows.similarity(found)

    def y_psnr(self, output: Tensor) -> Tensor:
        """Y-PSNR alone (B,)."""
        return psnr(self._luma(output), self.luma)

    @cached_property
    def windows(self) -> Windows:
        """Those of SSIM."""
        return Windows(self.luma, 255.0)

    def _luma(self, pictures: Tensor) -> Tensor:
        inside = slice(self.border, -self.border)
        return (pictures[:, :1].double() * 255 if self.grey else luma(pictures))[..., inside, inside]


def own_reducer(decoder: Decoder) -> Reducer:
    """The x4 reduction that the decoder reads. Raises UsageError for a decoder that does not enlarge by 4."""
    if decoder.info.scale != 4:
        raise UsageError(
            f"Decoders are measured at x4, and {decoder.info.name} enlarges by {decoder.info.scale}: give a x4 decoder."
        )
    return make_reducer(decoder.info.reads, 4)


def baseline(low_band: Tensor, reads: str) -> Tensor:
    """Plain x4 interpolation of a reduction: zero details (wavelet), or bicubic on the same grid (pixel)."""
    made = reduction(reads)
    return make_iwt()(low_band) if made.basis == "wavelet" else make_bicubic().anchored(made.anchor)(low_band)


@torch.inference_mode()
def reconstruct(decoder: Decoder, pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Shrink and decode: (B, 3, H, W) in [0, 1], H and W multiples of 4 -> decoded and baseline, both 8 bit.

    Raises UsageError for a decoder that is not x4, NonFiniteError when it emits NaN or infinity.
    """
    low = own_reducer(decoder)(pictures)
    return _decoded(decoder, low), quantise(baseline(low, decoder.info.reads))


def _decoded(decoder: Decoder, low: Tensor) -> Tensor:
    return quantise(decode(decoder, low.to(*place_of(decoder))).to(low))


def evaluate_decoder(
    decoder: Decoder,
    source: ImageSource,
    *,
    batch: int = 8,
    progress: Callable[[int], None] | None = None,
) -> DecoderReport:
    """Measure `decoder` on all pictures of `source`, which may have different sizes, each side at least 32.

    `batch` pictures of one size are decoded together; `progress` receives the number of pictures of each batch.
    Raises UsageError for a decoder that is not x4, ImageFileError for a picture that cannot be read or is too small.
    """
    return evaluate_decoders([decoder], source, batch=batch, progress=progress)[0]


def evaluate_decoders(
    decoders: Sequence[Decoder],
    source: ImageSource,
    *,
    batch: int = 8,
    progress: Callable[[int], None] | None = None,
) -> list[DecoderReport]:
    """`evaluate_decoder` for each of `decoders`; the pictures are read, and their features found, once for all."""
    for decoder in decoders:
        own_reducer(decoder)
    judges = _judges(decoders) if len(source) >= FD_LEAST else {}
    real = {name: Moments(judge.info.features) for name, judge in judges.items()}
    meters = [_Meter(decoder, judges) for decoder in decoders]
    for target in _batches(source, batch):
        made = [meter.update(*given) for meter, given in zip(meters, _given(decoders, target), strict=True)]
        for name, judge in judges.items():  # what was made of a picture is judged beside it: one size, one batch
            features = torch.split(judge(torch.cat([target, *made])).features, len(target))
            for moments, found in zip([real[name], *(m.moments[name] for m in meters)], features, strict=True):
                moments.update(found)
        if progress:
            progress(len(target))
    return [meter.report(real) for meter in meters]


@torch.inference_mode()
def _given(decoders: Sequence[Decoder], target: Tensor) -> Iterator[tuple[Originals, Tensor, Tensor]]:
    """For each decoder the originals, their reduction that it reads, and the Y-PSNR of the baseline; what decoders
    share is made once."""
    originals, made = Originals(target), dict[str, tuple[Tensor, Tensor]]()
    for decoder in decoders:
        reads = decoder.info.reads
        if reads not in made:
            low = own_reducer(decoder)(target)
            made[reads] = low, originals.y_psnr(quantise(baseline(low, reads)))
        yield originals, *made[reads]


class _Meter:
    """What is noted of one decoder: four figures of each picture, and sums of features."""

    def __init__(self, decoder: Decoder, judges: Mapping[str, Classifier]) -> None:
        self.decoder = decoder
        self.figures: list[list[float]] = []
        self.moments = {name: Moments(judge.info.features) for name, judge in judges.items()}

    @torch.inference_mode()
    def update(self, originals: Originals, low: Tensor, base: Tensor) -> Tensor:
        """Decode `low`; the decoded pictures, 8 bit."""
        decoded = _decoded(self.decoder, low)
        mse = (decoded.double() - originals.pictures.double()).square().mean((1, 2, 3))
        self.figures += torch.stack((*originals.y_scores(decoded), mse, base), 1).tolist()
        return decoded

    def report(self, real: Mapping[str, Moments]) -> DecoderReport:
        """Means by exact sums, so that the order of the pictures does not matter."""
        n = len(self.figures)
        psnr_y, similarity, mse, base = (math.fsum(column) / n for column in zip(*self.figures, strict=True))
        distance = {name: frechet_distance(real[name], found) for name, found in self.moments.items()}
        reads = self.decoder.info.reads
        return DecoderReport(psnr_y, similarity, mse, distance.get("lite0"), distance.get("lite2"), n, base, reads)


def _judges(decoders: Sequence[Decoder]) -> dict[str, Classifier]:
    """Lite0, and Lite2 as the judge that no training saw, where a decoder is. Raises MissingExtraError."""
    places = {place_of(decoder)[0] for decoder in decoders}
    device = next((d for d in places if d.type != "cpu"), torch.device("cpu"))
    return {"lite0": in_bulk(load_lite0()).to(device), "lite2": in_bulk(load_lite2()).to(device)}


def _batches(source: ImageSource, batch: int) -> Iterator[Tensor]:
    """Pictures of one size together, at most `batch`: (B, 3, H, W), cropped to multiples of 4 at the bottom right.

    At most `WAITING` wait for others of their size; then those of which most wait go on.
    """
    waiting: dict[tuple[int, ...], list[Tensor]] = {}
    for i in range(len(source)):
        picture = to_tensor(source.image(i))
        height, width = picture.shape[-2] // 4 * 4, picture.shape[-1] // 4 * 4
        if min(height, width) < SMALLEST:
            raise ImageFileError(
                f"{source.names[i]} is {picture.shape[-1]} x {picture.shape[-2]}: decoders are measured on pictures of "
                f"at least {SMALLEST} pixels a side."
            )
        alike = waiting.setdefault((height, width), [])
        alike.append(picture[:, :height, :width])
        full = len(alike) == batch
        if full or sum(map(len, waiting.values())) >= max(batch, WAITING):
            size = (height, width) if full else max(waiting, key=lambda s: len(waiting[s]))
            yield torch.stack(waiting.pop(size))
    for alike in waiting.values():
        yield torch.stack(alike)

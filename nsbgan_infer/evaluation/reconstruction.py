"""How well a decoder restores real pictures: Y-PSNR, SSIM, MSE and the Frechet distance of its reconstructions (x4).

Each picture is cropped to a multiple of 4, shrunk by the reduction that the decoder reads (`reductions`: wavelet with
symmetric boundary, the paper's Gaussian, or an ordinary bicubic resize to 8 bit), decoded and rounded to 8 bit. PSNR
and SSIM are taken on BT.601 luma with studio range (16 to 235) after a border of 4 pixels is cut, as super-resolution
papers do; MSE on RGB in [0, 1], whole picture (paper table 3). Figures are means over pictures. Zero details then give
28.71 dB on Set5 and 26.38 dB on Set14.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.classifiers.base import Classifier
from nsbgan_infer.classifiers.efficientnet_lite import load_lite0, load_lite2
from nsbgan_infer.datasets import ImageSource, to_tensor
from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.decoders.interpolate import make_bicubic, make_iwt
from nsbgan_infer.decoders.tiling import decode
from nsbgan_infer.encoders.reduce import Reducer, make_reducer
from nsbgan_infer.engines.classifiers import in_bulk
from nsbgan_infer.errors import ImageFileError, UsageError
from nsbgan_infer.evaluation.frechet import Moments, frechet_distance
from nsbgan_infer.reductions import reduction

BORDER = 4
SMALLEST = 32  # a low band of 8 x 8, the least that decoders promise
FD_LEAST = 2048  # pictures below which a Frechet distance says more about their number than about their quality
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
    a, b = a.double(), b.double()
    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (var_a + var_b + c2)
    return (luminance * structure).mean((1, 2, 3))


def blur(x: Tensor) -> Tensor:
    """SSIM's window: (B, C, H, W) -> (B, C, H-10, W-10), 11 taps of a Gaussian with sigma 1.5, sum 1."""
    offset = torch.arange(-5, 6, dtype=x.dtype, device=x.device)
    taps = torch.exp(-0.5 * (offset / 1.5) ** 2)
    taps = taps / taps.sum()
    b, c, h, w = x.shape
    x = F.conv2d(x.reshape(b * c, 1, h, w), taps.view(1, 1, 1, 11))
    return F.conv2d(x, taps.view(1, 1, 11, 1)).reshape(b, c, h - 10, w - 10)


def quantise(picture: Tensor) -> Tensor:
    """Clamp to [0, 1] and round to 8 bit, still as float: what a PNG would hold."""
    return picture.clamp(0, 1).mul(255).round().div(255)


def y_scores(output: Tensor, target: Tensor, *, border: int = BORDER, grey: bool = False) -> tuple[Tensor, Tensor]:
    """Y-PSNR (B,) in dB and SSIM (B,) of 8-bit RGB pictures (B, 3, H, W) in [0, 1], a border cut.

    `grey`: all three colours are the same, and are taken as they are, in [0, 255], for luma.
    """
    inside = slice(border, -border)
    a, b = ((p[:, :1].double() * 255 if grey else luma(p))[..., inside, inside] for p in (output, target))
    return psnr(a, b), ssim(a, b)


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
    device, dtype = place_of(decoder)
    decoded = decode(decoder, low.to(device, dtype)).to(low)
    return quantise(decoded), quantise(baseline(low, decoder.info.reads))


def evaluate_decoder(
    decoder: Decoder,
    source: ImageSource,
    *,
    batch: int = 8,
    progress: Callable[[int], None] | None = None,
) -> DecoderReport:
    """Measure `decoder` on all pictures of `source`, which may have different sizes, each side at least 32.

    `batch` neighbours of one size are decoded together; `progress` receives the number of pictures of each batch.
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
        for name, judge in judges.items():
            real[name].update(judge(target).features)
        for meter in meters:
            meter.update(target)
        if progress:
            progress(len(target))
    return [meter.report(real) for meter in meters]


class _Meter:
    """What is summed up for one decoder."""

    def __init__(self, decoder: Decoder, judges: Mapping[str, Classifier]) -> None:
        self.decoder, self.judges = decoder, judges
        self.sums, self.n = torch.zeros(4, dtype=torch.float64), 0
        self.moments = {name: Moments(judge.info.features) for name, judge in judges.items()}

    def update(self, target: Tensor) -> None:
        decoded, plain = reconstruct(self.decoder, target)
        psnr_y, similarity = y_scores(decoded, target)
        mse = (decoded.double() - target.double()).square().mean((1, 2, 3))
        base, _ = y_scores(plain, target)
        self.sums += torch.stack((psnr_y, similarity, mse, base)).sum(1)
        self.n += len(target)
        for name, judge in self.judges.items():
            self.moments[name].update(judge(decoded).features)

    def report(self, real: Mapping[str, Moments]) -> DecoderReport:
        psnr_y, similarity, mse, base = (self.sums / self.n).tolist()
        distance = {name: frechet_distance(real[name], found) for name, found in self.moments.items()}
        reads = self.decoder.info.reads
        return DecoderReport(psnr_y, similarity, mse, distance.get("lite0"), distance.get("lite2"), self.n, base, reads)


def place_of(decoder: Decoder) -> tuple[torch.device, torch.dtype]:
    """Where a decoder's weights lie and what they are; the CPU and fp32 for one without weights."""
    weights = next(decoder.parameters(), None) if isinstance(decoder, nn.Module) else None
    return (torch.device("cpu"), torch.float32) if weights is None else (weights.device, weights.dtype)


def _judges(decoders: Sequence[Decoder]) -> dict[str, Classifier]:
    """Lite0, and Lite2 as the judge that no training saw, where a decoder is. Raises MissingExtraError."""
    places = {place_of(decoder)[0] for decoder in decoders}
    device = next((d for d in places if d.type != "cpu"), torch.device("cpu"))
    return {"lite0": in_bulk(load_lite0()).to(device), "lite2": in_bulk(load_lite2()).to(device)}


def _batches(source: ImageSource, batch: int) -> Iterator[Tensor]:
    """Neighbours of one size together, at most `batch`: (B, 3, H, W), cropped to multiples of 4 at the bottom right."""
    waiting: list[Tensor] = []
    for i in range(len(source)):
        picture = to_tensor(source.image(i))
        height, width = picture.shape[-2] // 4 * 4, picture.shape[-1] // 4 * 4
        if min(height, width) < SMALLEST:
            raise ImageFileError(
                f"{source.names[i]} is {picture.shape[-1]} x {picture.shape[-2]}: decoders are measured on pictures of "
                f"at least {SMALLEST} pixels a side."
            )
        picture = picture[:, :height, :width]
        if waiting and (len(waiting) == batch or waiting[0].shape != picture.shape):
            yield torch.stack(waiting)
            waiting = []
        waiting.append(picture)
    yield torch.stack(waiting)

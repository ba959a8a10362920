"""Given pairs of a small and a large picture: figures that can be laid beside the published tables.

`lr` and `hr` are two folders, or lie in one folder or ZIP. As the tables do it: the result is rounded to 8 bit, a
border of `scale` pixels is cut, PSNR and SSIM are taken on BT.601 luma with studio range, and a picture with one value
a pixel is its own luma. A result lies over its small picture whatever the decoder's anchor (`decoders.anchor`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from nsbgan_infer.datasets import ImageSource, open_source, to_tensor
from nsbgan_infer.decoders.anchor import decode_over
from nsbgan_infer.decoders.base import Decoder
from nsbgan_infer.decoders.interpolate import make_bicubic
from nsbgan_infer.engines.graph import place_of
from nsbgan_infer.errors import UsageError
from nsbgan_infer.evaluation.reconstruction import DecoderReport, Originals, quantise
from nsbgan_infer.storage.image_files import open_header

SMALLEST = 8  # of a small picture: the least that decoders promise


@dataclass(frozen=True)
class Pairs:
    """`small` and `large` are parallel: picture i of one belongs to picture i of the other. `scale` is their factor."""

    small: ImageSource
    large: ImageSource
    scale: int

    def __len__(self) -> int:
        return len(self.small)


def open_pairs(first: Path, second: Path | None = None) -> Pairs:
    """The pairs in two folders, or in one folder or archive that holds `lr/` and `hr/`.

    Pictures are matched by name, where the small one's may end in its factor (`img_001x4.png`). Raises UsageError where
    a partner is missing or sizes are no whole factor apart, ImageFileError for what cannot be read.
    """
    if second is None:
        source = open_source(first)
        small, large = (_within(source, folder) for folder in ("lr", "hr"))
        if not small.names or not large.names:
            raise UsageError(f"{first} holds no folders lr/ and hr/ with pictures: give both with --pairs LR HR.")
    else:
        small, large = open_source(first), open_source(second)
    small, large = _matched(small, large)
    factors = {_factor(small, large, i) for i in range(len(small))}
    if len(factors) > 1:
        listed = ", ".join(map(str, sorted(factors)))
        raise UsageError(f"The pairs have several factors ({listed}): give those of one at a time.")
    return Pairs(small, large, factors.pop())


@torch.inference_mode()
def evaluate_pairs(
    decoders: Sequence[Decoder], pairs: Pairs, *, progress: Callable[[int], None] | None = None
) -> list[DecoderReport]:
    """Measure each decoder on all pairs; the figures are means over pictures, the baseline is bicubic interpolation.

    Raises UsageError for a decoder of another scale, NonFiniteError when one emits NaN or infinity.
    """
    for decoder in decoders:
        if decoder.info.scale != pairs.scale:
            raise UsageError(
                f"The pairs are x{pairs.scale}, and {decoder.info.name} enlarges by {decoder.info.scale}: give a "
                f"x{pairs.scale} decoder."
            )
    plain = make_bicubic(pairs.scale) if pairs.scale in (2, 4, 8, 16) else None
    sums = torch.zeros(len(decoders), 4, dtype=torch.float64)
    for i in range(len(pairs)):
        low, high = (to_tensor(s.image(i))[None] for s in (pairs.small, pairs.large))
        high = high[..., : low.shape[-2] * pairs.scale, : low.shape[-1] * pairs.scale]
        grey = _mode(pairs.large, i)[0] in ("L", "1", "I;16")
        originals = Originals(high, border=pairs.scale, grey=grey)
        base = float(originals.y_psnr(_enlarged(plain, low, grey))) if plain else float("nan")
        for row, decoder in enumerate(decoders):
            sums[row] += torch.tensor([*_scores(_enlarged(decoder, low, grey), originals), base], dtype=torch.float64)
        if progress:
            progress(1)
    n = len(pairs)
    return [
        DecoderReport(psnr_y, similarity, mse, None, None, n, base, "pairs")
        for psnr_y, similarity, mse, base in (sums / n).tolist()
    ]


def _enlarged(decoder: Decoder, low: Tensor, grey: bool) -> Tensor:
    """(1, 3, h, w) -> 8 bit over what came in; of grey pictures what an upscaler of grey ones would return."""
    decoded = quantise(decode_over(decoder, low.to(*place_of(decoder)), "centre").to(low))
    return decoded.mean(1, keepdim=True).expand_as(decoded) if grey else decoded


def _scores(decoded: Tensor, originals: Originals) -> tuple[float, float, float]:
    psnr_y, similarity = originals.y_scores(decoded)
    return float(psnr_y), float(similarity), float((decoded.double() - originals.pictures.double()).square().mean())


def _within(source: ImageSource, folder: str) -> ImageSource:
    """The pictures whose own folder has this name."""
    rows = [i for i, n in enumerate(source.names) if PurePosixPath(n).parent.name.lower() == folder]
    return source.take(rows)


def _matched(small: ImageSource, large: ImageSource) -> tuple[ImageSource, ImageSource]:
    """Both in the order of `large`. Raises UsageError naming the first picture without a partner."""
    place = {PurePosixPath(n).stem: i for i, n in enumerate(small.names)}
    place |= {re.sub(r"_?x\d$", "", stem, flags=re.IGNORECASE): i for stem, i in place.items()}
    order = []
    for name in large.names:
        stem = PurePosixPath(name).stem
        if stem not in place:
            raise UsageError(f"{name} has no small picture of the same name: both folders need the same names.")
        order.append(place[stem])
    if left := sorted(set(range(len(small))) - set(order)):
        raise UsageError(f"{small.names[left[0]]} has no large picture of the same name: both folders need the same.")
    return small.take(order), large


def _factor(small: ImageSource, large: ImageSource, i: int) -> int:
    """How many times larger one is than the other; a rest of less than the factor is left out of the large one."""
    (_, (w, h)), (_, (width, height)) = _mode(small, i), _mode(large, i)
    factor = width // w
    if factor < 2 or height // h != factor or min(w, h) < SMALLEST:
        raise UsageError(
            f"{small.names[i]} is {w} x {h} and {large.names[i]} {width} x {height}: a pair is a picture of at least "
            f"{SMALLEST} pixels a side and the same one 2, 3, 4 or more times larger."
        )
    return factor


def _mode(source: ImageSource, i: int) -> tuple[str, tuple[int, int]]:
    """Pillow's mode of a picture and its width and height, from its header."""
    try:
        with open_header(source.read(i), source.names[i]) as image:
            return image.mode, image.size
    except Exception:
        source.image(i)  # says in one sentence why it cannot be read
        raise

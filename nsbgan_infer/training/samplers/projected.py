"""Projected discriminator on a frozen EfficientNet-Lite (Sauer et al. 2021, arXiv:2111.01007; spec section 11).

Low bands or small pictures (B, 3, 64, 64), nominally [0, 1], are enlarged twice and pass the frozen trunk once. What it
sees serves three terms of the generator's loss: hinge losses of small heads on four scales, the cross-entropy of the
trunk's own classifier, and a class-wise energy distance between features of drawn and of real pictures (`energy`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from nsbgan_infer.classifiers.lite_trunk import TAPS
from nsbgan_infer.classifiers.lite_trunk import Colours as Colours
from nsbgan_infer.classifiers.lite_trunk import LiteTrunk as LiteTrunk
from nsbgan_infer.classifiers.lite_trunk import Seen as Seen
from nsbgan_infer.classifiers.lite_trunk import StridedDepthwise as StridedDepthwise
from nsbgan_infer.encoders.lifting import idwt2

SPREAD = (12.0, 10.0, 7.5, 3.2)  # standard deviation of each tap of Lite0 on real low bands: brings them to about 1


class ProjectedHeads(nn.Module):
    """Random frozen mixing of the taps (across channels, then from coarse to fine), and one small head a scale.

    `spread` are the standard deviations of the taps on real pictures. Class by projection (Miyato & Koyama 2018),
    spectral norm in every trained layer.
    """

    def __init__(
        self,
        classes: int,
        *,
        spread: tuple[float, ...] = SPREAD,
        width: int = 64,
        out: int = 128,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.spread, channels = spread, TAPS
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            mix = [nn.Conv2d(c, width, 1, bias=False) for c in channels]
            for conv in mix:
                nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
            cross = [nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in channels]
            for conv in cross:
                nn.init.kaiming_normal_(conv.weight, nonlinearity="linear")
        self.mix = nn.ModuleList(mix).requires_grad_(False)
        self.cross = nn.ModuleList(cross[1:]).requires_grad_(False)  # the finest scale is not mixed again: cost
        plans = ((64, 96, out), (96, out), (out,), (out,))
        self.trunks = nn.ModuleList(_head(width, plan, stride=2 if i < 3 else 1) for i, plan in enumerate(plans))
        self.logits = nn.ModuleList(spectral_norm(nn.Conv2d(out, 1, 1)) for _ in plans)
        self.embeds = nn.ModuleList(spectral_norm(nn.Embedding(classes, out)) for _ in plans)

    def forward(self, taps: tuple[Tensor, ...], labels: Tensor) -> list[Tensor]:
        """Logits of every scale, each (B, 4, 4). `labels` (B,) index the classes."""
        mixed: list[Tensor] = []
        coarse: Tensor | None = None
        for i in (3, 2, 1, 0):
            x = self.mix[i](taps[i] / self.spread[i])
            if coarse is not None:
                x = (x + F.interpolate(coarse, scale_factor=2.0, mode="nearest")) * 0.5**0.5
            if i > 0:
                x = self.cross[i - 1](x)
            mixed.insert(0, x)
            coarse = x
        out = []
        for x, trunk, logit, embed in zip(mixed, self.trunks, self.logits, self.embeds, strict=True):
            h = trunk(x)  # (B, out, 4, 4)
            out.append((logit(h) + (h * embed(labels)[..., None, None]).sum(1, keepdim=True)).squeeze(1).float())
        return out


def _head(width: int, plan: tuple[int, ...], *, stride: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in plan:
        conv = nn.Conv2d(width, channels, 4, 2, 1) if stride == 2 else nn.Conv2d(width, channels, 3, 1, 1)
        layers += [spectral_norm(conv), nn.LeakyReLU(0.2)]
        width = channels
    return nn.Sequential(*layers)


def shown_to_trunk(low: Tensor) -> Tensor:
    """A 64 x 64 low band or picture enlarged to 128 x 128 without details, as the trunk is shown it."""
    return idwt2(low, None)

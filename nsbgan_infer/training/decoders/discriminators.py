"""The discriminator of the decoders' adversarial stage (paper C.2, after SRGAN; spec 3.4).

Pictures (B, 3, S, S) nominally [0, 1] -> one logit each (B, 1). Pairs of a 3 x 3 convolution and a 4 x 4 convolution
of stride 2 halve the side until it is 4: six pairs at 256, five at 128, four at 64.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.errors import UsageError

LAST_SIDE = 4
HIDDEN = 100


class VggDiscriminator(nn.Module):
    """21,055,049 parameters at size 256 and width 64, as published; a narrower `width` is for small compute.

    Raises UsageError unless `size` is 4 times a power of two, at least 16.
    """

    def __init__(self, size: int = 256, *, width: int = 64) -> None:
        super().__init__()
        pairs = (size // LAST_SIDE).bit_length() - 1
        if size < 4 * LAST_SIDE or LAST_SIDE << pairs != size or width < 1:
            raise UsageError(
                f"The discriminator ends at 4 x 4, so it takes windows of 16, 32, 64, 128 or 256 pixels, not {size}: "
                "choose a low-band crop of 16, 32 or 64."
            )
        widths = [width * min(8, 2**i) for i in range(pairs)]  # 64, 128, 256, 512, 512, 512
        layers: list[nn.Module] = []
        before = 3
        for out in widths:
            layers += _conv(before, out, kernel=3, stride=1, norm=bool(layers))
            layers += _conv(out, out, kernel=4, stride=2, norm=True)
            before = out
        self.size = size
        self.features = nn.Sequential(*layers)
        self.linear1 = nn.Linear(before * LAST_SIDE**2, HIDDEN)
        self.linear2 = nn.Linear(HIDDEN, 1)

    def forward(self, picture: Tensor) -> Tensor:
        """(B, 3, size, size) -> (B, 1). Raises UsageError for another size."""
        if picture.shape[-2:] != (self.size, self.size):
            raise UsageError(f"The discriminator takes {self.size} x {self.size}, got {tuple(picture.shape[-2:])}.")
        x = self.features(picture).flatten(1)  # (B, 512 * 4 * 4)
        out: Tensor = self.linear2(F.leaky_relu(self.linear1(x), 0.2))
        return out


def _conv(before: int, out: int, *, kernel: int, stride: int, norm: bool) -> list[nn.Module]:
    """Convolution, batch norm (the very first one has a bias instead), leaky ReLU."""
    layers: list[nn.Module] = [nn.Conv2d(before, out, kernel, stride, 1, bias=not norm)]
    if norm:
        layers.append(nn.BatchNorm2d(out))
    return [*layers, nn.LeakyReLU(0.2, inplace=True)]

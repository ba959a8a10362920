"""Where an inverter begins: at the best linear guess from the first pairs, which costs one solution of equations.

Ridge regression of the vectors on the sample at 16 x 16 and the class. How much the map is held small is what does best
on a quarter of the pairs that the other three have not seen.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.inverters.conv_inverter import LAYOUT, ConvInverter

PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # times the mean variance of an input
CLASS_GAIN = 4.0  # a class is as large an input as the brightness of a whole picture: its own mean is believed sooner


@torch.no_grad()
def start_linear(network: ConvInverter, sample: Tensor, y: Tensor, vector: Tensor) -> None:
    """Fill the linear maps of `network` in place from pairs; what its convolutions add begins at 0.

    `sample` (N, 3, S, S), class weights `y` (N, 1000), `vector` (N, length).
    """
    layout = F.adaptive_avg_pool2d(sample.float() * 2 - 1, LAYOUT).flatten(1)
    x = torch.cat((layout, CLASS_GAIN * network.class_weights(y)), 1).double().cpu()  # (N, 768 + classes)
    target = vector.double().cpu()
    learnt = torch.arange(len(x)) % 4 != 3
    errors = [
        float((x[~learnt] @ ridge(x[learnt], target[learnt], penalty) - target[~learnt]).square().mean())
        for penalty in PENALTIES
    ]
    found = ridge(x, target, PENALTIES[errors.index(min(errors))])
    network.layout.weight.copy_(found[: layout.shape[1]].t())
    network.typical.weight.copy_(CLASS_GAIN * found[layout.shape[1] :].t())
    network.last.weight.zero_()
    network.last.bias.zero_()


def ridge(x: Tensor, target: Tensor, penalty: float) -> Tensor:
    """The map (d, length) with the least |x map - target|^2 + N penalty v |map|^2, v the mean square of an input.

    Solved for a weight of each of the N pairs, of which there are fewer than inputs.
    """
    held = len(x) * penalty * x.square().mean() * torch.eye(len(x), dtype=x.dtype)
    return x.t() @ torch.linalg.solve(x @ x.t() + held, target)

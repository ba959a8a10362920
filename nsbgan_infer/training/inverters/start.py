"""Where an inverter begins and ends: at the best linear maps for the pairs at hand, one solution of equations.

Ridge regression of the vectors, less what the convolutions say, on the sample at 16 x 16 and the class. How much the
maps are held small is what does best on a quarter of the pairs that the other three have not seen.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.inverters.conv_inverter import LAYOUT, ConvInverter

PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0)  # times the mean variance of an input
CHUNK = 64
CLASS_GAIN = 4.0  # a class is as large an input as the brightness of a whole picture: its own mean is believed sooner


@torch.no_grad()
def start_linear(network: ConvInverter, sample: Tensor, y: Tensor, vector: Tensor) -> None:
    """`solve_linear`, what the convolutions add beginning at 0."""
    if network.config.hidden:
        network.last.weight.zero_()
        network.last.bias.zero_()
    solve_linear(network, sample, y, vector)


@torch.no_grad()
def solve_linear(network: ConvInverter, sample: Tensor, y: Tensor, vector: Tensor) -> None:
    """Fill the linear maps of `network` in place from pairs, for what its convolutions leave.

    `sample` (N, 3, S, S), class weights `y` (N, 1000), `vector` (N, length).
    """
    network.layout.weight.zero_()
    network.typical.weight.zero_()
    said = [network(s.float(), w) for s, w in zip(sample.split(CHUNK), y.split(CHUNK), strict=True)]  # type: ignore[no-untyped-call]
    layout = F.adaptive_avg_pool2d(sample.float() * 2 - 1, LAYOUT).flatten(1)
    x = torch.cat((layout, CLASS_GAIN * network.class_weights(y)), 1).double().cpu()  # (N, 768 + classes)
    target = (vector - torch.cat(said)).double().cpu()
    learnt = torch.arange(len(x)) % 4 != 3
    errors = [
        float((x[~learnt] @ ridge(x[learnt], target[learnt], penalty) - target[~learnt]).square().mean())
        for penalty in PENALTIES
    ]
    found = ridge(x, target, PENALTIES[errors.index(min(errors))])
    network.layout.weight.copy_(found[: layout.shape[1]].t())
    network.typical.weight.copy_(CLASS_GAIN * found[layout.shape[1] :].t())


def ridge(x: Tensor, target: Tensor, penalty: float) -> Tensor:
    """The map (d, length) with the least |x map - target|^2 + N penalty v |map|^2, v the mean square of an input.

    Solved for a weight of each pair or of each input, whichever are fewer.
    """
    held = len(x) * penalty * x.square().mean() * torch.eye(min(x.shape), dtype=x.dtype)
    found: Tensor
    if len(x) < x.shape[1]:
        found = x.t() @ torch.linalg.solve(x @ x.t() + held, target)
    else:
        found = torch.linalg.solve(x.t() @ x + held, x.t() @ target)
    return found

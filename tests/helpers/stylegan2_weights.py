"""A tiny StyleGAN2 checkpoint in the layout that the common PyTorch ports share."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

WIDTHS, DIM, DEPTH = (6, 5, 4), 8, 3  # 16 x 16 pixels


def public_checkpoint(
    seed: int = 0, *, widths: tuple[int, ...] = WIDTHS, dim: int = DIM, depth: int = DEPTH
) -> dict[str, Tensor]:
    """A `g_ema` with random numbers everywhere, fixed noise maps and FIR buffers included."""
    g = torch.Generator("cpu").manual_seed(seed)

    def rand(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g)

    fir = torch.outer(torch.tensor([1.0, 3, 3, 1]), torch.tensor([1.0, 3, 3, 1])) / 16
    state = {"input.input": rand(1, widths[0], 4, 4)}
    for i in range(1, depth + 1):
        state |= {f"style.{i}.weight": rand(dim, dim) * 100, f"style.{i}.bias": rand(dim) * 10}

    def conv(name: str, inputs: int, outputs: int, size: int) -> None:
        state[f"{name}.conv.weight"] = rand(1, outputs, inputs, size, size)
        state[f"{name}.conv.modulation.weight"] = rand(inputs, dim)
        state[f"{name}.conv.modulation.bias"] = 1 + 0.3 * rand(inputs)

    def layer(name: str, inputs: int, outputs: int) -> None:
        conv(name, inputs, outputs, 3)
        state[f"{name}.noise.weight"] = rand(1)
        state[f"{name}.activate.bias"] = rand(outputs)

    layer("conv1", widths[0], widths[0])
    conv("to_rgb1", widths[0], 3, 1)
    state["to_rgb1.bias"] = rand(1, 3, 1, 1)
    state["noises.noise_0"] = rand(1, 1, 4, 4)
    for j, (below, width) in enumerate(pairwise(widths)):
        layer(f"convs.{2 * j}", below, width)
        layer(f"convs.{2 * j + 1}", width, width)
        conv(f"to_rgbs.{j}", width, 3, 1)
        state[f"to_rgbs.{j}.bias"] = rand(1, 3, 1, 1)
        state[f"convs.{2 * j}.conv.blur.kernel"] = fir.clone()
        state[f"to_rgbs.{j}.upsample.kernel"] = fir.clone()
        for i in (1, 2):
            state[f"noises.noise_{2 * j + i}"] = rand(1, 1, 8 << j, 8 << j)
    return state


AVERAGE = torch.linspace(-1, 1, DIM)

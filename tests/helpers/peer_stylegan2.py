"""StyleGAN2-ADA's generator with random weights, and its forward as its formulas stand; nothing of the package."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

TAPS = torch.tensor([1.0, 3.0, 3.0, 1.0])
FIR = torch.outer(TAPS, TAPS) / 64


def ada_state(
    widths: tuple[int, ...] = (6, 5, 4),
    *,
    z: int = 8,
    w: int = 8,
    between: int = 8,
    layers: int = 3,
    classes: int = 0,
    embed: int = 7,
    architecture: str = "skip",
    noise: bool = True,
) -> dict[str, Tensor]:
    """A state dict with random numbers everywhere."""
    random = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> Tensor:
        return torch.randn(shape, generator=random)

    state = {"mapping.w_avg": rand(w) * 0.1}
    if classes:
        state |= {"mapping.embed.weight": rand(embed, classes), "mapping.embed.bias": rand(embed)}
    sizes = [z + (embed if classes else 0), *[between] * (layers - 1), w]
    for i in range(layers):
        state[f"mapping.fc{i}.weight"] = rand(sizes[i + 1], sizes[i]) * 100
        state[f"mapping.fc{i}.bias"] = rand(sizes[i + 1]) * 10

    def conv(name: str, inputs: int, outputs: int, side: int, *, rgb: bool = False) -> None:
        state[f"{name}.weight"] = rand(outputs, inputs, 1, 1) if rgb else rand(outputs, inputs, 3, 3)
        state.update({f"{name}.bias": rand(outputs), f"{name}.affine.weight": rand(inputs, w)})
        state[f"{name}.affine.bias"] = 1 + 0.3 * rand(inputs)
        if not rgb:
            state[f"{name}.resample_filter"] = FIR.clone()
            state[f"{name}.noise_strength"] = rand()
            if noise:
                state[f"{name}.noise_const"] = rand(side, side)

    for s, width in enumerate(widths):
        block, side = f"synthesis.b{4 << s}", 4 << s
        state[f"{block}.resample_filter"] = FIR.clone()
        if s == 0:
            state[f"{block}.const"] = rand(width, 4, 4)
        else:
            conv(f"{block}.conv0", widths[s - 1], width, side)
            if architecture == "resnet":
                state[f"{block}.skip.weight"] = rand(width, widths[s - 1], 1, 1)
                state[f"{block}.skip.resample_filter"] = FIR.clone()
        conv(f"{block}.conv1", width, width, side)
        if architecture == "skip" or s == len(widths) - 1:
            conv(f"{block}.torgb", width, 3, side, rgb=True)
    return state


class Literal:
    """One image in float64, with the fixed noise maps; `clamp` as its layers have it."""

    def __init__(self, state: dict[str, Tensor], clamp: float | None = None) -> None:
        self.p, self.clamp = {k: v.double() for k, v in state.items()}, clamp
        self.sides = sorted(int(k.split(".")[1][1:]) for k in state if k.endswith("conv1.weight"))
        self.residual = any(".skip." in k for k in state)

    def picture(self, z: Tensor, c: Tensor | None, psi: float) -> Tensor:
        """z (z_dim,) and one-hot classes (classes,) -> (3, R, R), nominally -1..1."""
        w = self.p["mapping.w_avg"] + psi * (self.mapping(z.double(), c) - self.p["mapping.w_avg"])
        x, image = self.p["synthesis.b4.const"][None], None
        for side in self.sides:
            block, below = f"synthesis.b{side}", x
            gain = math.sqrt(0.5) if self.residual and side > 4 else 1.0
            if side > 4:
                x = self.layer(f"{block}.conv0", x, w, 1.0, up=True)
            x = self.layer(f"{block}.conv1", x, w, gain, up=False)
            if side > 4 and self.residual:
                weight = self.p[f"{block}.skip.weight"]
                y = F.conv2d(enlarge(below), weight / math.sqrt(weight.shape[1])) * gain
                x = x + self.cut(y, gain)
            image = None if image is None else enlarge(image)
            if f"{block}.torgb.weight" in self.p:
                weight = self.p[f"{block}.torgb.weight"]
                style = self.style(f"{block}.torgb", w) / math.sqrt(weight.shape[1])
                rgb = F.conv2d(x, weight * style[None, :, None, None]) + self.p[f"{block}.torgb.bias"][:, None, None]
                image = self.cut(rgb, 1.0) if image is None else image + self.cut(rgb, 1.0)
        assert image is not None
        return image[0]

    def mapping(self, z: Tensor, c: Tensor | None) -> Tensor:
        x = unit(z)
        if c is not None:
            weight = self.p["mapping.embed.weight"]
            e = weight @ c.double() / math.sqrt(weight.shape[1]) + self.p["mapping.embed.bias"]
            x = torch.cat([x, unit(e)])
        i = 0
        while f"mapping.fc{i}.weight" in self.p:
            weight = self.p[f"mapping.fc{i}.weight"]
            x = act(weight @ x * 0.01 / math.sqrt(weight.shape[1]) + 0.01 * self.p[f"mapping.fc{i}.bias"])
            i += 1
        return x

    def layer(self, name: str, x: Tensor, w: Tensor, gain: float, *, up: bool) -> Tensor:
        weight = self.p[f"{name}.weight"] * self.style(name, w)[None, :, None, None]
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:
            x = F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
            x = fir(F.pad(x, (1, 1, 1, 1)))
        else:
            x = F.conv2d(x, weight, padding=1)
        if f"{name}.noise_const" in self.p:
            x = x + self.p[f"{name}.noise_const"] * self.p[f"{name}.noise_strength"]
        x = act(x + self.p[f"{name}.bias"][:, None, None]) * gain
        return self.cut(x, gain)

    def style(self, name: str, w: Tensor) -> Tensor:
        weight = self.p[f"{name}.affine.weight"]
        return weight @ w / math.sqrt(weight.shape[1]) + self.p[f"{name}.affine.bias"]

    def cut(self, x: Tensor, gain: float) -> Tensor:
        return x if self.clamp is None else x.clamp(-self.clamp * gain, self.clamp * gain)


def unit(x: Tensor) -> Tensor:
    return x / (x.square().mean() + 1e-8).sqrt()


def act(x: Tensor) -> Tensor:
    return F.leaky_relu(x, 0.2) * math.sqrt(2)


def fir(x: Tensor) -> Tensor:
    return F.conv2d(x, (4 * FIR).double().expand(x.shape[1], 1, 4, 4), groups=x.shape[1])


def enlarge(x: Tensor) -> Tensor:
    wide = x.new_zeros(*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3])
    wide[:, :, ::2, ::2] = x
    return fir(F.pad(wide, (2, 1, 2, 1)))

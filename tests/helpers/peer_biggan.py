"""Generators of BigGAN-PyTorch and StudioGAN with random weights, and their unfolded forward, written from facts.

The forward is the slow, literal one: spectral norm by its definition, enlargement before the convolutions, norms one
by one. Nothing is shared with the package.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

TABLES = {  # multiples of the base width, in -> out, by program and side
    ("ajbrock", 32): ((4, 4, 4), (4, 4, 4)),
    ("ajbrock", 64): ((16, 16, 8, 4), (16, 8, 4, 2)),
    ("ajbrock", 128): ((16, 16, 8, 4, 2), (16, 8, 4, 2, 1)),
    ("ajbrock", 256): ((16, 16, 8, 8, 4, 2), (16, 8, 8, 4, 2, 1)),
    ("ajbrock", 512): ((16, 16, 8, 8, 4, 2, 1), (16, 8, 8, 4, 2, 1, 1)),
    ("studiogan", 32): ((4, 4, 4), (4, 4, 4)),
    ("studiogan", 64): ((16, 8, 4, 2), (8, 4, 2, 1)),
    ("studiogan", 128): ((16, 16, 8, 4, 2), (16, 8, 4, 2, 1)),
    ("studiogan", 256): ((16, 16, 8, 8, 4, 2), (16, 8, 8, 4, 2, 1)),
}


@dataclass
class Peer:
    """One generator: how it was configured, its state dict, and its forward."""

    program: str = "ajbrock"  # or studiogan
    side: int = 64
    deep: bool = False
    mixed: bool = False  # StudioGAN's newer BigGAN-deep
    base: int = 4
    chunk: int = 3  # of z: a part, or with `deep` the whole
    class_dim: int = 8
    classes: int = 7
    attention: tuple[int, ...] = (32,)  # sides
    depth: int = 2
    hier: bool = True
    shared: bool = True
    spectral: bool = True
    statistics: str = "stored"  # or bn.running (cross-replica), bn.stored (its own norm)
    counter: float = 0.0
    converted: bool = False  # from TF Hub: no sv0, eps 1e-4
    seed: int = 0
    state: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.random = torch.Generator().manual_seed(self.seed)
        ins, outs = TABLES[self.program, self.side]
        self.blocks: list[tuple[str, int, int, bool]] = []  # name, in, out, doubles
        self.after: dict[str, str] = {}  # block -> the attention after it
        number = 0
        for stage, (i, o) in enumerate(zip(ins, outs, strict=True)):
            depth = self.depth if self.deep else 1
            for d in range(depth):
                c_in, c_out = i * self.base, (i if self.deep and d == 0 and depth > 1 else o) * self.base
                name = f"blocks.{number}.0"
                self.blocks.append((name, c_in, c_out, d == depth - 1))
                number += 1
            if 8 << stage in self.attention:
                ajbrock = self.program == "ajbrock"
                self.after[name] = f"blocks.{number - 1}.1" if ajbrock else f"blocks.{number}.0"
                number += not ajbrock
        self.slots = len(self.blocks) + 1
        self.z_dim = self.chunk if self.deep or not self.hier else self.chunk * self.slots
        if not self.state:
            self._fill()

    @property
    def eps(self) -> float:
        return 1e-4 if self.converted or self.program == "studiogan" else 1e-5

    def rand(self, *shape: int, scale: float = 1.0) -> Tensor:
        return torch.randn(shape, generator=self.random) * scale

    def _sn(self, name: str, *shape: int, bias: bool) -> None:
        weight, rows = self.rand(*shape, scale=0.3), shape[0]
        u = F.normalize(self.rand(rows), dim=0)
        for _ in range(3):  # as training leaves it: near the first singular vector, not at it
            v = F.normalize(u @ weight.flatten(1), dim=0)
            u = F.normalize(weight.flatten(1) @ v, dim=0)
        if not self.spectral:
            self.state[f"{name}.weight"] = weight / weight.flatten(1).norm()
        elif self.program == "ajbrock":
            self.state |= {f"{name}.weight": weight, f"{name}.u0": 0.9 * u[None]}
            if not self.converted:
                self.state[f"{name}.sv0"] = self.rand(1).abs() + 0.5
        else:
            self.state |= {f"{name}.weight_orig": weight, f"{name}.weight_u": u * 0.9, f"{name}.weight_v": v * 0.95}
        if bias:
            self.state[f"{name}.bias"] = self.rand(rows, scale=0.1)

    def _norm(self, name: str, width: int, cond: int) -> None:
        kind = self.statistics if self.program == "ajbrock" else "bn.running"
        factor = self.counter or 1.0
        self.state[f"{name}.{kind}_mean"] = self.rand(width, scale=0.2) * factor
        self.state[f"{name}.{kind}_var"] = (self.rand(width).square() + 0.2) * factor
        if kind == "bn.stored":
            self.state[f"{name}.bn.accumulation_counter"] = torch.tensor(self.counter)
        elif kind == "bn.running":
            self.state[f"{name}.bn.num_batches_tracked"] = torch.tensor(3)
        for part in ("gain", "bias"):
            if self.shared:
                self._sn(f"{name}.{part}", width, cond, bias=False)
            else:
                self.state[f"{name}.{part}.weight"] = self.rand(self.classes, width, scale=0.2)

    def _fill(self) -> None:
        aj = self.program == "ajbrock"
        cond = (self.class_dim if self.shared else 0) + (self.chunk if self.deep or self.hier else 0)
        first = self.blocks[0][1]
        if self.shared:
            self.state["shared.weight"] = self.rand(self.classes, self.class_dim)
        self._sn("linear" if aj else "linear0", first * 16, cond if self.deep else self.chunk, bias=True)
        conv = "conv" if aj else "conv2d"
        for name, c_in, c_out, _ in self.blocks:
            mid = c_in // 4
            shapes = [(c_out, c_in, 3, 3), (c_out, c_out, 3, 3)]
            if self.deep:
                shapes = [(mid, c_in, 1, 1), (mid, mid, 3, 3), (mid, mid, 3, 3), (c_out, mid, 1, 1)]
            for i, shape in enumerate(shapes):
                self._norm(f"{name}.bn{i + 1}", shape[1], cond)
                self._sn(f"{name}.{conv}{i + 1}", *shape, bias=True)
            if not self.deep or self.mixed:
                self._sn(f"{name}.{'conv_sc' if aj else 'conv2d0'}", c_out, c_in, 1, 1, bias=True)
            if entry := self.after.get(name):
                names = ("theta", "phi", "g", "o") if aj else [f"conv1x1_{p}" for p in ("theta", "phi", "g", "attn")]
                sizes = ((c_out // 8, c_out), (c_out // 8, c_out), (c_out // 2, c_out), (c_out, c_out // 2))
                for part, size in zip(names, sizes, strict=True):
                    self._sn(f"{entry}.{part}", *size, 1, 1, bias=False)
                self.state[f"{entry}.{'gamma' if aj else 'sigma'}"] = self.rand(*(() if aj else (1,))) + 1
        last = self.blocks[-1][2]
        if aj:
            kind = self.statistics
            self.state |= {"output_layer.0.gain": self.rand(last), "output_layer.0.bias": self.rand(last)}
            self.state |= {f"output_layer.0.{kind}_mean": self.rand(last) * (self.counter or 1)}
            self.state |= {f"output_layer.0.{kind}_var": (self.rand(last).square() + 0.2) * (self.counter or 1)}
            if kind == "bn.stored":
                self.state["output_layer.0.bn.accumulation_counter"] = torch.tensor(self.counter)
            self._sn("output_layer.2", 3, last, 3, 3, bias=True)
        else:
            self.state |= {"bn4.weight": self.rand(last), "bn4.bias": self.rand(last)}
            self.state |= {"bn4.running_mean": self.rand(last), "bn4.running_var": self.rand(last).square() + 0.2}
            self.state["bn4.num_batches_tracked"] = torch.tensor(3)
            self._sn("conv2d5", 3, last, 3, 3, bias=True)

    # the forward

    def weight(self, name: str) -> Tensor:
        s = self.state
        if f"{name}.weight_orig" in s:
            w = s[f"{name}.weight_orig"]
            return w / (s[f"{name}.weight_u"] @ (w.flatten(1) @ s[f"{name}.weight_v"]))
        w = s[f"{name}.weight"]
        if f"{name}.u0" not in s:
            return w
        matrix = w.flatten(1)
        v = F.normalize(s[f"{name}.u0"] @ matrix, eps=1e-6)
        u = F.normalize(v @ matrix.T, eps=1e-6)
        return w / (v @ matrix.T @ u.T).squeeze()

    def conv(self, name: str, x: Tensor) -> Tensor:
        w = self.weight(name)
        return F.conv2d(x, w, self.state.get(f"{name}.bias"), padding=w.shape[-1] // 2)

    def norm(self, name: str, x: Tensor, c: Tensor) -> Tensor:
        kind = self.statistics if self.program == "ajbrock" else "bn.running"
        mean, var = self.state[f"{name}.{kind}_mean"], self.state[f"{name}.{kind}_var"]
        if self.counter:
            mean, var = mean / self.counter, var / self.counter
        x = F.batch_norm(x, mean, var, eps=self.eps)
        gain, bias = (
            c @ self.weight(f"{name}.{p}").T if self.shared else c @ self.state[f"{name}.{p}.weight"]
            for p in ("gain", "bias")
        )
        return x * (1 + gain)[..., None, None] + bias[..., None, None]

    def attend(self, entry: str, x: Tensor) -> Tensor:
        aj = self.program == "ajbrock"
        names = ("theta", "phi", "g", "o") if aj else [f"conv1x1_{p}" for p in ("theta", "phi", "g", "attn")]
        theta, phi, g = (self.conv(f"{entry}.{n}", x) for n in names[:3])
        phi, g = F.max_pool2d(phi, 2).flatten(2), F.max_pool2d(g, 2).flatten(2)
        beta = torch.softmax(theta.flatten(2).transpose(1, 2) @ phi, -1)
        mixed = (g @ beta.transpose(1, 2)).view(len(x), -1, *x.shape[2:])
        return x + self.state[f"{entry}.{'gamma' if aj else 'sigma'}"] * self.conv(f"{entry}.{names[3]}", mixed)

    def __call__(self, z: Tensor, y: Tensor) -> Tensor:
        """z and one-hot classes -> pictures in -1..1."""
        aj = self.program == "ajbrock"
        c = y @ self.state["shared.weight"] if self.shared else y
        if self.deep:
            first = torch.cat([c, z], 1)
            conditions = [first] * len(self.blocks)
        elif self.hier:
            first, *rest = z.chunk(self.slots, 1)
            conditions = [torch.cat([c, part], 1) for part in rest]
        else:
            first, conditions = z, [c] * len(self.blocks)
        linear, conv = ("linear", "conv") if aj else ("linear0", "conv2d")
        x = F.linear(first, self.weight(linear), self.state[f"{linear}.bias"]).view(len(z), -1, 4, 4)
        for (name, _, c_out, doubles), condition in zip(self.blocks, conditions, strict=True):
            h, skip = x, x
            for i in range(4 if self.deep else 2):
                h = F.relu(self.norm(f"{name}.bn{i + 1}", h, condition))
                if doubles and i == (1 if self.deep else 0):
                    h, skip = F.interpolate(h, scale_factor=2), F.interpolate(skip, scale_factor=2)
                h = self.conv(f"{name}.{conv}{i + 1}", h)
            mixes = not self.deep or self.mixed
            x = h + (self.conv(f"{name}.{'conv_sc' if aj else 'conv2d0'}", skip) if mixes else skip[:, :c_out])
            if entry := self.after.get(name):
                x = self.attend(entry, x)
        n, kind = ("output_layer.0", self.statistics) if aj else ("bn4", "running")
        mean, var = (self.state[f"{n}.{kind}_{p}"] / (self.counter or 1) for p in ("mean", "var"))
        gain = self.state[f"{n}.{'gain' if aj else 'weight'}"]
        x = F.batch_norm(x, mean, var, gain, self.state[f"{n}.bias"], eps=1e-5 if aj else 1e-4)
        return torch.tanh(self.conv("output_layer.2" if aj else "conv2d5", F.relu(x)))

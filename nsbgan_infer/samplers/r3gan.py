"""Step 2, R3GAN: z (B, z_dim), y (B, 1000)  ->  sample (B, 3, R, R), a small picture or, trained here, also a low band,
nominally [0, 1], unclamped.

The generator of Huang et al. 2024 (arXiv:2501.05441): a learned 4 x 4 basis weighted by the latent, then stages of
residual blocks (1 x 1, grouped 3 x 3, 1 x 1) without any normalisation, each twice the side of the one before.
`from_peer_state` reads the state dict of its own program. Enlargement by the filter [1, 3, 3, 1] with a border of
zeros is what bilinear interpolation of a picture with a rim of zeros gives, which is faster.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.classes import NUM_CLASSES
from nsbgan_infer.encoders.base import Basis
from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.latents import Latents
from nsbgan_infer.samplers.base import SamplerInfo, graph_of
from nsbgan_infer.samplers.span import gain
from nsbgan_infer.storage.architectures import Component, Graph, architecture
from nsbgan_infer.storage.components import check_tensors, empty_weights
from nsbgan_infer.storage.layouts import Layout, offer

SLOPE = 0.2  # of the leaky ReLU, whose gain is 1
LARGEST = 8192


@dataclass(frozen=True)
class R3GANConfig:
    """What one such generator is; the defaults are those of the published ImageNet weights at 64 x 64.

    Raises ValueError for values that do not fit together.
    """

    widths: tuple[int, ...] = (1536,) * 5
    """Channels of each stage; the first is 4 x 4, each other one twice the side of the one before."""
    hidden: tuple[int, ...] = (3072,) * 5
    """Channels inside each stage's blocks."""
    groups: tuple[int, ...] = (96,) * 5
    """Groups of each stage's 3 x 3 convolutions."""
    depths: tuple[int, ...] = (2,) * 5
    """Blocks of each stage."""
    z_dim: int = 64
    class_dim: int = 64
    """Length of the class embedding, which is appended to z."""
    num_classes: int = 1000
    """0: the generator draws without classes."""
    name: str = "r3gan"
    truncation: float = 1.0
    licence: str = "unknown"
    classes: tuple[int, ...] = ()
    """The ImageNet ids of the columns of the class embedding, where they are not simply the first `num_classes`."""
    basis: Basis = "pixel"
    levels: int = 0
    """Of the low bands that it draws."""
    shift: float = 0.0
    """With `scale`: see `samplers.span`."""
    scale: float = 1.0
    makes: str = ""
    """The reduction that a sample is. Default: that of an ordinary picture, or of the wavelet basis."""

    def __post_init__(self) -> None:
        lists = (self.widths, self.hidden, self.groups, self.depths)
        if not 1 <= len(self.widths) <= 10 or any(len(numbers) != len(self.widths) for numbers in lists):
            raise ValueError("widths, hidden, groups and depths hold a number for each of 1 to 10 stages")
        if not all(1 <= n <= LARGEST for numbers in lists[:3] for n in numbers):
            raise ValueError(f"widths, hidden and groups are 1 to {LARGEST}")
        if not all(0 <= n <= 64 for n in self.depths) or any(
            h % g for h, g in zip(self.hidden, self.groups, strict=True)
        ):
            raise ValueError("depths are 0 to 64 and hidden is a multiple of groups")
        if not 1 <= self.z_dim <= LARGEST or not 0 <= self.class_dim <= LARGEST:
            raise ValueError("z_dim or class_dim is out of range")
        if not 0 <= self.num_classes <= NUM_CLASSES or bool(self.class_dim) != bool(self.num_classes):
            raise ValueError(f"num_classes is 0 to {NUM_CLASSES}, and goes with class_dim")
        if not 0 < self.truncation <= 1:
            raise ValueError("truncation is above 0 and up to 1")
        if self.classes and (
            len(self.classes) != self.num_classes or not all(0 <= c < NUM_CLASSES for c in self.classes)
        ):
            raise ValueError("classes are num_classes ImageNet ids")
        if self.basis not in get_args(Basis) or self.levels < 0 or self.scale <= 0:
            raise ValueError("basis is pixel or wavelet, levels at least 0, scale above 0")

    @property
    def columns(self) -> tuple[int, ...]:
        """The class of each column of the embedding."""
        return self.classes or tuple(range(self.num_classes))

    @property
    def resolution(self) -> int:
        """The side of a sample."""
        return 4 << (len(self.widths) - 1)


@architecture
class R3GAN(Component):
    """The generator: see the module's docstring. fp32 or bf16, on any device."""

    kind = "sampler"
    arch = "r3gan"
    Config = R3GANConfig
    tiny = R3GANConfig((4,) * 5, (8,) * 5, (2,) * 5, (1,) * 5, z_dim=4, class_dim=4)
    sentence = "R3GAN: residual blocks of grouped convolutions without any normalisation."
    published: ClassVar[dict[str, R3GANConfig]] = {"r3gan-64": R3GANConfig(name="r3gan-64")}
    config: R3GANConfig

    def __init__(self, config: R3GANConfig) -> None:
        super().__init__(config)
        c = config
        if c.num_classes:
            self.embedding = nn.Linear(c.num_classes, c.class_dim, bias=False)
        self.basis = nn.Parameter(torch.empty(c.widths[0], 4, 4).normal_())
        self.mix = nn.Linear(c.z_dim + c.class_dim, c.widths[0], bias=False)
        before = (None, *c.widths[:-1])
        self.stages = nn.ModuleList(
            Stage(*sizes) for sizes in zip(before, c.widths, c.hidden, c.groups, c.depths, strict=True)
        )
        self.to_rgb = nn.Conv2d(c.widths[-1], 3, 1, bias=False)

    @property
    def info(self) -> SamplerInfo:
        """z is plain N(0, 1); its program knows no truncation, here it is the deviation of z."""
        c = self.config
        return SamplerInfo(
            name=c.name,
            basis=c.basis,
            resolution=c.resolution,
            z_dim=c.z_dim,
            classes=c.columns or None,
            truncation_mode="std",
            truncation=c.truncation,
            licence=c.licence,
            makes=c.makes,
            labels="imagenet" if c.classes or c.num_classes == NUM_CLASSES else "numbers",
        )

    def forward(self, latents: Latents) -> Tensor:
        """Latents of batch B -> (B, 3, R, R), RGB, nominally [0, 1], unclamped."""
        return self.forward_tensors(*self.graph_inputs(latents).values())

    def graph(self) -> Graph:
        """See `graph_of`."""
        return graph_of(self, "z", *(("y",) if self.config.num_classes else ()))

    def graph_inputs(self, latents: Latents) -> dict[str, Tensor]:
        """The tensors that `forward_tensors` takes, by name: z (B, z_dim) and, with classes, y (B, num_classes)."""
        like = self.basis
        tensors = {"z": latents.z.to(like.device, like.dtype)}
        if self.config.num_classes:
            tensors["y"] = latents.y[:, list(self.config.columns)].to(like.device, like.dtype)
        return tensors

    def forward_tensors(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """z and weights over the own classes -> (B, 3, R, R)."""
        c = self.config
        out: Tensor = self.draw(z, y) * (c.scale / 2 / gain(c)) + (c.scale / 2 - c.shift) / gain(c)
        return out

    def draw(self, z: Tensor, y: Tensor | None) -> Tensor:
        """The same in the network's own range, nominally [-1, 1]."""
        condition = z if y is None else torch.cat([z, self.embedding(y)], 1)
        x = self.basis * self.mix(condition)[:, :, None, None]  # (B, C, 4, 4)
        for stage in self.stages:
            x = stage(x)
        out: Tensor = self.to_rgb(x)
        return out


class Stage(nn.Module):
    """(B, before, h, w) -> (B, width, 2h, 2w): mixed where the width changes, enlarged, then blocks.

    The first stage (`before` None) has only blocks.
    """

    def __init__(self, before: int | None, width: int, hidden: int, groups: int, depth: int) -> None:
        super().__init__()
        self.enlarges = before is not None
        self.mix = nn.Conv2d(before, width, 1, bias=False) if before not in (None, width) else None
        self.blocks = nn.ModuleList(Block(width, hidden, groups) for _ in range(depth))

    def forward(self, x: Tensor) -> Tensor:
        if self.mix is not None:
            x = self.mix(x)
        if self.enlarges:
            x = enlarge(x)
        for block in self.blocks:
            x = block(x)
        return x


class Block(nn.Module):
    """x + 1 x 1 (act (grouped 3 x 3 (act (1 x 1 (x))))); (B, C, h, w) kept."""

    def __init__(self, width: int, hidden: int, groups: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(width, hidden, 1)
        self.conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=groups)
        self.narrow = nn.Conv2d(hidden, width, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = F.leaky_relu(self.conv(F.leaky_relu(self.widen(x), SLOPE)), SLOPE)
        return torch.add(x, self.narrow(h))


def enlarge(x: Tensor) -> Tensor:
    """(B, C, h, w) -> (B, C, 2h, 2w): zeros in between, the filter [1, 3, 3, 1] of gain 4, zeros beyond the border."""
    rimmed = F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=2.0, mode="bilinear", align_corners=False)
    return rimmed[..., 2:-2, 2:-2]


def is_r3gan(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of R3GAN's generator."""
    plain = {k.removeprefix("Model.") for k in tensors}
    return {"MainLayers.0.Layers.0.Basis", "AggregationLayer.Layer.weight"} <= plain


def from_peer_state(tensors: Mapping[str, Tensor], *, name: str = "r3gan", licence: str = "unknown") -> R3GAN:
    """The sampler of the state dict of R3GAN's own program; sizes are read from shapes. Raises CheckpointError."""
    plain = {k.removeprefix("Model."): v for k, v in tensors.items()}
    for key in [k for k in plain if k.endswith(".Resampler.Kernel")]:
        _check_filter(key, plain.pop(key))
    try:
        config = _told_by(plain, name, licence)
    except (KeyError, IndexError, ValueError, ArithmeticError) as error:
        raise CheckpointError(f"{name} does not describe an R3GAN that can be built: {error}.") from error
    names = _names(config)
    with empty_weights():
        model = R3GAN(config)
    wanted = model.state_dict()
    theirs = {their: wanted[ours] for ours, their in names.items()}
    check_tensors({k: {"shape": list(v.shape)} for k, v in plain.items()}, theirs, label=name)
    state = {ours: plain[their].float().contiguous() for ours, their in names.items()}
    model.load_state_dict(state, strict=True, assign=True)
    return model.eval().requires_grad_(False)


def _told_by(plain: Mapping[str, Tensor], name: str, licence: str) -> R3GANConfig:
    stages: dict[int, set[int]] = {}
    for key in plain:
        if found := re.match(r"MainLayers\.(\d{1,2})\.Layers\.(\d{1,2})\.", key):
            stages.setdefault(int(found[1]), set()).add(int(found[2]))
    blocks = {s: f"MainLayers.{s}.Layers.1" for s in range(len(stages))}
    widen, conv = ([plain[f"{blocks[s]}.LinearLayer{n}.Layer.weight"].shape for s in blocks] for n in (1, 2))
    embedding = plain.get("EmbeddingLayer.weight")
    class_dim, classes = (0, 0) if embedding is None else embedding.shape
    if classes > NUM_CLASSES:
        raise ValueError(f"it draws {classes} classes, but up to {NUM_CLASSES} can be asked for")
    return R3GANConfig(
        widths=tuple(shape[1] for shape in widen),
        hidden=tuple(shape[0] for shape in widen),
        groups=tuple(shape[0] // shape[1] for shape in conv),
        depths=tuple(len(stages[s] - {0}) for s in blocks),
        z_dim=plain["MainLayers.0.Layers.0.LinearLayer.weight"].shape[1] - class_dim,
        class_dim=class_dim,
        num_classes=classes,
        name=name,
        licence=licence,
    )


def _names(config: R3GANConfig) -> dict[str, str]:
    """Our name -> theirs, of every tensor."""
    start = "MainLayers.0.Layers.0"
    names = {"basis": f"{start}.Basis", "mix.weight": f"{start}.LinearLayer.weight"}
    names["to_rgb.weight"] = "AggregationLayer.Layer.weight"
    if config.num_classes:
        names["embedding.weight"] = "EmbeddingLayer.weight"
    for s, depth in enumerate(config.depths):
        if s and config.widths[s - 1] != config.widths[s]:
            names[f"stages.{s}.mix.weight"] = f"MainLayers.{s}.Layers.0.LinearLayer.Layer.weight"
        for b in range(depth):
            ours, theirs = f"stages.{s}.blocks.{b}", f"MainLayers.{s}.Layers.{b + 1}"
            for n, layer in enumerate(("widen", "conv", "narrow"), 1):
                names[f"{ours}.{layer}.weight"] = f"{theirs}.LinearLayer{n}.Layer.weight"
            names[f"{ours}.widen.bias"] = f"{theirs}.NonLinearity1.Bias"
            names[f"{ours}.conv.bias"] = f"{theirs}.NonLinearity2.Bias"
    return names


def _check_filter(name: str, kernel: Tensor) -> None:
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
    if kernel.shape != (4, 4) or not torch.allclose(kernel.float(), torch.outer(taps, taps), atol=1e-5):
        raise CheckpointError(f"{name} is not the filter [1, 3, 3, 1]: this variant of R3GAN is not supported.")


offer(
    Layout(
        "r3gan",
        "R3GAN's network-snapshot-*.pkl",
        lambda checkpoint: is_r3gan(checkpoint.tensors),
        lambda checkpoint, name, licence: from_peer_state(checkpoint.tensors, name=name, licence=licence),
    )
)

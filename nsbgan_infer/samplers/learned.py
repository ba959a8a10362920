"""Step 2, learned samplers: latents -> (B, 3, 64, 64), a low band or a small picture (paper 3.1.3, C.1; spec 5.1).

One component for three forms of generator: `biggan` and `biggan-deep` (the paper's), and `lean`, which the embedded
samplers use. A lean sampler stores codes of training pictures, a few dozen a class: part of z blends some of them, the
rest moves away from the blend, and the generator draws the result (after IC-GAN, Casanova et al. 2021,
arXiv:2109.05070, which conditions on stored instances too).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.classes import NUM_CLASSES
from nsbgan_infer.encoders.base import Basis
from nsbgan_infer.errors import UsageError
from nsbgan_infer.latents import Latents
from nsbgan_infer.reductions import OF_BASIS
from nsbgan_infer.samplers.base import SamplerInfo, graph_of
from nsbgan_infer.samplers.lean import LeanGenerator
from nsbgan_infer.samplers.resnets import OUTPUTS, ResNetGenerator
from nsbgan_infer.samplers.span import denormalised
from nsbgan_infer.storage.architectures import Component, Graph, architecture

Form = Literal["lean", "biggan", "biggan-deep"]
SHARPNESS = 24.0  # two to four stored codes share most of the weight


@dataclass(frozen=True)
class LearnedConfig:
    """What a learned sampler is. Raises ValueError for values that do not fit together.

    `classes` are the ImageNet ids of the columns of the class embedding. A raw low band, 2^levels times the gain-free
    one, is normalised to (low + shift) / scale in [0, 1] (spec 1.7); the pixel basis uses shift 0 and scale 1.
    `channels` and `depth` belong to the two BigGANs, `widths`, `code_dim`, `choice_dim`, `centres` and `sharpness` to
    `lean`, whose z_dim is code_dim + choice_dim. The sharper the choice among its stored codes, the less a picture
    blends several of them.
    """

    classes: tuple[int, ...]
    form: Form = "biggan-deep"
    basis: Basis = "wavelet"
    resolution: int = 64
    levels: int = 2
    z_dim: int = 128
    class_dim: int = 128
    channels: int = 128
    depth: int = 2
    widths: tuple[int, ...] = ()
    code_dim: int = 0
    choice_dim: int = 0
    centres: int = 0
    sharpness: float = SHARPNESS
    shift: float = 3.0
    scale: float = 10.0
    truncation: float = 1.0
    name: str = "learned"
    licence: str = "unknown"

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            raise ValueError(f"form {self.form!r} is none of {', '.join(get_args(Form))}")
        if not self.classes or any(not 0 <= c < NUM_CLASSES for c in self.classes):
            raise ValueError("classes must be ImageNet ids, at least one")
        if self.form == "lean":
            if self.z_dim != self.code_dim + self.choice_dim or min(self.code_dim, self.choice_dim, self.centres) < 1:
                raise ValueError("a lean sampler needs centres and z_dim = code_dim + choice_dim")
            if not self.widths or self.resolution != 4 * 2 ** (len(self.widths) - 1):
                raise ValueError(f"{len(self.widths)} widths do not lead from 4 to {self.resolution} pixels")
        elif self.resolution not in OUTPUTS or self.channels % 4 or self.depth < 1:
            raise ValueError(f"BigGANs draw {', '.join(map(str, OUTPUTS))} pixels, with channels a multiple of 4")
        elif self.form == "biggan" and self.z_dim % (len(OUTPUTS[self.resolution]) + 1):
            raise ValueError(
                f"z_dim must be a multiple of {len(OUTPUTS[self.resolution]) + 1} for a biggan of this size"
            )
        if self.scale <= 0 or self.sharpness <= 0:
            raise ValueError("scale and sharpness must be above 0")


PAPER_W = LearnedConfig(tuple(range(NUM_CLASSES)), name="learned-w-64")
PAPER_P = replace(
    PAPER_W, form="biggan", basis="pixel", z_dim=120, channels=64, shift=0.0, scale=1.0, name="learned-p-64"
)


@architecture
class LearnedSampler(Component):
    """A generator with its normalisation undone: what leaves is gain-free, nominally [0, 1], unclamped."""

    kind: ClassVar[str] = "sampler"
    arch: ClassVar[str] = "learned"
    Config = LearnedConfig
    tiny = LearnedConfig(
        (1, 207), "lean", resolution=16, z_dim=8, code_dim=4, choice_dim=4, centres=3, class_dim=4, widths=(8,) * 3
    )
    sentence = "A generator that was trained at this small size, so that training and sampling are cheap."
    published: ClassVar[dict[str, LearnedConfig]] = {"learned-w-64": PAPER_W, "learned-p-64": PAPER_P}  # table 1

    def __init__(self, config: LearnedConfig) -> None:
        super().__init__(config)
        c = config
        self.embed = nn.Linear(len(c.classes), c.class_dim, bias=False)
        self.generator: LeanGenerator | ResNetGenerator
        if c.form == "lean":
            self.prior = CodePrior(len(c.classes), c.centres, c.code_dim, c.choice_dim, c.sharpness)
            self.generator = LeanGenerator(c.code_dim, c.class_dim, c.widths)
        else:
            deep = c.form == "biggan-deep"
            self.generator = ResNetGenerator(
                c.z_dim, c.class_dim, c.channels, deep=deep, depth=c.depth, resolution=c.resolution
            )

    @property
    def info(self) -> SamplerInfo:
        """Truncation is the standard deviation of z: what the authors did for their learned samplers (spec 5.4)."""
        c: LearnedConfig = self.config
        makes = OF_BASIS[c.basis]  # what `nsbgan data encode` made
        offsets = (0, 0)
        if isinstance(self.generator, LeanGenerator):
            offsets = (sum(self.generator.offset_sizes), 3 * c.resolution**2)
        return SamplerInfo(
            c.name,
            c.basis,
            c.resolution,
            c.z_dim,
            c.classes,
            "std",
            c.truncation,
            c.licence,
            makes=makes,
            offsets=offsets,
        )

    def forward(self, latents: Latents) -> Tensor:
        """`Latents` of batch B -> (B, 3, resolution, resolution). Weights of foreign classes in `y` are ignored."""
        return self.draw_vector(self.vector_of(latents), latents)

    def vector_of(self, latents: Latents) -> Tensor:
        """Of a lean sampler the code, which says all of the picture, else z: see `vectors.HasVector`."""
        dtype = self.embed.weight.dtype
        z, weights = latents.z.to(dtype), self._weights(latents)
        return self.prior(z, weights) if self.config.form == "lean" else z

    def at_vector(self, vector: Tensor, latents: Latents) -> Latents:
        """`latents` with a z that gives `vector`; of a lean sampler the shortest, over all stored codes."""
        z = self.prior.find(vector, self._weights(latents)) if self.config.form == "lean" else vector
        return replace(latents, z=z)

    def draw_vector(self, vector: Tensor, latents: Latents) -> Tensor:
        """The sample of `vector` (B, length), with class weights and offsets of `latents`."""
        return self.draw_code(vector, self._weights(latents), latents.offsets)

    def as_class(self, latents: Latents, y: Tensor) -> Latents:
        """A lean sampler's code is moved as the means of the classes lie to each other, and what is far from all stored
        codes of the new class is shortened to what drawn ones have; offsets belong to the old picture alone and are
        left out. Of the other forms z stays."""
        changed = replace(latents, y=y, offsets=None)
        if self.config.form != "lean":
            return changed
        mean, count = self.prior.mean, self.config.code_dim
        code = self.vector_of(latents) + (self._weights(changed) - self._weights(latents)) @ mean
        z = self.prior.find(code, self._weights(changed))
        rest, usual = z[:, :count], self.config.truncation * count**0.5
        rest = rest * (usual / rest.norm(dim=1, keepdim=True).clamp(min=usual))
        return replace(changed, z=torch.cat((rest, z[:, count:]), 1))

    def _weights(self, latents: Latents) -> Tensor:
        return latents.y[:, list(self.config.classes)].to(self.embed.weight.dtype)

    def graph(self) -> Graph:
        """See `graph_of`. The prior is not part of it: it is small, and stays in fp32 torch."""
        return graph_of(self, "code", "y")

    def export_graph(self) -> Graph:
        """From z on, prior included."""
        return Graph(_Draw(self), ("z", "y"), lambda latents: (latents.z, latents.y[:, list(self.config.classes)]))

    def graph_inputs(self, latents: Latents) -> dict[str, Tensor]:
        """The tensors that `forward_tensors` takes, by name. Raises UsageError for offsets, which no graph has."""
        if latents.offsets is not None:
            raise UsageError("Latents of an inverted photo have offsets, which only torch draws: add --engine eager.")
        dtype = self.embed.weight.dtype
        z, y = latents.z.to(dtype), latents.y[:, list(self.config.classes)].to(dtype)
        return {"code": self.prior(z, y) if self.config.form == "lean" else z, "y": y}

    def forward_tensors(self, code: Tensor, y: Tensor) -> Tensor:
        """What `draw_code` does."""
        return self.draw_code(code, y)

    def draw(self, z: Tensor, weights: Tensor) -> Tensor:
        """`z` (B, z_dim) and weights over this sampler's own classes (B, len(classes)) -> sample."""
        dtype = self.embed.weight.dtype
        z, weights = z.to(dtype), weights.to(dtype)
        code = self.prior(z, weights) if self.config.form == "lean" else z
        return self.draw_code(code, weights)

    def draw_code(self, code: Tensor, weights: Tensor, offsets: Tensor | None = None) -> Tensor:
        """What `draw` does once the code is known: for lean (B, code_dim), for the BigGANs z itself."""
        if offsets is None:
            return denormalised(self.generator(code, self.embed(weights)), self.config)
        inside, added = torch.split(offsets, list(self.info.offsets), 1)
        sample: Tensor = denormalised(self.generator(code, self.embed(weights), inside.to(code.dtype)), self.config)
        return sample + added.view_as(sample)


class _Draw(nn.Module):
    """`LearnedSampler.draw` as a module."""

    def __init__(self, sampler: LearnedSampler) -> None:
        super().__init__()
        self.sampler = sampler

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        return self.sampler.draw(z, y)


class CodePrior(nn.Module):
    """z (B, code_dim + choice_dim) and class weights (B, classes) -> codes (B, code_dim).

    `mean` and `spread` (classes, code_dim); `offset` (classes, centres, code_dim): stored codes less their class's
    mean; `keys` (centres, choice_dim): unit vectors. The direction of z's last part blends the stored codes whose keys
    lie near it, with weights whose squares sum to 1, so that a blend is as far from the mean as a code is; z's first
    part times `spread` is added, and that is what truncation shrinks. Smooth in z.
    """

    def __init__(
        self, classes: int, centres: int, code_dim: int, choice_dim: int, sharpness: float = SHARPNESS
    ) -> None:
        super().__init__()
        self.sharpness = sharpness
        self.mean = nn.Parameter(torch.zeros(classes, code_dim), requires_grad=False)
        self.spread = nn.Parameter(torch.ones(classes, code_dim), requires_grad=False)
        self.offset = nn.Parameter(torch.zeros(classes, centres, code_dim), requires_grad=False)
        self.keys = nn.Parameter(F.normalize(torch.randn(centres, choice_dim), dim=1), requires_grad=False)

    def forward(self, z: Tensor, weights: Tensor) -> Tensor:
        """The codes."""
        code_dim = self.mean.shape[-1]
        direction = F.normalize(z[:, code_dim:], dim=1)
        blend = F.normalize(torch.softmax(self.sharpness * direction @ self.keys.t(), 1), dim=1)  # (B, centres)
        offset = torch.einsum("bk,bp,kpc->bc", weights, blend, self.offset)
        return weights @ self.mean + offset + (weights @ self.spread) * z[:, :code_dim]

    def find(self, code: Tensor, weights: Tensor) -> Tensor:
        """A z that gives `code` (B, code_dim): its direction is that of the stored code from which the rest is the
        shortest, so that what is added lies as near as may be to what is drawn."""
        choices = self.keys * self.keys.shape[1] ** 0.5  # (centres, choice_dim), as long as drawn ones
        blend = F.normalize(torch.softmax(self.sharpness * self.keys @ self.keys.t(), 1), dim=1)  # (centres, centres)
        stored = torch.einsum("bk,qp,kpc->bqc", weights, blend, self.offset)
        rest = (code[:, None] - (weights @ self.mean)[:, None] - stored) / (weights @ self.spread)[:, None]
        nearest = rest.square().sum(2).argmin(1)  # (B,)
        return torch.cat((rest[torch.arange(len(code)), nearest], choices[nearest]), 1)

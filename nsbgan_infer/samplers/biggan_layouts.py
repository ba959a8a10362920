"""State dicts of BigGAN-PyTorch and PyTorch-StudioGAN -> `BigGANFamily`, told from names, shapes and buffers alone.

Understood: BigGAN and BigGAN-deep of ajbrock's program (`G_ema.pth`; with or without shared class embedding, parts of
z, spectral norm; three ways to keep statistics), its conversions of TF Hub's weights, BigBiGAN's generator (all rows of
its class embedding are equal: it draws without classes), and StudioGAN's BigGAN and both its BigGAN-deep.

What cannot be told is the epsilon of the conditional norms: 1e-4 in StudioGAN and in what was converted from TF Hub,
1e-5 in what BigGAN-PyTorch trained.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from nsbgan_infer.classes import NUM_CLASSES
from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.samplers.biggan_checkpoint import upsampling_weight
from nsbgan_infer.samplers.biggan_family import BigGANFamily, BigGANFamilyConfig, Split
from nsbgan_infer.storage.components import check_tensors, empty_weights
from nsbgan_infer.storage.layouts import Layout, offer

FINAL_EPS = 1e-5  # of BigGAN-PyTorch's last norm, whatever the others have
BOOKKEEPING = re.compile(r"\.(sv\d+|u\d+|num_batches_tracked|accumulation_counter|weight_u|weight_v)$")


@dataclass(frozen=True)
class Names:
    """What a program calls its layers. `{}` in `conv` is a number from 1 on."""

    linear: str
    conv: str
    skip: str
    attention: tuple[str, str, str, str]
    gamma: str
    final_norm: str
    final_gain: str
    to_rgb: str


BIGGAN_PYTORCH = Names(
    "linear", "conv{}", "conv_sc", ("theta", "phi", "g", "o"), "gamma", "output_layer.0", "gain", "output_layer.2"
)
STUDIOGAN = Names(
    "linear0",
    "conv2d{}",
    "conv2d0",
    ("conv1x1_theta", "conv1x1_phi", "conv1x1_g", "conv1x1_attn"),
    "sigma",
    "bn4",
    "weight",
    "conv2d5",
)


def is_biggan_pytorch(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of a generator of BigGAN-PyTorch."""
    return {"linear.weight", "blocks.0.0.conv1.weight", "output_layer.2.weight"} <= tensors.keys()


def is_studiogan(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are the tensors of a generator of StudioGAN of BigGAN's kind."""
    return any({f"linear0.{w}", f"blocks.0.0.conv2d1.{w}", f"conv2d5.{w}"} <= tensors.keys() for w in WEIGHTS)


WEIGHTS = ("weight_orig", "weight")


def from_peer_state(tensors: Mapping[str, Tensor], *, name: str = "biggan", licence: str = "unknown") -> BigGANFamily:
    """The folded generator of a state dict in one of the layouts above. Raises CheckpointError."""
    try:
        return _Reader(tensors, STUDIOGAN if is_studiogan(tensors) else BIGGAN_PYTORCH).build(name, licence)
    except (ValueError, RuntimeError, IndexError, TypeError, ArithmeticError) as error:
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{name} does not describe a BigGAN that can be built: {reason}.") from error


class _Reader:
    """One state dict while it is folded."""

    def __init__(self, tensors: Mapping[str, Tensor], names: Names) -> None:
        self.tensors, self.names, self.used = tensors, names, set[str]()
        self.blocks, self.attentions = self._entries()
        self.deep = self._has(self.blocks[0], names.conv.format(4))
        self.mixed = not self.deep or self._has(self.blocks[0], names.skip)
        self.embedding = self._embedding()
        rows = self.embedding
        self.constant = rows is not None and bool((rows == rows[:1]).all())  # one class, or BigBiGAN
        self.eps = FINAL_EPS if names is BIGGAN_PYTORCH and self._was_trained() else 1e-4
        self.final_eps = FINAL_EPS if names is BIGGAN_PYTORCH else 1e-4

    def _was_trained(self) -> bool:
        """Whether BigGAN-PyTorch trained this: what was converted to its layout has no sv0, or only ones."""
        moved = any(bool((t != 1).any()) for name, t in self.tensors.items() if name.endswith(".sv0"))
        return moved and not (self.constant and self.embedding is not None and len(self.embedding) > 1)

    def take(self, name: str) -> Tensor:
        """A tensor in fp64, in which everything is folded."""
        if name not in self.tensors:
            raise CheckpointError(f"The BigGAN checkpoint has no tensor {name}, which its other tensors ask for.")
        self.used.add(name)
        return self.tensors[name].double()

    def weight(self, layer: str) -> Tensor:
        """The weight that a layer uses in eval mode.

        Spectral norm (Miyato et al. 2018) divides by sigma = u W v. StudioGAN uses u and v as they are stored;
        BigGAN-PyTorch takes half a power step from the stored u: v = uW / |uW|, sigma = |W v|.
        """
        if f"{layer}.weight_orig" in self.tensors:
            weight, u, v = (self.take(f"{layer}.weight_{part}") for part in ("orig", "u", "v"))
            sigma: Tensor = u @ weight.flatten(1) @ v
            return weight / sigma
        weight = self.take(f"{layer}.weight")
        if f"{layer}.u0" not in self.tensors:
            return weight
        v = self.take(f"{layer}.u0").flatten() @ weight.flatten(1)
        sigma = (weight.flatten(1) @ (v / v.norm())).norm()
        return weight / sigma

    def build(self, name: str, licence: str) -> BigGANFamily:
        """The folded generator."""
        config = self._config(name, licence)
        state: dict[str, Tensor] = {}
        if config.num_classes and self.embedding is not None:
            state["embedding.weight"] = self.embedding.T
        start = self.weight(self.names.linear), self.take(f"{self.names.linear}.bias")
        state |= self._linear("start", *start, conditioned=config.z_split == "whole")
        for number, block in enumerate(self.blocks):
            state |= self._block(f"blocks.{number}", block, config, number)
        for number, entry in self.attentions.items():
            theta, phi, g, out = (self.weight(f"{entry}.{part}") for part in self.names.attention)
            state[f"attention.{number}.qkv.weight"] = torch.cat([theta, phi, g])
            state[f"attention.{number}.out.weight"] = out * self.take(f"{entry}.{self.names.gamma}")
        norm = self.names.final_norm
        mean, scale = self._statistics(norm, self.final_eps)
        gain = scale * self.take(f"{norm}.{self.names.final_gain}")
        state |= {"final_gain": gain, "final_shift": self.take(f"{norm}.bias") - mean * gain}
        state |= {
            "to_rgb.weight": self.weight(self.names.to_rgb),
            "to_rgb.bias": self.take(f"{self.names.to_rgb}.bias"),
        }
        self._check_all_used()
        with empty_weights():
            model = BigGANFamily(config)
        check_tensors({k: {"shape": list(v.shape)} for k, v in state.items()}, model.state_dict(), label=name)
        model.load_state_dict({k: v.float().contiguous() for k, v in state.items()}, strict=True, assign=True)
        return model.eval().requires_grad_(False)

    def _entries(self) -> tuple[list[str], dict[int, str]]:
        """Prefixes of the residual blocks in order, and of attention by the number of the block before it."""
        blocks: list[str] = []
        attentions: dict[int, str] = {}
        number = 0
        while any(k.startswith(f"blocks.{number}.0.") for k in self.tensors):
            for entry in (f"blocks.{number}.0", f"blocks.{number}.1"):
                if self._has(entry, self.names.attention[0]):
                    attentions[len(blocks) - 1] = entry
                elif self._has(entry, self.names.conv.format(1)):
                    blocks.append(entry)
            number += 1
        if not blocks or -1 in attentions:
            raise CheckpointError("The BigGAN checkpoint does not begin with a residual block.")
        return blocks, attentions

    def _has(self, prefix: str, layer: str) -> bool:
        return any(f"{prefix}.{layer}.{w}" in self.tensors for w in WEIGHTS)

    def _shape(self, layer: str) -> torch.Size:
        name = next((f"{layer}.{w}" for w in WEIGHTS if f"{layer}.{w}" in self.tensors), f"{layer}.weight")
        if name not in self.tensors:
            raise CheckpointError(f"The BigGAN checkpoint has no tensor {name}, which its other tensors ask for.")
        return self.tensors[name].shape

    def _embedding(self) -> Tensor | None:
        """(classes, class_dim); without a shared one, norms look up classes themselves: the unit matrix."""
        if "shared.weight" in self.tensors:
            return self.take("shared.weight")
        gain = f"{self.blocks[0]}.bn1.gain"
        if not self._has(f"{self.blocks[0]}.bn1", "gain"):
            return None
        per_class = self._shape(gain)[1] == self._shape(f"{self.blocks[0]}.{self.names.conv.format(1)}")[1]
        return torch.eye(self._shape(gain)[0], dtype=torch.float64) if per_class else None

    def _config(self, name: str, licence: str) -> BigGANFamilyConfig:
        conv = self.names.conv.format
        last = conv(4 if self.deep else 2)
        widths = [self._shape(f"{b}.{conv(1)}")[1] for b in self.blocks]
        widths.append(self._shape(f"{self.blocks[-1]}.{last}")[0])
        classes, class_dim = (0, 0) if self.embedding is None else self.embedding.shape
        if classes > NUM_CLASSES and not self.constant:
            raise CheckpointError(f"{name} draws {classes} classes, but up to {NUM_CLASSES} can be asked for.")
        rows, columns = self._shape(self.names.linear)
        side = round((rows / widths[0]) ** 0.5)
        split, z_dim = self._split(columns, class_dim)
        return BigGANFamilyConfig(
            widths=tuple(widths),
            hidden=tuple(self._shape(f"{b}.{conv(1)}")[0] for b in self.blocks) if self.deep else (),
            enlarging=self._enlarging(widths),
            attention=tuple(self.attentions),
            skip="mixed" if self.mixed else "cut",
            z_dim=z_dim,
            z_split=split,
            class_dim=0 if self.constant else class_dim,
            num_classes=0 if self.constant else classes,
            start_side=side,
            name=name,
            licence=licence,
        )

    def _split(self, columns: int, class_dim: int) -> tuple[Split, int]:
        """How z is shared out, and its length; `columns` are those of the start's matrix."""
        if self.deep:
            return "whole", columns - class_dim
        norm = f"{self.blocks[0]}.bn1"
        alone = "shared.weight" not in self.tensors and self.embedding is not None
        if alone or (self._has(norm, "gain") and self._shape(f"{norm}.gain")[1] == class_dim):
            return "start", columns
        return "parts", columns * (len(self.blocks) + 1)

    def _enlarging(self, widths: list[int]) -> tuple[int, ...]:
        """Every block of BigGAN; of BigGAN-deep the last of each stage.

        A stage has two blocks, the second of which changes the width. Only 32 x 32 networks, of three stages, keep
        one width, and may have stages of another depth.
        """
        count = len(self.blocks)
        depth = 1 if not self.deep else count // 3 if len(set(widths)) == 1 and count % 3 == 0 else 2
        if count % depth:
            raise CheckpointError(f"A BigGAN-deep of {count} blocks cannot be cut into stages of {depth}.")
        return tuple(range(depth - 1, count, depth))

    def _block(self, ours: str, theirs: str, config: BigGANFamilyConfig, number: int) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        convs = 4 if self.deep else 2
        for i in range(convs):
            layer = f"{theirs}.{self.names.conv.format(i + 1)}"
            weight = self.weight(layer)
            enlarges = number in config.enlarging and i == (1 if self.deep else 0)
            state[f"{ours}.conv_{i}.weight"] = upsampling_weight(weight) if enlarges else weight
            state[f"{ours}.conv_{i}.bias"] = self.take(f"{layer}.bias")
        if self.mixed:
            state[f"{ours}.skip.weight"] = self.weight(f"{theirs}.{self.names.skip}")
            state[f"{ours}.skip.bias"] = self.take(f"{theirs}.{self.names.skip}.bias")
        columns = config.condition_dim
        if self.constant and self.embedding is not None:
            columns += self.embedding.shape[1]
        norms = [self._norm(f"{theirs}.bn{i + 1}", columns) for i in range(convs)]
        weight, bias = (torch.cat([part for norm in norms for part in norm[k]]) for k in (0, 1))
        return state | self._linear(f"{ours}.norms.linear", weight, bias)

    def _norm(self, norm: str, columns: int) -> tuple[list[Tensor], list[Tensor]]:
        """Matrices (C, columns) and biases (C,) of the gain and of the shift as functions of the condition c.

        (x - m) r (1 + S c) + O c with r = 1 / sqrt(variance + eps): the gain is r + r S c, the shift O c - m gain.
        """
        mean, scale = self._statistics(norm, self.eps)
        if self._has(norm, "gain"):
            gain, shift = self.weight(f"{norm}.gain"), self.weight(f"{norm}.bias")
            if "shared.weight" not in self.tensors and gain.shape[1] == len(mean) and gain.shape[0] == columns:
                gain, shift = gain.T, shift.T  # looked up by class
            inner, outer, offset = scale[:, None] * gain, scale, shift
            return [inner, offset - mean[:, None] * inner], [outer, -mean * outer]
        outer = scale * self.take(f"{norm}.weight")  # without classes: a plain batch norm
        none = torch.zeros(len(mean), columns, dtype=mean.dtype)
        return [none, none], [outer, self.take(f"{norm}.bias") - mean * outer]

    def _statistics(self, norm: str, eps: float) -> tuple[Tensor, Tensor]:
        """Mean and 1 / sqrt(variance + eps), wherever the norm keeps them."""
        kinds = (f"{inner}{kind}" for inner in ("", "bn.") for kind in ("stored", "running"))
        kind = next((k for k in kinds if f"{norm}.{k}_mean" in self.tensors), "stored")
        mean, variance = self.take(f"{norm}.{kind}_mean"), self.take(f"{norm}.{kind}_var")
        counter = f"{norm}.{kind}".replace("stored", "accumulation_counter")
        if counter in self.tensors and float(self.tensors[counter]) > 0:  # standing statistics are sums
            mean, variance = mean / self.take(counter), variance / self.take(counter)
        return mean, (variance + eps).rsqrt()

    def _linear(self, name: str, weight: Tensor, bias: Tensor, *, conditioned: bool = True) -> dict[str, Tensor]:
        """A matrix over the condition; a class embedding that never changes goes into the bias."""
        if conditioned and self.constant and self.embedding is not None:
            row = self.embedding[0]
            bias, weight = bias + weight[:, : len(row)] @ row, weight[:, len(row) :]
        return {f"{name}.weight": weight, f"{name}.bias": bias}

    def _check_all_used(self) -> None:
        extra = [k for k in self.tensors if k not in self.used and not BOOKKEEPING.search(k)]
        if extra:
            listed = ", ".join(extra[:5])
            raise CheckpointError(f"The BigGAN checkpoint holds tensors that no known variant has: {listed}.")


offer(
    Layout(
        "biggan-family",
        "BigGAN and BigGAN-deep of BigGAN-PyTorch and StudioGAN, BigBiGAN's generator",
        lambda checkpoint: is_biggan_pytorch(checkpoint.tensors) or is_studiogan(checkpoint.tensors),
        lambda checkpoint, name, licence: from_peer_state(checkpoint.tensors, name=name, licence=licence),
    )
)

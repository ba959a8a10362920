"""A torch module of one's own as a sampler or a decoder, and what of it can be kept.

A file of weights never brings code. So of a foreign module a folder keeps the weights (safetensors), the class's name
for people, and what the wrapper was told; whoever loads it brings the module, and its weights are filled in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from safetensors.torch import save_file
from torch import Tensor, nn

from nsbgan_infer.decoders.base import DecoderInfo
from nsbgan_infer.encoders.base import Basis
from nsbgan_infer.errors import CheckpointError, UsageError, WrongTypeError
from nsbgan_infer.latents import Latents, TruncationMode
from nsbgan_infer.reductions import reduction
from nsbgan_infer.samplers.base import SamplerInfo
from nsbgan_infer.storage.components import MODULE, fill_module, parse_config, remember_weights
from nsbgan_infer.storage.files import atomic_path, read_json, writable_folder, write_json

Values = tuple[float, float]
PICTURE: Values = (0.0, 1.0)


class Wrapped(nn.Module):
    """A module whose values from `low` to `high` are moved to [0, 1]."""

    info: Any

    def __init__(self, module: nn.Module, info: Any, values: Values) -> None:
        super().__init__()
        self.module, self.info, self.values = module, info, values

    def to_picture(self, x: Tensor) -> Tensor:
        """From the module's range to [0, 1]."""
        low, high = self.values
        return x if self.values == PICTURE else (x - low) / (high - low)

    def from_picture(self, x: Tensor) -> Tensor:
        """From [0, 1] to the module's range."""
        low, high = self.values
        return x if self.values == PICTURE else x * (high - low) + low


class WrappedSampler(Wrapped):
    """See `as_sampler`."""

    info: SamplerInfo

    def forward(self, latents: Latents) -> Tensor:
        """Latents of batch B -> (B, 3, resolution, resolution), nominally [0, 1]."""
        classes = self.info.classes
        given = (latents.z,) if classes is None else (latents.z, latents.y[:, list(classes)])
        return self.to_picture(self.module(*given))


class WrappedDecoder(Wrapped):
    """See `as_decoder`."""

    info: DecoderInfo

    def forward(self, low_band: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, 3, scale * h, scale * w), nominally [0, 1]."""
        return self.to_picture(self.module(self.from_picture(low_band)))


def as_sampler(
    module: nn.Module,
    *,
    resolution: int,
    z_dim: int,
    classes: Sequence[int] | None = None,
    name: str = "",
    basis: Basis = "pixel",
    values: Values = PICTURE,
    truncation: float = 1.0,
    truncation_mode: TruncationMode = "std",
    labels: Literal["imagenet", "numbers"] = "imagenet",
    licence: str = "unknown",
) -> WrappedSampler:
    """`module` as a sampler of `resolution` x `resolution`, in eval mode.

    Without `classes` it is called with z (B, z_dim); with them, ids in the order of its own, with z and their weights
    (B, len(classes)), one-hot for a single class. It returns (B, 3, resolution, resolution) in `values`, such as
    (-1, 1); in the basis `wavelet` that is a gain-free low band. Raises WrongTypeError, UsageError.

    >>> from nsbgan_infer import NsbPipeline
    >>> net = nn.Sequential(nn.Linear(8, 3 * 16 * 16), nn.Tanh(), nn.Unflatten(1, (3, 16, 16)))
    >>> sampler = as_sampler(net, resolution=16, z_dim=8, values=(-1, 1), name="mine")
    >>> NsbPipeline(sampler)(num_images=2).tensors.shape
    torch.Size([2, 3, 16, 16])
    """
    _check(module, "sampler", values)
    ids = None if classes is None else tuple(classes)
    if resolution < 1 or z_dim < 1 or (ids is not None and not ids):
        raise UsageError("resolution and z_dim are at least 1, and classes are None or at least one id.")
    info = SamplerInfo(
        name or type(module).__name__,
        basis,
        resolution,
        z_dim,
        ids,
        truncation_mode,
        truncation,
        licence,
        labels=labels,
    )
    return WrappedSampler(module, info, values).eval()


def as_decoder(
    module: nn.Module,
    *,
    scale: int,
    reads: str = "bicubic",
    name: str = "",
    values: Values = PICTURE,
    halo: int | None = None,
    multiple: int = 1,
    licence: str = "unknown",
) -> WrappedDecoder:
    """`module` as a decoder that enlarges by `scale`, in eval mode: (B, 3, h, w) -> (B, 3, scale * h, scale * w).

    `reads` is the reduction that it was trained on: bicubic, bilinear, gaussian or wavelet. Its input and output lie in
    `values`. `halo`: how many pixels around a tile decide what is in it; without it, photos are not cut into tiles.
    Raises WrongTypeError, UsageError, UnknownNameError.

    >>> import torch
    >>> decoder = as_decoder(nn.Upsample(scale_factor=2), scale=2, name="twice", halo=1)
    >>> decoder(torch.rand(1, 3, 8, 8)).shape
    torch.Size([1, 3, 16, 16])
    """
    _check(module, "decoder", values)
    if scale < 1 or multiple < 1:
        raise UsageError("scale and multiple are at least 1.")
    info = DecoderInfo(name or type(module).__name__, reduction(reads).basis, scale, licence, halo, multiple, reads)
    return WrappedDecoder(module, info, values).eval()


def _check(module: object, kind: str, values: Values) -> None:
    if not isinstance(module, nn.Module):
        shown = f"the class {module.__name__}" if isinstance(module, type) else f"a {type(module).__name__}"
        raise WrongTypeError(f"as_{kind} takes a torch module, not {shown}: make one, for example MyNet().")
    if not values[0] < values[1]:
        raise UsageError(f"values {values} is no range: give (0, 1) or (-1, 1).")


def save_module(part: nn.Module, folder: Path) -> None:
    """Write the weights of a foreign module, its class's name and what its wrapper was told. No code is kept.

    Raises UsageError where nothing can be written.
    """
    inner = part.module if isinstance(part, Wrapped) else part
    kind = "sampler" if isinstance(part.info, SamplerInfo) else "decoder"
    config: dict[str, Any] = {"kind": kind, "arch": MODULE, "class": f"{type(inner).__module__}.{type(inner).__name__}"}
    if isinstance(part, Wrapped):
        config |= {"info": asdict(part.info), "values": list(part.values)}
    writable_folder(folder)
    tensors = {k: v.detach().cpu().contiguous().clone() for k, v in inner.state_dict().items()}
    with atomic_path(folder / "model.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
    write_json(folder / "config.json", config)


def holds_module(folder: Path) -> bool:
    """Whether `folder` was written by `save_module`."""
    return (folder / "config.json").is_file() and read_json(folder / "config.json").get("arch") == MODULE


def load_module(folder: Path, module: object) -> Any:
    """The sampler or decoder in `folder`, of the `module` that was brought for it (None: none was).

    The module gets the folder's weights, name by name, and is wrapped as it was. Raises CheckpointError for weights
    that do not fit it, WrongTypeError for other objects.
    """
    where = folder / "config.json"
    config = read_json(where)
    kind, made_by = str(config.get("kind")), str(config.get("class"))
    if module is None:
        raise CheckpointError(
            f"{folder} holds the weights of a module of one's own ({made_by}), and no code: bring it by "
            f"NsbPipeline.from_pretrained(FOLDER, modules={{'{folder.name}': {made_by.rpartition('.')[2]}(...)}})."
        )
    _check(module, kind, PICTURE)
    assert isinstance(module, nn.Module)
    inner = module.module if isinstance(module, Wrapped) else module
    fill_module(inner, folder / "model.safetensors")
    if "info" in config:
        infos: dict[str, type[Any]] = {"sampler": SamplerInfo, "decoder": DecoderInfo}
        wrappers: dict[str, type[Wrapped]] = {"sampler": WrappedSampler, "decoder": WrappedDecoder}
        if kind not in infos or not isinstance(config["info"], Mapping):
            raise CheckpointError(f"{where} describes no sampler and no decoder: save the pipeline again.")
        info = parse_config(infos[kind], config["info"], where=str(where))
        low, high = (float(v) for v in config.get("values", PICTURE))
        module = wrappers[kind](inner, info, (low, high))
    part = module.eval().requires_grad_(False)
    remember_weights(part)
    return part

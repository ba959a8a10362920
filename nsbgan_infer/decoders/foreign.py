"""Step 4 by other people's upscalers: any super-resolution network that spandrel recognises (extra `upscalers`).

(B, 3, h, w) pixel basis, clamped to [0, 1] -> (B, 3, scale * h, scale * w) in [0, 1]. Files are .safetensors, or .pth
read with `weights_only`. Such networks are trained on ordinary small pictures, so they read `bicubic` reductions;
`spandrel:FILE?reads=gaussian` names another one of the pixel basis for a file that was not.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from nsbgan_infer.decoders.base import DecoderInfo
from nsbgan_infer.errors import CheckpointError, UsageError
from nsbgan_infer.reductions import reduction
from nsbgan_infer.storage.checkpoints import read_pickle
from nsbgan_infer.storage.components import read_header, read_tensors
from nsbgan_infer.torch_operators import first_line, import_beside_torch

if TYPE_CHECKING:
    from spandrel import ImageModelDescriptor

HALO = 32  # twice what other programs overlap; not measured for each architecture
WIDE_HALO = 64  # of those that spandrel discourages to tile, such as SwinIR: a photo of a camera does not fit whole
LICENCE = "unknown (foreign)"
READS = "bicubic"


class ForeignUpscaler(nn.Module):
    """A descriptor of spandrel as a decoder. `.to` moves it like any network."""

    def __init__(self, descriptor: ImageModelDescriptor[Any], info: DecoderInfo, weights_file: Path) -> None:
        super().__init__()
        self.model = descriptor.model
        self.descriptor = descriptor
        self.info = info
        self.weights_file = weights_file

    def forward(self, low_band: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, 3, scale * h, scale * w), one picture at a time (spandrel promises no more).

        Raises UsageError in bf16 where the architecture does not compute in it.
        """
        dtype = self.descriptor.dtype
        if dtype == torch.bfloat16 and not self.descriptor.supports_bfloat16:
            raise UsageError(f"{self.info.name} does not compute in bf16: use --dtype fp32.")
        low_band, returned = low_band.clamp(0, 1).to(dtype), low_band.dtype
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, about how others have written their networks
            pictures: list[Tensor] = [self.descriptor(one) for one in torch.split(low_band, 1)]
        return torch.cat(pictures).to(returned)


def open_foreign(ref: str) -> ForeignUpscaler:
    """The upscaler meant by `ref`: FILE, or FILE?reads=REDUCTION. Raises as `load_foreign`."""
    file, asked, reads = ref.rpartition("?reads=")
    return load_foreign(Path(file), reads) if asked else load_foreign(Path(ref))


def load_foreign(path: Path, reads: str = READS) -> ForeignUpscaler:
    """The upscaler in `path` (.safetensors or .pth), which was trained on reductions called `reads`.

    Raises MissingExtraError without spandrel, UnknownNameError or UsageError for another reduction than those of the
    pixel basis, CheckpointError for a file that is missing, damaged, of an unknown architecture, or no super-resolution
    network from RGB to RGB.
    """
    if reduction(reads).basis != "pixel":
        raise UsageError(f"A foreign upscaler enlarges pictures, not {reads} low bands: reads is bicubic or gaussian.")
    spandrel = import_beside_torch("spandrel", "spandrel", "upscalers", "A foreign upscaler")
    path = path.expanduser()
    state = spandrel.canonicalize_state_dict(_read_state(path))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            descriptor = spandrel.ModelLoader().load_from_state_dict(state).eval()
    except spandrel.UnsupportedModelError:
        raise CheckpointError(f"{path.name} holds no architecture that spandrel knows: take another file.") from None
    except Exception as error:  # detection is by key names, so a chance likeness can fail in any way
        raise CheckpointError(
            f"{path.name} looks like a known architecture but does not fit it ({first_line(error)}): fetch it again."
        ) from error
    _check_purpose(descriptor, path.name)
    descriptor.model.requires_grad_(False)
    tiling = spandrel.ModelTiling
    halo = {tiling.SUPPORTED: HALO, tiling.DISCOURAGED: WIDE_HALO}.get(descriptor.tiling)  # None: it tiles by itself
    name = f"spandrel:{path.name}" + (f"?reads={reads}" if reads != READS else "")
    info = DecoderInfo(name, "pixel", descriptor.scale, LICENCE, halo=halo, reads=reads)
    return ForeignUpscaler(descriptor, info, path)


def _read_state(path: Path) -> dict[str, Any]:
    suffix = path.suffix.lower()
    if suffix not in (".safetensors", ".pth"):
        raise CheckpointError(f"A foreign upscaler is a .safetensors or .pth file, not '{path.name}'.")
    if not path.is_file():
        raise CheckpointError(f"No such file: {path}. Give spandrel:FILE with the path of the upscaler.")
    if suffix == ".safetensors":
        read_header(path)
        return dict(read_tensors(path))
    state = read_pickle(path)
    if not isinstance(state, dict):
        raise CheckpointError(f"{path.name} holds a {type(state).__name__}, not a table of weights.")
    return state


def _check_purpose(descriptor: Any, name: str) -> None:
    channels = descriptor.input_channels, descriptor.output_channels
    if descriptor.purpose != "SR" or descriptor.scale < 2:
        raise CheckpointError(
            f"{name} is a {descriptor.architecture.name} for {descriptor.purpose} at scale {descriptor.scale}, not an "
            "upscaler: take a super-resolution file."
        )
    if channels != (3, 3):
        raise CheckpointError(f"{name} maps {channels[0]} to {channels[1]} channels: a decoder needs RGB to RGB.")

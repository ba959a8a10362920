"""Step 4, decoders `resnet-w`, `resnet-p`, `esrgan-w`, `esrgan-p`: the paper's SRResNet (section 3.1.2, C.2; spec 3.1).

(B, 3, h, w) in the decoder's basis, nominally [0, 1] -> (B, 3, scale h, scale w) pixel basis, nominally [0, 1]. A
residual body at the low resolution, pixel shuffles, and the low band enlarged as a base to which the network adds. The
four names share this class and differ in weights and basis. Parameter names are those of BasicSR's MSRResNet.

The base is the corner-anchored enlargement of the low band in pixel scale, for both bases: sample k of either lies at
pixel scale * k (spec 8, rows 3, 5 and 7). `legacy_skip` instead reproduces what the authors' files were trained with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast, get_args

import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.decoders.base import DecoderInfo
from nsbgan_infer.decoders.subband import COLOURS, INIT_GAIN, ResidualBlock, init_conv
from nsbgan_infer.encoders.base import Basis
from nsbgan_infer.encoders.lifting import idwt2
from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.storage.architectures import Component, Trained, architecture
from nsbgan_infer.storage.checkpoints import Checkpoint
from nsbgan_infer.storage.components import empty_weights, fill_component
from nsbgan_infer.storage.layouts import Layout, has, offer

SLOPE = 0.1  # of the leaky ReLUs


@dataclass(frozen=True)
class SRResNetConfig:
    """The network and how it sees its input.

    `shift` and `divisor` normalise the input of the convolutions: (x + shift) / divisor; the authors' (3, 10) for a
    raw TL-2 is (0.75, 2.5) for a gain-free one. `legacy_skip` is for author-style files: in the wavelet basis the
    base is the authors' enlargement (boundary `zero`) of the normalised input, in the pixel basis the centre-anchored
    bilinear one.
    """

    name: str = "resnet-w"
    basis: Basis = "wavelet"
    blocks: int = 16
    channels: int = 64
    scale: Literal[2, 4] = 4
    shift: float = 0.0
    divisor: float = 1.0
    legacy_skip: bool = False
    licence: str = "none"

    def __post_init__(self) -> None:
        if self.basis not in get_args(Basis):
            raise ValueError(f"basis must be pixel or wavelet, got {self.basis!r}")
        if self.scale not in (2, 4):
            raise ValueError(f"scale must be 2 or 4, got {self.scale!r}")
        if self.blocks < 1 or self.channels < 1 or self.divisor <= 0:
            raise ValueError("blocks, channels and divisor must be positive")


@architecture
class SRResNet(Component):
    """conv, 16 residual blocks of 64, one pixel shuffle per doubling, two convs: 1,517,571 parameters at scale 4."""

    kind: ClassVar[str] = "decoder"
    arch: ClassVar[str] = "srresnet"
    Config: ClassVar[type[SRResNetConfig]] = SRResNetConfig
    tiny = SRResNetConfig(blocks=1, channels=8)
    trained = (
        # 0.75 and 2.5 are the paper's (3, 10) for a gain-free low band (spec 8, row 5)
        Trained("resnet-w", {"basis": "wavelet", "shift": 0.75, "divisor": 2.5}, second="esrgan-w"),
        Trained("resnet-p", {"basis": "pixel"}, second="esrgan-p"),
    )
    sentence = "An SRResNet: residual blocks at the low band's resolution, then pixel shuffles."
    config: SRResNetConfig

    def __init__(self, config: SRResNetConfig) -> None:
        super().__init__(config)
        width = config.channels
        self.conv_first = nn.Conv2d(COLOURS, width, 3, padding=1)
        self.body = nn.Sequential(*(ResidualBlock(width) for _ in range(config.blocks)))
        self.upconv1 = nn.Conv2d(width, width * 4, 3, padding=1)
        self.upconv2 = nn.Conv2d(width, width * 4, 3, padding=1) if config.scale == 4 else None
        self.conv_hr = nn.Conv2d(width, width, 3, padding=1)
        self.conv_last = nn.Conv2d(width, COLOURS, 3, padding=1)
        for conv in self.modules():
            if isinstance(conv, nn.Conv2d):
                init_conv(conv, INIT_GAIN)

    @property
    def info(self) -> DecoderInfo:
        """Basis and scale of the configuration. BasicSR's pixel files read `bicubic`, ours the paper's reductions."""
        c: SRResNetConfig = self.config
        reads = "bicubic" if c.legacy_skip and c.basis == "pixel" else ""
        return DecoderInfo(c.name, c.basis, c.scale, c.licence, reads=reads)

    def forward(self, low_band: Tensor) -> Tensor:
        """(B, 3, h, w) -> (B, 3, scale h, scale w), unclamped, same dtype."""
        normalised = (low_band + self.config.shift) / self.config.divisor
        x = F.leaky_relu(self.conv_first(normalised), SLOPE)  # (B, C, h, w)
        x = self.body(x)
        x = F.leaky_relu(F.pixel_shuffle(self.upconv1(x), 2), SLOPE)  # (B, C, 2h, 2w)
        if self.upconv2 is not None:
            x = F.leaky_relu(F.pixel_shuffle(self.upconv2(x), 2), SLOPE)  # (B, C, 4h, 4w)
        x = self.conv_last(F.leaky_relu(self.conv_hr(x), SLOPE))  # (B, 3, scale h, scale w)
        picture: Tensor = self._base(low_band, normalised) + x.to(low_band.dtype)
        return picture

    def _base(self, low_band: Tensor, normalised: Tensor) -> Tensor:
        """The enlarged low band that the network adds to."""
        legacy, levels = self.config.legacy_skip, 2 if self.config.scale == 4 else 1
        if legacy and self.config.basis == "pixel":
            return F.interpolate(low_band, scale_factor=float(self.config.scale), mode="bilinear", align_corners=False)
        base = normalised if legacy else low_band
        for _ in range(levels):
            base = idwt2(base, None, "zero" if legacy else "symmetric")
        return base / self.config.scale if legacy else base  # theirs lacks the gain of 2 a level (spec 3.2)


def from_author_state(state: Mapping[str, Tensor], *, name: str, licence: str = "unknown") -> SRResNet:
    """The decoder of an author-style (BasicSR) state dict, wrapped under `params` or not.

    Files with the buffers `shift` and `scale` are the authors' wavelet decoders for a raw TL-2 (or TL-1 at scale 2),
    others pixel ones; both get `legacy_skip`. Raises CheckpointError if the names or shapes are not those of MSRResNet.
    """
    inner: Any = next((v for k in ("params_ema", "params") if isinstance(v := state.get(k), Mapping)), state)
    tensors: dict[str, Tensor] = dict(inner)
    try:
        blocks = 1 + max(int(k.split(".")[1]) for k in tensors if k.startswith("body."))
        scale = 4 if "upconv2.weight" in tensors else 2
        shift, divisor = (float(tensors.pop(k).item()) / scale if k in tensors else None for k in ("shift", "scale"))
        tensors.pop("inv_filters", None)
        basis: Basis = "pixel" if shift is None or divisor is None else "wavelet"
        config = SRResNetConfig(
            name=name,
            basis=basis,
            blocks=blocks,
            channels=tensors["conv_first.weight"].shape[0],
            scale=cast(Literal[2, 4], scale),
            shift=shift or 0.0,
            divisor=divisor or 1.0,
            legacy_skip=True,
            licence=licence,
        )
        model = SRResNet(config)
        model.load_state_dict(tensors)
    except (KeyError, ValueError, RuntimeError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(f"This is not BasicSR's MSRResNet ({reason}): see `nsbgan inspect`.") from error
    return model.eval().requires_grad_(False)


def from_public_layout(checkpoint: Checkpoint, name: str, licence: str) -> SRResNet:
    """BasicSR's MSRResNet and the authors' variant for low bands, whose skip and normalisation are kept (spec 3)."""
    tensors = dict(checkpoint.tensors)
    buffers = {k: tensors.pop(k) for k in ("inv_filters", "shift", "scale") if k in tensors}
    channels = tensors["conv_first.weight"].shape[0]
    blocks = sum(bool(re.fullmatch(r"body\.\d+\.conv1\.weight", k)) for k in tensors)
    scale = 4 if "upconv2.weight" in tensors else 2
    shift, divisor = 0.0, 1.0
    if buffers:
        sizes = {k: v.numel() for k, v in buffers.items()}
        if sizes != {"inv_filters": 4 * 6 * 6, "shift": 1, "scale": 1}:
            raise CheckpointError(f"{name} should hold inv_filters [4, 6, 6], shift [1] and scale [1], not {sizes}.")
        # made for a raw low band, which is `scale` times the gain-free one
        shift, divisor = float(buffers["shift"]) / scale, float(buffers["scale"]) / scale
    try:
        config = SRResNetConfig(
            name=name,
            basis="wavelet" if buffers else "pixel",
            blocks=blocks,
            channels=channels,
            scale=4 if scale == 4 else 2,
            shift=shift,
            divisor=divisor,
            legacy_skip=True,
            licence=licence,
        )
    except ValueError as error:
        raise CheckpointError(f"{name} does not describe an SRResNet: {error}.") from error
    with empty_weights():
        component = SRResNet(config)
    return fill_component(component, tensors, label=name)


offer(
    Layout(
        "srresnet",
        "BasicSR's MSRResNet, the paper's ESRGAN-W and ESRGAN-P",
        has("conv_first.weight", "body.0.conv1.weight", "upconv1.weight", "conv_last.weight"),
        from_public_layout,
    )
)

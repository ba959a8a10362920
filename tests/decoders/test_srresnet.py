"""The paper's SRResNet: its size and key names, an independent forward, the repaired skip and the authors' one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.decoders.srresnet import SRResNet, SRResNetConfig, from_author_state
from nsbgan_infer.encoders import PixelEncoder, WaveletEncoder
from nsbgan_infer.errors import CheckpointError

TINY = {"blocks": 2, "channels": 8}


def make_random(**config: object) -> SRResNet:
    torch.manual_seed(0)
    return SRResNet(SRResNetConfig(**{**TINY, **config})).eval().requires_grad_(False)  # type: ignore[arg-type]


def make_silent(**config: object) -> SRResNet:
    """A decoder whose network adds nothing: what remains is its base."""
    decoder = make_random(**config)
    decoder.conv_last.weight.zero_()
    return decoder


def test_size_and_names_are_basicsr_ones() -> None:
    state = SRResNet(SRResNetConfig()).state_dict()
    assert sum(v.numel() for v in state.values()) == 1_517_571
    parts = ["conv_first", *(f"body.{i}.conv{j}" for i in range(16) for j in (1, 2))]
    parts += ["upconv1", "upconv2", "conv_hr", "conv_last"]
    assert list(state) == [f"{p}.{kind}" for p in parts for kind in ("weight", "bias")]


def test_initial_weights_are_a_tenth_of_kaiming_normal() -> None:
    torch.manual_seed(1)
    decoder = SRResNet(SRResNetConfig())
    for name, value in decoder.named_parameters():
        if name.endswith("bias"):
            assert not value.any()
        elif value.shape[1] >= 64:
            assert abs(value.std().item() / (0.1 * (2 / (value.shape[1] * 9)) ** 0.5) - 1) < 0.05, name


def reference(state: dict[str, Tensor], x: Tensor, blocks: int, scale: int) -> Tensor:
    """The convolution path of spec 3.1, written out once more."""

    def conv(name: str, x: Tensor) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=1)

    def leaky(x: Tensor) -> Tensor:
        return torch.where(x > 0, x, 0.1 * x)

    def shuffle(x: Tensor) -> Tensor:
        b, c, h, w = x.shape
        return x.view(b, c // 4, 2, 2, h, w).permute(0, 1, 4, 2, 5, 3).reshape(b, c // 4, 2 * h, 2 * w)

    x = leaky(conv("conv_first", x))
    for i in range(blocks):
        x = x + conv(f"body.{i}.conv2", conv(f"body.{i}.conv1", x).clamp(min=0))
    for i in range(scale // 2):
        x = leaky(shuffle(conv(f"upconv{i + 1}", x)))
    return conv("conv_last", leaky(conv("conv_hr", x)))


@pytest.mark.parametrize("basis", ["wavelet", "pixel"])
@pytest.mark.parametrize("scale", [2, 4])
def test_forward_is_base_plus_reference(basis: str, scale: int) -> None:
    decoder = make_random(basis=basis, scale=scale, shift=0.75, divisor=2.5)
    low = torch.rand(2, 3, 9, 12)
    base = WaveletEncoder(scale // 2).enlarge(low)
    path = reference(decoder.state_dict(), (low + 0.75) / 2.5, 2, scale)
    assert torch.allclose(decoder(low), base + path, atol=1e-5)


@pytest.mark.parametrize("basis", ["wavelet", "pixel"])
def test_a_ramp_comes_back_where_it_was(basis: str) -> None:
    """Base and encoder agree on where sample k lies (spec 8, row 7); the legacy pixel base is 1.5 pixels off."""
    ramp = (torch.arange(64.0) / 64).expand(1, 3, 64, 64)
    encoder = WaveletEncoder(2) if basis == "wavelet" else PixelEncoder(2)
    inside = (slice(None), slice(None), slice(8, -8), slice(8, -8))
    difference = (make_silent(basis=basis)(encoder(ramp)) - ramp)[inside]
    assert difference.abs().max() < 1e-3
    if basis == "pixel":
        legacy = (make_silent(basis=basis, legacy_skip=True)(encoder(ramp)) - ramp)[inside]
        assert torch.allclose(legacy.mean(), torch.tensor(-1.5 / 64), atol=1e-4)


def test_legacy_wavelet_base_has_a_tenth_of_the_contrast() -> None:
    """Spec 3.2: 0.1 * img + 0.075 for flat areas; ours gives the picture itself."""
    for grey in (0.0, 0.5, 1.0):
        low = torch.full((1, 3, 12, 12), grey)
        legacy = make_silent(legacy_skip=True, shift=0.75, divisor=2.5)(low)
        assert torch.allclose(legacy[..., 8:-8, 8:-8], torch.tensor(0.1 * grey + 0.075), atol=1e-6)
        assert legacy[..., -1, -1].max() < 0.6 * legacy[0, 0, 20, 20]  # the authors' rim falls towards 0
        assert torch.allclose(make_silent(shift=0.75, divisor=2.5)(low), torch.tensor(grey), atol=1e-6)


@pytest.mark.parametrize("wrapped", [True, False])
def test_author_style_files(wrapped: bool) -> None:
    source = make_random(shift=0.75, divisor=2.5, legacy_skip=True)
    state = {**source.state_dict(), "inv_filters": torch.zeros(4, 6, 6)}
    state |= {"shift": torch.tensor([3.0]), "scale": torch.tensor([10.0])}
    given: dict[str, Any] = {"params": state} if wrapped else state
    decoder = from_author_state(given, name="theirs")
    low = torch.rand(1, 3, 8, 8)
    assert decoder.config == SRResNetConfig("theirs", "wavelet", 2, 8, 4, 0.75, 2.5, True, "unknown")
    assert torch.equal(decoder(low), source(low))


def test_public_basicsr_files_are_pixel_decoders() -> None:
    decoder = from_author_state(make_random(basis="pixel", scale=2).state_dict(), name="public")
    assert decoder.info.basis == "pixel" and decoder.info.scale == 2 and decoder.config.legacy_skip


def test_foreign_state_is_refused() -> None:
    with pytest.raises(CheckpointError, match="MSRResNet"):
        from_author_state({"net.weight": torch.zeros(3)}, name="x")
    broken = make_random().state_dict()
    broken["conv_hr.weight"] = broken["conv_hr.weight"][:4]
    with pytest.raises(CheckpointError, match="conv_hr"):
        from_author_state(broken, name="x")


def test_no_assert_on_data() -> None:
    """Values that the authors' hard assert refused (spec 8, row 4)."""
    assert make_random(shift=0.75, divisor=2.5)(torch.randn(1, 3, 8, 8) * 5).isfinite().all()

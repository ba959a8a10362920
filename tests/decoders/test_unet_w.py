"""UNet-W: the packets against pywt, sizes of the paper, grouped heads against separate ones, decoding, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import pywt
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nsbgan_infer.decoders.interpolate import make_iwt
from nsbgan_infer.decoders.unet_w import (
    PatchUNet,
    UNetW,
    UNetWConfig,
    compose,
    details_of,
    join_networks,
    low_patches,
    subdivide,
)
from nsbgan_infer.encoders import WaveletEncoder
from nsbgan_infer.encoders.lifting import Boundary
from nsbgan_infer.errors import CheckpointError, UsageError
from nsbgan_infer.storage.components import build_component, load_component, save_component

COVERS = ["decoders.unet"]

TINY = UNetWConfig(width=8)
MODES = {"symmetric": "reflect", "zero": "zero"}


def tiny(config: UNetWConfig = TINY) -> UNetW:
    """Random weights, also in the statistics of batch normalisation."""
    torch.manual_seed(0)
    model = UNetW(config).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return model


def raw(x: np.ndarray, mode: str) -> list[np.ndarray]:
    """The four quadrants TL, TR, BL, BR of one raw transform, by pywt."""
    h, w = x.shape[-2:]
    low, details = pywt.dwt2(x, "bior2.2", mode=mode)
    return [b[..., 1 : 1 + h // 2, 1 : 1 + w // 2] for b in (low, *details)]


@pytest.mark.parametrize("boundary", ["symmetric", "zero"])
def test_patches_are_the_packets_of_the_paper(boundary: Boundary) -> None:
    """Spec 4.3 written with pywt: TL-2 once more, details of level 2 once, details of level 1 twice, all quadrants."""
    x, mode = np.random.default_rng(0).random((2, 3, 64, 96)), MODES[boundary]
    tl1, *level1 = raw(x, mode)
    tl2, *level2 = raw(tl1, mode)
    want_low = raw(tl2, mode)
    want_coarse = [q for band in level2 for q in raw(band, mode)]
    want_fine = [inner for band in level1 for outer in raw(band, mode) for inner in raw(outer, mode)]

    pyramid = WaveletEncoder(2, boundary).pyramid(torch.from_numpy(x))
    patches = subdivide(pyramid.low, pyramid.details[1], pyramid.details[0], boundary)
    for got, want, count in zip(patches, (want_low, want_coarse, want_fine), (4, 12, 48), strict=True):
        assert got.shape == (2, 3 * count, 8, 12)
        np.testing.assert_allclose(got.numpy(), np.concatenate(want, axis=1), atol=1e-12)
    torch.testing.assert_close(low_patches(pyramid.low, boundary), patches.low, atol=0, rtol=0)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 4), st.integers(1, 4))
def test_true_patches_give_the_picture(seed: int, a: int, b: int) -> None:
    x = torch.rand(2, 3, 16 * a, 16 * b, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    pyramid = WaveletEncoder(2).pyramid(x)
    patches = subdivide(pyramid.low, pyramid.details[1], pyramid.details[0])
    torch.testing.assert_close(compose(pyramid.low, patches.coarse, patches.fine), x, atol=1e-12, rtol=0)
    for got, want in zip(details_of(patches.coarse, patches.fine), reversed(pyramid.details), strict=True):
        torch.testing.assert_close(got, want, atol=1e-12, rtol=0)


@pytest.mark.parametrize("boundary", ["symmetric", "zero"])
def test_no_details_are_the_inverse_transform_alone(boundary: Boundary) -> None:
    low = torch.rand(1, 3, 16, 16)
    nothing = compose(low, torch.zeros(1, 36, 8, 8), None, boundary)
    torch.testing.assert_close(nothing, WaveletEncoder(2, boundary).enlarge(low), atol=1e-6, rtol=0)


def test_sizes_of_the_paper() -> None:
    with torch.device("meta"):
        model = UNetW(UNetWConfig())
    assert model.network1 is not None and model.network2 is not None
    counts = [sum(p.numel() for p in net.parameters()) for net in (model.network1, model.network2)]
    assert counts == [52_073_508, 94_983_312]


def test_grouped_heads_equal_separate_heads() -> None:
    """Spec 4.2: each head is conv, batch norm, ReLU, conv of its own; here they are slices of the joint layers."""
    net: Any = tiny().network1
    half, x = TINY.width // 2, torch.randn(2, TINY.width, 8, 8)
    first, norm, _, second = net.heads
    parts: list[Tensor] = []
    for k in range(12):
        mine, out = slice(k * half, (k + 1) * half), slice(3 * k, 3 * k + 3)
        y = nn.functional.conv2d(x, first.weight[mine], first.bias[mine], padding=1)
        y = nn.functional.batch_norm(
            y, norm.running_mean[mine], norm.running_var[mine], norm.weight[mine], norm.bias[mine]
        )
        parts.append(nn.functional.conv2d(y.relu(), second.weight[out], second.bias[out], padding=1))
    torch.testing.assert_close(net.heads(x), torch.cat(parts, dim=1), atol=1e-5, rtol=0)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 3), st.integers(1, 3), st.sampled_from([(1, 2), (1,)]), st.sampled_from(["symmetric", "zero"]))
def test_any_multiple_of_sixteen_decodes(a: int, b: int, networks: tuple[int, ...], boundary: Boundary) -> None:
    model = tiny(UNetWConfig(width=8, networks=networks, boundary=boundary))
    low = torch.rand(2, 3, 16 * a, 16 * b, generator=torch.Generator().manual_seed(a + 4 * b))
    out = model(low)
    assert out.shape == (2, 3, 64 * a, 64 * b) and out.isfinite().all()
    torch.testing.assert_close(model(low[1:]), out[1:], atol=1e-5, rtol=0)
    assert model.info.halo is None and model.info.multiple == 16


def test_forward_step_by_step() -> None:
    """The decoder is: patches, network 1, both into network 2, composition; the low band itself is kept."""
    model, low = tiny(), torch.rand(1, 3, 32, 16)
    assert model.network1 is not None and model.network2 is not None
    patches = low_patches(low)
    coarse = model.network1(patches)
    fine = model.network2(torch.cat((patches, coarse), dim=1))
    out = model(low)
    torch.testing.assert_close(out, compose(low, coarse, fine), atol=1e-6, rtol=0)
    torch.testing.assert_close(WaveletEncoder(2)(out), low, atol=1e-5, rtol=0)
    assert (out - make_iwt()(low)).abs().max() > 0.01  # so the networks did take part


def test_zeroed_networks_are_iwt() -> None:
    model: Any = tiny()
    for net in (model.network1, model.network2):
        nn.init.zeros_(net.heads[-1].weight)
        nn.init.zeros_(net.heads[-1].bias)
    low = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(model(low), make_iwt()(low), atol=1e-6, rtol=0)


def test_networks_trained_apart_are_joined() -> None:
    both: Any = tiny()
    first, second = (cast(Any, UNetW(UNetWConfig(width=8, networks=(n,))).eval()) for n in (1, 2))
    first.network1.load_state_dict(both.network1.state_dict())
    second.network2.load_state_dict(both.network2.state_dict())
    low = torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(join_networks(first, second)(low), both(low), atol=0, rtol=0)
    with pytest.raises(UsageError, match="network 2 alone"):
        second(low)
    with pytest.raises(UsageError, match="in this order"):
        join_networks(second, first)
    with pytest.raises(UsageError, match=r"width 8 .* has 4 and"):
        join_networks(first, UNetW(UNetWConfig(width=4, networks=(2,))))


def test_saved_and_loaded(tmp_path: Path) -> None:
    model, low = tiny(), torch.rand(1, 3, 16, 16)
    loaded = load_component(save_component(model, tmp_path / "u.safetensors"), kind="decoder")
    assert isinstance(loaded, UNetW) and loaded.config == TINY
    torch.testing.assert_close(loaded(low), model(low), atol=0, rtol=0)


def test_bad_settings_are_one_sentence() -> None:
    for key, value in (("width", 7), ("networks", [3]), ("boundary", "mirror")):
        with pytest.raises((CheckpointError, UsageError), match=rf"{key}|boundary"):
            build_component({"arch": "unet-w", key: value})


def test_half_precision() -> None:
    model, low = tiny(), torch.rand(1, 3, 16, 16)
    want = model(low)
    out = model.bfloat16()(low.bfloat16())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), want, atol=0.1, rtol=0)


def test_gradients_reach_every_weight() -> None:
    model = tiny().train()
    model(torch.rand(2, 3, 16, 16)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_patch_net_is_shape_generic() -> None:
    net = PatchUNet(4, 12, 8).eval()
    for h, w in ((8, 8), (9, 15), (11, 20)):
        assert net(torch.rand(1, 12, h, w)).shape == (1, 36, h, w)

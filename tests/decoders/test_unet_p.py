"""UNet-P: size of the paper, an independent writing of the network, registration, decoding, files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from nsbgan_infer.decoders.interpolate import make_iwt
from nsbgan_infer.decoders.unet_p import UNetP, UNetPConfig, double
from nsbgan_infer.encoders import PixelEncoder
from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.storage.components import build_component, load_component, save_component

TINY = UNetPConfig(width=2)


def tiny(config: UNetPConfig = TINY) -> UNetP:
    torch.manual_seed(0)
    model = UNetP(config).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 2)
    return model


def test_size_of_the_paper() -> None:
    with torch.device("meta"):
        model = UNetP(UNetPConfig())
    assert [sum(p.numel() for p in n.parameters()) for n in model.networks.values()] == [17_269_059] * 2


def plain_unet(net: Any, x: Tensor) -> Tensor:
    """Spec 4.1 and 4.6 written out with functions, from the weights of `net`."""

    def convs(seq: Any, x: Tensor) -> Tensor:
        for conv, norm in ((seq[0], seq[1]), (seq[3], seq[4])):
            x = F.conv2d(x, conv.weight, conv.bias, padding=1)
            scale = norm.weight / (norm.running_var + 1e-5).sqrt()
            x = ((x - norm.running_mean[:, None, None]) * scale[:, None, None] + norm.bias[:, None, None]).clamp(min=0)
        return x

    maps = [convs(net.inc, x)]
    for down in net.downs:
        maps.append(convs(down.convs, F.max_pool2d(maps[-1], 2)))
    y = maps.pop()
    for up in net.ups:
        size = (2 * y.shape[-2], 2 * y.shape[-1])
        y = F.interpolate(y, size, mode="bilinear", align_corners=True)
        y = convs(up.convs, torch.cat((maps.pop(), y), dim=1))
    return F.conv2d(y, net.out.weight, net.out.bias, padding=1)


def test_network_equals_its_description() -> None:
    net, x = tiny().networks["1"], torch.rand(2, 3, 32, 48)
    torch.testing.assert_close(net(x), plain_unet(net, x), atol=1e-5, rtol=0)


def test_odd_sizes_pass_through_the_network() -> None:
    net = tiny().networks["1"]
    for h, w in ((16, 16), (17, 31), (35, 50)):
        assert net(torch.rand(1, 3, h, w)).shape == (1, 3, h, w)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 4), st.integers(1, 4), st.sampled_from([(1, 2), (1,), (2,)]))
def test_any_multiple_of_eight_decodes(a: int, b: int, networks: tuple[int, ...]) -> None:
    model = tiny(UNetPConfig(width=2, networks=networks))
    low = torch.rand(2, 3, 8 * a, 8 * b, generator=torch.Generator().manual_seed(a + 4 * b))
    scale = 2 ** len(networks)
    out = model(low)
    assert out.shape == (2, 3, 8 * a * scale, 8 * b * scale) and out.isfinite().all()
    assert model.info.scale == scale and model.info.multiple == 8 and model.info.halo is None
    torch.testing.assert_close(model(low[1:]), out[1:], atol=1e-5, rtol=0)


def test_two_steps_with_their_own_weights() -> None:
    model, low = tiny(), torch.rand(1, 3, 16, 16)
    out = double(model.networks["2"], double(model.networks["1"], low))
    torch.testing.assert_close(model(low), out, atol=0, rtol=0)
    swapped = double(model.networks["1"], double(model.networks["2"], low))
    assert (swapped - out).abs().max() > 1e-3


def test_registration_of_the_enlarged_input() -> None:
    """With a zero residual a smooth ramp comes back from the Gaussian encoder where it was (spec section 8, row 7)."""
    model: Any = tiny()
    for net in model.networks.values():
        nn.init.zeros_(net.out.weight)
        nn.init.zeros_(net.out.bias)
    ramp = (0.2 + 0.004 * torch.arange(128.0)).expand(1, 3, 128, 128)
    back = model(PixelEncoder(2)(ramp))
    torch.testing.assert_close(back[..., 16:-16], ramp[..., 16:-16], atol=1e-5, rtol=0)
    torch.testing.assert_close(back, make_iwt()(PixelEncoder(2)(ramp)), atol=1e-6, rtol=0)


def test_saved_and_loaded(tmp_path: Path) -> None:
    model, low = tiny(), torch.rand(1, 3, 16, 16)
    loaded = load_component(save_component(model, tmp_path / "folder").parent, kind="decoder")
    assert isinstance(loaded, UNetP) and loaded.config == TINY
    torch.testing.assert_close(loaded(low), model(low), atol=0, rtol=0)


def test_bad_settings_are_one_sentence() -> None:
    for key, value in (("width", 0), ("networks", [1, 2, 3])):
        with pytest.raises(CheckpointError, match=key):
            build_component({"arch": "unet-p", key: value})


def test_half_precision_and_gradients() -> None:
    model, low = tiny(), torch.rand(2, 3, 16, 16)
    want = model(low)
    assert model.train()(low).square().mean().backward() is None
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    out = tiny().bfloat16()(low.bfloat16())
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), want, atol=0.1, rtol=0)

"""Losses, perceptual distances and the discriminator of the decoders' adversarial stage."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nsbgan_infer.errors import CheckpointError, UsageError
from nsbgan_infer.training.decoders.discriminators import VggDiscriminator
from nsbgan_infer.training.decoders.losses import discriminator_loss, generator_loss, lattice_loss, pixel_loss
from nsbgan_infer.training.decoders.perceptual import LiteDistance, PerceptualName, Vgg19Distance, make_perceptual

COVERS = ["training.decoders.discriminators", "training.decoders.perceptual"]


def bce(logit: float, label: int) -> float:
    return math.log1p(math.exp(-logit if label else logit))


def test_relativistic_losses_by_hand() -> None:
    real, fake = torch.tensor([[1.0], [3.0]]), torch.tensor([[-1.0], [0.5]])
    mr, mf = 2.0, -0.25
    g = [bce(1 - mf, 0) + bce(3 - mf, 0), bce(-1 - mr, 1) + bce(0.5 - mr, 1)]
    d = [bce(1 - mf, 1) + bce(3 - mf, 1), bce(-1 - mr, 0) + bce(0.5 - mr, 0)]
    assert generator_loss(real, fake).item() == pytest.approx(sum(g) / 4, rel=1e-5)
    assert discriminator_loss(real, fake).item() == pytest.approx(sum(d) / 4, rel=1e-5)


def test_gradients_of_the_relativistic_losses() -> None:
    """The decoder's loss reaches fake logits directly and through their mean, never the real ones."""
    real, fake = torch.randn(4, 1, requires_grad=True), torch.randn(4, 1, requires_grad=True)
    generator_loss(real, fake).backward()
    assert real.grad is None
    a, b = torch.sigmoid(real.detach() - fake.detach().mean()), torch.sigmoid(fake.detach() - real.detach().mean())
    assert torch.allclose(fake.grad, -a.mean() / 8 + (b - 1) / 8, atol=1e-6)  # type: ignore[arg-type]
    fake.grad = None
    discriminator_loss(real, fake).backward()  # the means are constants here
    assert torch.allclose(real.grad, (torch.sigmoid(real - fake.mean()) - 1) / 8, atol=1e-6)  # type: ignore[arg-type]


def test_pixel_losses() -> None:
    a, b = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 1.0]])
    assert pixel_loss(a, b, "l1").item() == pytest.approx(0.25)
    assert pixel_loss(a, b, "mse").item() == pytest.approx(0.125)
    assert pixel_loss(a, b, "charbonnier").item() == pytest.approx((math.sqrt(0.25 + 1e-6) + 1e-3) / 2)
    with pytest.raises(UsageError, match="charbonnier"):
        pixel_loss(a, b, "l2")  # type: ignore[arg-type]


def test_discriminator_has_the_published_size() -> None:
    judge = VggDiscriminator(256)
    assert sum(p.numel() for p in judge.parameters()) == 21_055_049
    kernels = [tuple(m.weight.shape) for m in judge.features if isinstance(m, torch.nn.Conv2d)]
    assert kernels[0] == (64, 3, 3, 3) and kernels[-1] == (512, 512, 4, 4) and len(kernels) == 12
    assert judge.features[0].bias is not None and judge.features[2].bias is None


@pytest.mark.parametrize("size", [16, 32, 64, 128])
def test_discriminator_at_other_sizes(size: int) -> None:
    judge = VggDiscriminator(size, width=2).eval()
    assert judge(torch.rand(2, 3, size, size)).shape == (2, 1)
    last = torch.nn.Sequential(*judge.features)(torch.rand(1, 3, size, size))
    assert last.shape[-2:] == (4, 4)


@pytest.mark.parametrize("size", [8, 96, 100])
def test_discriminator_refuses_sizes_that_do_not_end_at_four(size: int) -> None:
    with pytest.raises(UsageError, match="4 x 4"):
        VggDiscriminator(size)
    with pytest.raises(UsageError, match="got"):
        VggDiscriminator(16, width=1)(torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize("name", ["lite0", "lite1"])
def test_lite_distance_is_zero_at_the_truth_and_grows(name: PerceptualName) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    distance = make_perceptual(name)
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 64, 64)
    decoded = (picture + 0.1 * torch.randn_like(picture)).requires_grad_()
    near, far = distance(decoded, picture), distance(picture + 0.5 * torch.randn_like(picture), picture)
    near.backward()
    assert distance(picture, picture) == 0 and 0 < near < far
    assert decoded.grad is not None and decoded.grad.abs().sum() > 0
    assert not any(p.requires_grad for p in distance.parameters())


@pytest.mark.parametrize("name", ["lite0", "lite1"])
def test_lite_taps_are_what_enters_each_halving_block(name: PerceptualName) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    distance = make_perceptual(name)
    assert isinstance(distance, LiteDistance)
    shapes = [tuple(t.shape[1:]) for t in distance._taps(torch.rand(1, 3, 64, 64))]
    assert shapes == [(16, 32, 32), (24, 16, 16), (40, 8, 8), (112, 4, 4)]


def test_lattice_loss_sees_a_regular_pattern_and_not_noise() -> None:
    torch.manual_seed(0)
    picture = torch.rand(1, 3, 128, 128)
    dots = torch.zeros(4, 4)
    dots[1, 2], dots[3, 0] = 0.1, -0.1
    lattice = picture + dots.repeat(32, 32)
    irregular = picture + dots.flatten()[torch.randint(16, (128, 128))]
    assert lattice_loss(picture, picture, 4) == 0
    assert lattice_loss(lattice, picture, 4).item() == pytest.approx(0.2 / 16)  # two of sixteen places are off by 0.1
    assert lattice_loss(irregular, picture, 4) < 0.5 * lattice_loss(lattice, picture, 4)


@pytest.fixture(scope="module")
def vgg_state() -> dict[str, torch.Tensor]:
    """Random weights in torchvision's layout (each shared by reference, so the file is what costs memory)."""
    torch.manual_seed(0)
    return Vgg19Distance().state_dict()


def test_vgg19_reads_torchvision_files(tmp_path: Path, vgg_state: dict[str, torch.Tensor]) -> None:
    """The tap is features.34, before its ReLU; the classifier's weights in the file are not needed."""
    convs = [k for k in vgg_state if k.endswith("weight")]
    assert convs[-1] == "features.34.weight" and len(convs) == 16
    state = {k: v.half() for k, v in vgg_state.items()} | {"classifier.0.weight": torch.zeros(2, 2).half()}
    file = tmp_path / "vgg.pth"
    torch.save(state, file)
    distance = make_perceptual("vgg19", str(file))
    a, b = torch.rand(2, 1, 3, 32, 32)
    value = distance(a, b)
    assert isinstance(distance, Vgg19Distance)
    net = distance.features
    mean, deviation = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    fa, fb = (net((x - mean.view(3, 1, 1)) / deviation.view(3, 1, 1)) for x in (a, b))
    assert torch.allclose(value, (fa - fb).abs().mean()) and (fa < 0).any()


def test_vgg19_file_errors(tmp_path: Path, vgg_state: dict[str, torch.Tensor]) -> None:
    with pytest.raises(UsageError, match="perceptual_file"):
        make_perceptual("vgg19")
    with pytest.raises(CheckpointError, match="Cannot read"):
        make_perceptual("vgg19", str(tmp_path / "absent.pth"))
    save_file({k: v for k, v in vgg_state.items() if "features.0." in k}, tmp_path / "part.safetensors")
    with pytest.raises(CheckpointError, match="missing features"):
        make_perceptual("vgg19", str(tmp_path / "part.safetensors"))
    with pytest.raises(UsageError, match="lite0"):
        make_perceptual("alexnet")  # type: ignore[arg-type]

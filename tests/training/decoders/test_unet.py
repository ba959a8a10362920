"""The UNet trainers on small pictures: losses fall, checkpoints load, runs resume, mixing, several processes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import run_alone, run_ranks
from PIL import Image
from torch import nn

from nsbgan_infer.decoders.unet_p import UNetP
from nsbgan_infer.decoders.unet_w import UNetW, details_of
from nsbgan_infer.encoders import WaveletEncoder
from nsbgan_infer.errors import CheckpointError, ImageFileError, UnknownNameError, UsageError
from nsbgan_infer.registry import load_decoder
from nsbgan_infer.storage.components import load_component
from nsbgan_infer.training.decoders.batchnorm import with_global_batch_norm
from nsbgan_infer.training.decoders.unet import UNetSettings, UNetTask, mixed, train_unet
from nsbgan_infer.training.decoders.unet_presets import NETWORKS, PRESETS, TABLE, preset_row, unet_settings
from nsbgan_infer.training.loop import make_accelerator

COVERS = ["training.decoders.batchnorm", "training.decoders.unet_presets"]

pytest.importorskip("accelerate")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Six pictures of soft coloured shapes, 96 x 96: structure that details can be predicted from."""
    folder = tmp_path_factory.mktemp("pictures")
    y, x = np.mgrid[0:96, 0:96] / 96
    for n in range(6):
        rng = np.random.default_rng(n)
        rings = [np.sin(rng.uniform(10, 40) * np.hypot(y - rng.random(), x - rng.random())) for _ in range(3)]
        Image.fromarray((127 + 120 * np.stack(rings, -1)).astype(np.uint8)).save(folder / f"{n}.png")
    return str(folder)


def settings_for(arch: str, level: int, data: str, out: Path, **overrides: Any) -> UNetSettings:
    loop = {"quiet": True, "tensorboard": False, "device": "cpu", **overrides.pop("loop", {})}
    base = unet_settings("tiny", arch=arch, level=level, data=(data,), out=out, level1=overrides.pop("level1", ""))
    return replace(base, loop=replace(base.loop, **loop), **overrides)


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(("arch", "level"), NETWORKS)
def test_tiny_lowers_its_loss_and_the_result_loads(arch: str, level: int, pictures: str, tmp_path: Path) -> None:
    """50 steps of `tiny`; what is saved is a decoder like any other (network 2 of unet-w needs network 1 to decode)."""
    model = train_unet(settings_for(arch, level, pictures, tmp_path))
    found = losses(tmp_path)
    assert len(found) == 10 and found[-1] < 0.7 * found[0], found
    decoder: Any = load_decoder(str(tmp_path))
    assert decoder.info.name == tmp_path.name and model.config == decoder.config
    if (arch, level) != ("unet-w", 2):
        scale = decoder.info.scale
        assert decoder(torch.rand(1, 3, 16, 32)).shape == (1, 3, 16 * scale, 32 * scale)
    assert {p.name for p in (tmp_path / "sheets").iterdir()} >= {"step-0000024.png", "step-0000050.png"}


@pytest.mark.parametrize("arch", ["unet-w", "unet-p"])
def test_level_two_on_predicted_details_saves_both_networks(arch: str, pictures: str, tmp_path: Path) -> None:
    train_unet(settings_for(arch, 1, pictures, tmp_path / "1", loop={"steps": 3}))
    level2 = settings_for(
        arch, 2, pictures, tmp_path / "2", level1=str(tmp_path / "1"), true_share=0.5, loop={"steps": 3}
    )
    train_unet(level2)
    first, both = (load_component(tmp_path / n) for n in "12")
    assert both.config.networks == (1, 2) and load_decoder(str(tmp_path / "2")).info.scale == 4
    new = both.state_dict()
    assert all(torch.equal(new[k], v) for k, v in first.state_dict().items())  # network 1 is frozen, its statistics too
    assert both(torch.rand(1, 3, 16, 16)).shape == (1, 3, 64, 64)


def test_loss_is_the_mean_over_all_patches(pictures: str, tmp_path: Path) -> None:
    """Against zero predictions the loss is the mean square of the packets, whatever their number (spec 8, row 19)."""
    for level, index in ((1, 1), (2, 0)):
        task: Any = UNetTask(settings_for("unet-w", level, pictures, tmp_path), make_accelerator("cpu"))
        net = task.network.network1 if level == 1 else task.network.network2
        nn.init.zeros_(net.heads[-1].weight)
        nn.init.zeros_(net.heads[-1].bias)
        picture = task.batches(0)
        loss = task.side.loss(picture, torch.ones(4, dtype=torch.bool))
        patches = task.side._patches(picture)
        bands = details_of(patches.coarse, patches.fine)[1 - index]
        torch.testing.assert_close(bands, WaveletEncoder(2).pyramid(picture).details[index], atol=1e-6, rtol=0)
        torch.testing.assert_close(loss, (patches.coarse, patches.fine)[1 - index].square().mean())


def test_pixel_targets_are_the_encoders_pictures(pictures: str, tmp_path: Path) -> None:
    from nsbgan_infer.decoders.interpolate import make_iwt
    from nsbgan_infer.encoders import PixelEncoder

    for level in (1, 2):
        task: Any = UNetTask(settings_for("unet-p", level, pictures, tmp_path), make_accelerator("cpu"))
        net = task.network.networks[str(level)]
        nn.init.zeros_(net.out.weight)
        nn.init.zeros_(net.out.bias)
        picture = task.batches(0)
        small, target = PixelEncoder(2)(picture), PixelEncoder(1)(picture)
        if level == 2:
            small, target = target, picture
        want = (make_iwt(2)(small) - target).square().mean()
        torch.testing.assert_close(task.side.loss(picture, torch.ones(4, dtype=torch.bool)), want)


@pytest.mark.parametrize("level", [1, 2])
def test_even_scales(level: int, pictures: str, tmp_path: Path) -> None:
    """Inputs come to mean 0 and deviation 1 patch by patch, gains are the targets' sizes, the output starts at 0."""
    task: Any = UNetTask(
        settings_for("unet-w", level, pictures, tmp_path, even_scales=True, batch=64), make_accelerator("cpu")
    )
    net = task.network.network1 if level == 1 else task.network.network2
    picture = task.batches(0)
    low, coarse, fine = task.side._patches(picture)
    inputs, targets = (low, coarse) if level == 1 else (torch.cat((low, coarse), dim=1), fine)
    seen = torch.unflatten((inputs - net.shift) / net.divisor, 1, (-1, 3))
    deviation, mean = torch.std_mean(seen, dim=(0, 2, 3, 4))
    torch.testing.assert_close(mean, torch.zeros_like(mean), atol=1e-4, rtol=0)
    torch.testing.assert_close(deviation, torch.ones_like(mean), atol=1e-4, rtol=0)
    sizes = torch.unflatten(targets, 1, (-1, 3)).square().mean(dim=(0, 2, 3, 4)).sqrt()
    torch.testing.assert_close(net.gain[::3, 0, 0], sizes.clamp(min=1e-3))
    assert net(inputs).abs().max() == 0
    raw: Any = UNetTask(settings_for("unet-w", level, pictures, tmp_path), make_accelerator("cpu"))
    net = raw.network.network1 if level == 1 else raw.network.network2
    assert net.gain.eq(1).all() and net.shift.eq(0).all() and net(inputs).abs().max() > 0


def test_rows_of_the_mix() -> None:
    truth, predicted = torch.zeros(4, 2, 3, 3), torch.ones(4, 2, 3, 3)
    rows = torch.tensor([True, False, False, True])
    assert mixed(truth, predicted, rows)[:, 0, 0, 0].tolist() == [0, 1, 1, 0]


def test_share_of_true_rows(pictures: str, tmp_path: Path) -> None:
    train_unet(settings_for("unet-w", 1, pictures, tmp_path / "1", loop={"steps": 1}))
    for share in (0.0, 0.25, 1.0):
        settings = settings_for("unet-w", 2, pictures, tmp_path, level1=str(tmp_path / "1"), true_share=share, batch=64)
        task = UNetTask(settings, make_accelerator("cpu"))
        rows = torch.cat([task.true_rows(step) for step in range(20)])
        assert abs(rows.float().mean().item() - share) < 0.05
        assert torch.equal(task.true_rows(3), task.true_rows(3))
        assert share in (0.0, 1.0) or not torch.equal(task.true_rows(3), task.true_rows(4))


def test_a_stopped_run_goes_on_to_the_same_weights(pictures: str, tmp_path: Path) -> None:
    train_unet(settings_for("unet-w", 1, pictures, tmp_path / "whole", loop={"steps": 6, "save_every": 2}))
    stopped = settings_for(
        "unet-w", 1, pictures, tmp_path / "parts", loop={"steps": 6, "save_every": 2, "stop_after": 3}
    )
    train_unet(stopped)
    train_unet(replace(stopped, loop=replace(stopped.loop, stop_after=0)))
    whole, parts = (load_component(tmp_path / n).state_dict() for n in ("whole", "parts"))
    assert all(torch.equal(whole[k], parts[k]) for k in whole)


def test_global_batch_norm_in_one_process_is_batch_norm() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    other = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.ReLU()))
    other.load_state_dict(plain.state_dict())
    with_global_batch_norm(other)
    for mode in (True, False):
        x = torch.rand(4, 3, 9, 9)
        plain.train(mode), other.train(mode)
        torch.testing.assert_close(other(x), plain(x), atol=1e-5, rtol=0)
        for a, b in zip(plain.state_dict().items(), other.state_dict().items(), strict=True):
            assert a[0] == b[0]
            torch.testing.assert_close(a[1], b[1], atol=1e-6, rtol=0)


PROCESS = """
import sys
from dataclasses import replace
from pathlib import Path
import torch.distributed as dist
from nsbgan_infer.training.decoders.unet import train_unet
from nsbgan_infer.training.decoders.unet_presets import unet_settings
settings = unet_settings("tiny", arch="unet-w", level=1, data=(sys.argv[1],), out=Path(sys.argv[2]))
loop = replace(settings.loop, steps=5, device="cpu", quiet=True, tensorboard=False)
train_unet(replace(settings, loop=loop, lr=1e-4))
if dist.is_initialized():
    dist.destroy_process_group()
"""


def test_two_processes_give_the_weights_of_one(pictures: str, tmp_path: Path) -> None:
    """The same global batch, batch norm included: within 1e-5 after five steps."""
    run_ranks(PROCESS, pictures, str(tmp_path / "two"))
    run_alone(PROCESS, pictures, str(tmp_path / "one"))
    one, two = (load_component(tmp_path / n).state_dict() for n in ("one", "two"))
    for key, value in one.items():
        torch.testing.assert_close(two[key], value, atol=1e-5, rtol=1e-5)


def test_biases_before_batch_norm_have_no_gradient_and_are_frozen(pictures: str, tmp_path: Path) -> None:
    task: Any = UNetTask(settings_for("unet-w", 1, pictures, tmp_path), make_accelerator("cpu"))
    frozen = [p for p in task.network.parameters() if not p.requires_grad]
    assert len(frozen) == 15  # two for each of 7 double convolutions, one for the heads
    for bias in frozen:
        bias.requires_grad_()
    task.side.loss(task.batches(0), torch.ones(4, dtype=torch.bool)).backward()
    assert all(p.grad.abs().max() < 1e-6 for p in frozen)
    assert sum(p.grad.abs().max() > 1e-4 for p in task.network.parameters()) > 30


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize(("arch", "level"), NETWORKS)
def test_every_preset_is_complete(preset: str, arch: str, level: int) -> None:
    level1 = "somewhere" if level == 2 else ""
    settings = unet_settings(preset, arch=arch, level=level, data=("x",), out=Path("y"), level1=level1)
    row = preset_row(preset, arch, level)
    assert settings.loop.steps == row["steps"] and settings.width == row["width"]
    assert all(source for rows in TABLE.values() for _, source in rows.values())


def test_paper_values() -> None:
    """Tables 8 and 9."""
    rows = [preset_row("paper", *network) for network in NETWORKS]
    assert [r["steps"] for r in rows] == [288_000, 232_000, 615_000, 178_000]
    assert [r["batch"] for r in rows] == [128, 64, 64, 64]
    assert all(r["lr"] == 1e-4 and r["betas"] == (0.9, 0.999) for r in rows)


def test_overrides(tmp_path: Path) -> None:
    overrides = {"lr": 2e-4, "loop": {"steps": 7}, "schedule": {"name": "constant"}, "true_share": 1.0}
    settings = unet_settings("small", arch="unet-w", level=2, data=("x",), out=tmp_path, overrides=overrides)
    assert (settings.lr, settings.loop.steps, settings.schedule.name) == (2e-4, 7, "constant")


def test_bad_settings_are_refused_before_work(pictures: str, tmp_path: Path) -> None:
    ask: dict[str, Any] = {"data": (pictures,), "out": tmp_path}
    with pytest.raises(UnknownNameError, match="tiny"):
        unet_settings("tinny", arch="unet-w", level=1, **ask)
    with pytest.raises(UnknownNameError, match="unet-w level 3"):
        unet_settings("tiny", arch="unet-w", level=3, **ask)
    with pytest.raises(UsageError, match="needs a trained network 1"):
        unet_settings("small", arch="unet-w", level=2, **ask)
    with pytest.raises(UsageError, match="Training needs pictures"):
        unet_settings("tiny", arch="unet-w", level=1, data=(), out=tmp_path)
    base = unet_settings("tiny", arch="unet-w", level=1, **ask)
    for change, message in (
        ({"crop": 24}, "multiple of 16"),
        ({"lr": 0.0}, "positive"),
        ({"true_share": 2.0}, "from 0 to 1"),
        ({"level1": "x"}, "leave it out"),
    ):
        with pytest.raises(UsageError, match=message):
            replace(base, **change)


def test_level1_of_another_kind_is_refused(pictures: str, tmp_path: Path) -> None:
    train_unet(settings_for("unet-w", 1, pictures, tmp_path / "1", loop={"steps": 1}))
    level1 = str(tmp_path / "1")
    for arch, overrides, message in (
        ("unet-p", {}, "holds a unet-w, not a unet-p"),
        ("unet-w", {"width": 4}, "width 8"),
    ):
        settings = settings_for(arch, 2, pictures, tmp_path / "2", level1=level1, true_share=0.5, **overrides)
        with pytest.raises(UsageError, match=message):
            train_unet(settings)
    with pytest.raises(CheckpointError, match="No such weights"):
        train_unet(settings_for("unet-w", 2, pictures, tmp_path / "2", level1=str(tmp_path / "none")))
    assert not any((tmp_path / "2").iterdir())


def test_a_bad_picture_is_named_before_step_0(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Image.new("RGB", (96, 96)).save(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"no picture")
    Image.new("RGB", (40, 96)).save(tmp_path / "in" / "small.png")
    with pytest.raises(ImageFileError, match=r"(?s)bad\.png.*small\.png is 40 x 96"):
        train_unet(settings_for("unet-w", 1, str(tmp_path / "in"), tmp_path / "out"))
    assert not any((tmp_path / "out").iterdir())


def test_a_folder_of_another_run_is_refused_before_a_picture_is_opened(pictures: str, tmp_path: Path) -> None:
    train_unet(settings_for("unet-p", 1, pictures, tmp_path, loop={"steps": 1}))
    with pytest.raises(UsageError, match=r"holds a run with lr = .*, now it is 0\.5"):
        train_unet(settings_for("unet-p", 1, str(tmp_path / "no pictures"), tmp_path, loop={"steps": 1}, lr=0.5))


def test_classes_of_the_saved_networks(pictures: str, tmp_path: Path) -> None:
    for arch, kind in (("unet-w", UNetW), ("unet-p", UNetP)):
        assert type(train_unet(settings_for(arch, 1, pictures, tmp_path / arch, loop={"steps": 1}))) is kind

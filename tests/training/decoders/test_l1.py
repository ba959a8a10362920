"""The decoder trainers: they learn, resume, agree over processes, and refuse what cannot work."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import COMMAND, run_alone, run_ranks
from PIL import Image

from nsbgan_infer.datasets import to_tensor
from nsbgan_infer.encoders.reduce import make_reducer
from nsbgan_infer.errors import CheckpointError, ImageFileError, UsageError
from nsbgan_infer.registry import load_decoder
from nsbgan_infer.storage.components import component_config, load_component
from nsbgan_infer.training.decoders.adversarial import (
    AdversarialSettings,
    interpolate_weights,
    moved,
    train_adversarial,
)
from nsbgan_infer.training.decoders.l1 import NETWORKS, DecoderSettings, make_network, train_decoder
from nsbgan_infer.training.decoders.presets import PRESETS, adversarial_settings, decoder_settings
from nsbgan_infer.training.run_folder import CHECKPOINT

COVERS = ["training.decoders.adversarial", "training.decoders.presets", "encoders.reduce"]

QUIET = {"loop": {"quiet": True, "tensorboard": False, "device": "cpu"}}


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures with edges, so that there are details to learn."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i in range(4):
        coarse = rng.integers(0, 256, (10, 12, 3), np.uint8)
        Image.fromarray(coarse).resize((96, 80), Image.Resampling.NEAREST).save(folder / f"{i}.png")
    return folder


def tiny(photos: Path, out: Path, arch: str = "subband-w", **overrides: Any) -> DecoderSettings:
    loop = {**QUIET["loop"], "steps": 12, "log_every": 1, "save_every": 5, **overrides.pop("loop", {})}
    return decoder_settings(
        "tiny", arch=arch, data=(str(photos),), out=out, overrides={"batch": 2, "crop": 8, **overrides, "loop": loop}
    )


def losses(out: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (out / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def l1_run(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("l1")
    train_decoder(tiny(photos, out))
    return out


@pytest.mark.parametrize("arch", [n for n in NETWORKS if not n.startswith(("photo", "rrdb"))])
def test_l1_lowers_the_loss_and_loads_as_a_decoder(photos: Path, tmp_path: Path, arch: str) -> None:
    train_decoder(tiny(photos, tmp_path, arch, loop={"steps": 60, "save_every": 60, "sheet_every": 60}, lr=3e-3))
    found = losses(tmp_path)
    assert sum(found[-10:]) < 0.97 * sum(found[:10])
    decoder = load_decoder(str(tmp_path))
    assert decoder.info.name == tmp_path.name and decoder.info.basis == ("pixel" if arch.endswith("-p") else "wavelet")
    assert decoder(torch.rand(1, 3, 9, 8)).shape == (1, 3, 36, 32)
    with Image.open(tmp_path / "sheets" / "step-0000060.png") as sheet:
        assert sheet.size == (8 * 32, 3 * 32)


@pytest.mark.parametrize("arch", ["photo", "photo-fast"])
def test_photo_decoders_learn_to_beat_bicubic_interpolation(
    photos: Path, l1_run: Path, tmp_path: Path, arch: str
) -> None:
    """From the body of a sub-band decoder; untrained they are bicubic interpolation."""
    settings = tiny(photos, tmp_path, arch, start=str(l1_run), ema=0.9, loop={"steps": 60, "save_every": 60}, lr=3e-3)
    begin = make_network(settings)
    assert torch.equal(begin.conv_body.weight, load_component(l1_run).conv_body.weight)  # type: ignore[arg-type, union-attr]
    train_decoder(settings)
    decoder = load_decoder(str(tmp_path))
    assert decoder.info.name == tmp_path.name and decoder.info.reads == "bicubic"
    picture = torch.stack([to_tensor(Image.open(f)) for f in sorted(photos.iterdir())])
    low_band = make_reducer("bicubic", 4)(picture)
    with torch.no_grad():
        before, after = ((d(low_band) - picture).abs().mean() for d in (begin, decoder))
    assert after < 0.98 * before


def test_the_photo_decoder_can_enlarge_by_three(photos: Path, l1_run: Path, tmp_path: Path) -> None:
    settings = tiny(photos, tmp_path, "photo", scale=3, start=str(l1_run), loop={"steps": 2, "sheet_every": 2})
    train_decoder(settings)
    decoder = load_decoder(str(tmp_path))
    assert decoder.info.scale == 3 and decoder(torch.rand(1, 3, 8, 9)).shape == (1, 3, 24, 27)
    with pytest.raises(UsageError, match="subband-w has no setting 'scale': it has blocks, channels"):
        tiny(photos, tmp_path, "subband-w", scale=2)


@pytest.mark.parametrize("optimiser", ["adam", "muon"])
def test_resumed_run_is_the_same_run(photos: Path, tmp_path: Path, optimiser: str) -> None:
    settings = tiny(photos, tmp_path / "whole", optimiser=optimiser, ema=0.9)
    whole = train_decoder(settings)
    cut = replace(settings, loop=replace(settings.loop, out=tmp_path / "cut"))
    train_decoder(replace(cut, loop=replace(cut.loop, stop_after=7)))
    parts = train_decoder(cut)
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")
    assert all(torch.equal(v, parts.state_dict()[k]) for k, v in whole.state_dict().items())


def test_workers_cut_the_same_windows_and_may_change_on_resume(photos: Path, tmp_path: Path) -> None:
    """By the command, in processes of their own: workers are forked, which this process should not be."""
    train_decoder(tiny(photos, tmp_path / "thread", loop={"steps": 6}))
    arguments = ["train", "decoder", "--preset", "tiny", "--data", str(photos), "--steps", "6", "--device", "cpu", "-q"]
    for workers, stop in ((2, 3), (1, 0)):
        config = tmp_path / f"{workers}.toml"
        loop = f"log_every = 1\nsave_every = 5\ntensorboard = false\nstop_after = {stop}\n"
        config.write_text(f"batch = 2\ncrop = 8\nworkers = {workers}\n[loop]\n{loop}")
        run_alone(COMMAND, *arguments, "--config", str(config), "-o", str(tmp_path / "workers"), "--resume")
    assert losses(tmp_path / "workers") == pytest.approx(losses(tmp_path / "thread"), rel=1e-5)
    with pytest.raises(UsageError, match="workers"):
        tiny(photos, tmp_path, workers=-1)


def test_start_begins_with_the_weights_of_another_run(photos: Path, l1_run: Path, tmp_path: Path) -> None:
    settings = replace(tiny(photos, tmp_path), start=str(l1_run), name="next", licence="mine")
    network = make_network(settings)
    assert component_config(network)["name"] == "next" and component_config(network)["licence"] == "mine"
    given = load_component(l1_run).state_dict()
    assert all(torch.equal(v, given[k]) for k, v in network.state_dict().items())


def test_adversarial_stage_changes_both_networks_and_resumes(photos: Path, l1_run: Path, tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    base = tiny(photos, tmp_path / "whole", loop={"steps": 6, "save_every": 4})
    settings = AdversarialSettings(replace(base, start=str(l1_run), name="sharp"), width=2, lattice_weight=2.0, shift=8)
    whole = train_adversarial(settings)
    state = torch.load(tmp_path / "whole" / CHECKPOINT, weights_only=True)["task"]
    before = load_component(l1_run).state_dict()
    assert all(v.isfinite().all() for v in whole.state_dict().values())
    assert not torch.equal(before["conv_last.weight"], whole.state_dict()["conv_last.weight"])
    logged = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert logged[0]["judge"] != logged[-1]["judge"] and {"l1", "perceptual", "adversarial"} <= set(logged[0])
    for line in logged:
        total = 1e-2 * line["l1"] + line["perceptual"] + 5e-3 * line["adversarial"] + 2.0 * line["lattice"]
        assert line["loss"] == pytest.approx(total, rel=1e-4)

    cut = replace(settings, decoder=replace(settings.decoder, loop=replace(base.loop, out=tmp_path / "cut")))
    short = replace(cut, decoder=replace(cut.decoder, loop=replace(cut.loop, stop_after=3)))
    train_adversarial(short)
    first = torch.load(tmp_path / "cut" / CHECKPOINT, weights_only=True)["task"]["judge"]
    train_adversarial(cut)
    again = torch.load(tmp_path / "cut" / CHECKPOINT, weights_only=True)["task"]["judge"]
    assert all(torch.equal(v, again[k]) for k, v in state["judge"].items())
    assert not torch.equal(first["linear2.weight"], again["linear2.weight"])
    assert losses(tmp_path / "cut") == losses(tmp_path / "whole")


def test_moved_shows_every_place_of_the_same_window() -> None:
    picture = torch.arange(12 * 12.0).view(1, 1, 12, 12)
    places = {tuple(moved(4, step, picture, -picture)[0][0, 0, 0, :1].tolist()) for step in range(16)}
    assert places == {(float(12 * top + left),) for top in range(4) for left in range(4)}
    a, b = moved(4, 7, picture, -picture)
    assert a.shape[-2:] == (8, 8) and torch.equal(a, -b)
    assert moved(0, 3, picture)[0] is picture


def test_interpolation_of_weights(photos: Path, l1_run: Path, tmp_path: Path) -> None:
    train_decoder(tiny(photos, tmp_path / "b", name="second", loop={"seed": 1, "steps": 5}))
    a, b = load_component(l1_run), load_component(tmp_path / "b")
    for alpha in (0.0, 0.25, 1.0):
        mixed = interpolate_weights(l1_run, tmp_path / "b", alpha, tmp_path / f"{alpha}.safetensors")
        for key, value in load_component(tmp_path / f"{alpha}.safetensors").state_dict().items():
            assert torch.allclose(value, (1 - alpha) * a.state_dict()[key] + alpha * b.state_dict()[key], atol=1e-7)
        assert mixed.config.name == "second"
    with pytest.raises(UsageError, match="out of range"):
        interpolate_weights(l1_run, tmp_path / "b", 1.5, tmp_path / "x")
    train_decoder(tiny(photos, tmp_path / "c", channels=4, loop={"steps": 1}))
    with pytest.raises(CheckpointError, match="different shape"):
        interpolate_weights(l1_run, tmp_path / "c", 0.5, tmp_path / "x")


def test_every_preset_makes_settings(tmp_path: Path) -> None:
    for preset in PRESETS:
        l1 = decoder_settings(preset, arch="resnet-w", data=("x",), out=tmp_path)
        gan = adversarial_settings(preset, arch="resnet-w", start=tmp_path, data=("x",), out=tmp_path)
        assert l1.loop.steps >= 50 and gan.decoder.start == str(tmp_path)
    paper = adversarial_settings("paper", arch="resnet-w", start=tmp_path, data=("x",), out=tmp_path)
    assert (paper.pixel_weight, paper.perceptual_weight, paper.adversarial_weight) == (1e-2, 1.0, 5e-3)
    assert paper.perceptual == "vgg19" and paper.width == 64 and paper.decoder.crop * 4 == 256
    assert paper.decoder.schedule.milestones == (50_000, 100_000, 200_000, 300_000)
    authors = decoder_settings("authors", arch="resnet-w", data=("x",), out=tmp_path)
    assert authors.schedule.name == "cosine" and authors.batch == 32 and authors.lr == 1e-4


def test_errors_come_before_step_0(photos: Path, l1_run: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad"
    bad.mkdir()
    for file in photos.iterdir():
        (bad / file.name).write_bytes(file.read_bytes())
    (bad / "2.png").write_bytes((photos / "2.png").read_bytes()[:200])
    with pytest.raises(ImageFileError, match=r"2\.png"):
        train_decoder(tiny(bad, tmp_path / "out"))
    with pytest.raises(ImageFileError, match="needs 128 pixels"):
        train_decoder(tiny(photos, tmp_path / "out", crop=32))
    assert not (tmp_path / "out" / "log.jsonl").exists()
    with pytest.raises(UsageError, match="No such file"):
        train_decoder(tiny(tmp_path / "absent", tmp_path / "out"))
    with pytest.raises(UsageError, match="did you mean subband-w"):
        tiny(photos, tmp_path, "subband")
    with pytest.raises(UsageError, match="Unknown preset"):
        decoder_settings("papr", arch="resnet-w", data=("x",), out=tmp_path)
    with pytest.raises(UsageError, match="at least one folder"):
        decoder_settings("tiny", arch="resnet-w", data=(), out=tmp_path)
    with pytest.raises(UsageError, match="start"):
        AdversarialSettings(tiny(photos, tmp_path))
    with pytest.raises(UsageError, match="shift 50"):
        AdversarialSettings(replace(tiny(photos, tmp_path), start=str(l1_run)), shift=50)
    with pytest.raises(UsageError, match="4 x 4"):
        train_adversarial(AdversarialSettings(replace(tiny(photos, tmp_path, crop=12), start=str(l1_run))))
    with pytest.raises(CheckpointError, match="do not fit"):
        train_decoder(replace(tiny(photos, tmp_path, channels=4), start=str(l1_run)))


PROCESS = """
import sys
from pathlib import Path
import torch
from nsbgan_infer.training.decoders.l1 import train_decoder
from nsbgan_infer.training.decoders.presets import decoder_settings
from nsbgan_infer.training.decoders.losses import discriminator_loss, generator_loss

photos, out = sys.argv[1:]
loop = {"quiet": True, "tensorboard": False, "device": "cpu", "steps": 8, "log_every": 4}
overrides = {"batch": 4, "crop": 8, "loop": loop}
train_decoder(decoder_settings("tiny", arch="subband-w", data=(photos,), out=Path(out), overrides=overrides))

# the relativistic means run over both processes, and so do their gradients
import torch.distributed as dist
rank, world = dist.get_rank(), dist.get_world_size()
logits = torch.linspace(-1, 2, 8).view(2, 4, 1)
real, fake = (x[rank::world].clone().requires_grad_() for x in logits)
for name, loss in (("g", generator_loss), ("d", discriminator_loss)):
    fake.grad = None
    value = loss(real, fake)
    value.backward()
    total = value.detach().clone()
    dist.all_reduce(total)
    torch.save((total / world, fake.grad / world), f"{out}/{name}{rank}.pt")
dist.destroy_process_group()
"""


def test_two_processes_are_one(photos: Path, tmp_path: Path) -> None:
    """Same weights as one process with the same global batch, and relativistic losses of the global batch."""
    from nsbgan_infer.training.decoders.losses import discriminator_loss, generator_loss

    both = tmp_path / "both"
    both.mkdir()
    run_ranks(PROCESS, str(photos), str(both))
    loop = {**QUIET["loop"], "steps": 8, "log_every": 4}
    overrides = {"batch": 4, "crop": 8, "loop": loop}
    one = train_decoder(
        decoder_settings("tiny", arch="subband-w", data=(str(photos),), out=tmp_path / "one", overrides=overrides)
    ).state_dict()
    two = load_component(both).state_dict()
    assert max(float((one[k] - two[k]).abs().max()) for k in one) <= 1e-5
    assert losses(both) == pytest.approx(losses(tmp_path / "one"), abs=1e-6)

    real, fake = torch.linspace(-1, 2, 8).view(2, 4, 1)
    fake.requires_grad_()
    for name, loss in (("g", generator_loss), ("d", discriminator_loss)):
        fake.grad = None
        value = loss(real, fake)
        value.backward()
        shares = [torch.load(both / f"{name}{r}.pt", weights_only=True) for r in range(2)]
        assert torch.allclose(shares[0][0], value.detach(), atol=1e-6)
        gathered = torch.stack([s[1] for s in shares], dim=1).flatten(0, 1)
        assert fake.grad is not None and torch.allclose(gathered, fake.grad, atol=1e-6)


def test_uneven_batches_are_refused(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nsbgan_infer.training.decoders.l1 import open_batches

    class Three:
        num_processes, process_index = 3, 0

    with pytest.raises(UsageError, match="does not divide into 3"):
        open_batches(tiny(photos, tmp_path), 32, Three())


def test_tiny_preset_on_real_photographs(shared_data: Path, tmp_path: Path) -> None:
    settings = decoder_settings(
        "tiny", arch="subband-w", data=(str(shared_data / "set5.zip"),), out=tmp_path, overrides=QUIET
    )
    train_decoder(settings)
    found = losses(tmp_path)
    assert len(found) == 10 and sum(found[-4:]) < sum(found[:4])

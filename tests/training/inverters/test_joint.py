"""A sampler and its inverter trained together: the losses as written down, resume, and what is saved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lowband_set import write_lowbands
from PIL import Image

from nsbgan_infer.errors import UsageError
from nsbgan_infer.inverters.conformance import check_inverter
from nsbgan_infer.registry import load_inverter, load_sampler
from nsbgan_infer.storage.components import weights_sha256
from nsbgan_infer.training.inverters.joint import JointSettings, PairDiscriminator, hinge, joint_settings, train_joint


@pytest.fixture(scope="module")
def bands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Low bands of 12 flat pictures of two classes, 32 x 32."""
    return write_lowbands(
        [Image.new("RGB", (64, 64), (20 * i, 120, 250 - 20 * i)) for i in range(12)], tmp_path_factory.mktemp("bands")
    )


def settings(bands: Path, out: Path) -> JointSettings:
    loop = {"steps": 2, "save_every": 1, "log_every": 1, "sheet_every": 2, "quiet": True, "tensorboard": False}
    return joint_settings(
        "tiny",
        data=str(bands),
        out=out,
        overrides={"loop": loop | {"device": "cpu"}, "width": 8, "channels": 4, "batch": 2},
    )


def test_a_stopped_run_ends_as_an_unbroken_one_and_both_parts_are_saved(bands: Path, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    whole = train_joint(settings(bands, tmp_path / "whole"))
    stopped = settings(bands, tmp_path / "stopped")
    train_joint(replace(stopped, loop=replace(stopped.loop, stop_after=1)))
    resumed = train_joint(stopped)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name])
    sampler = load_sampler(str(tmp_path / "whole/sampler"))
    inverter = load_inverter(str(tmp_path / "whole"))
    assert (inverter.info.sampler, inverter.info.length) == (sampler.info.name, sampler.info.z_dim)
    assert inverter.info.weights == weights_sha256(sampler)
    assert all(c.ok for c in check_inverter(inverter))
    assert len(list((tmp_path / "whole/sheets").iterdir())) == 1


def test_the_hinge_is_the_papers() -> None:
    scores = torch.tensor([[0.5, 2.0, -1.0], [0.0, 0.0, 0.0]])
    by_hand = [np.mean([max(0, 1 - y * 0.5) + max(0, 1 - y * 2) + max(0, 1 + y), 3.0]) for y in (1, -1)]
    assert [float(hinge(scores, y)) for y in (1.0, -1.0)] == pytest.approx(by_hand)


def test_each_score_sees_what_it_should() -> None:
    torch.manual_seed(0)
    pairs = PairDiscriminator(16, 4, 2, 8).eval()
    x, z, label = torch.rand(1, 3, 16, 16), torch.randn(1, 4), torch.tensor([0])
    with torch.no_grad():
        base = pairs(x, z, label)[0]
        other_x, other_z = pairs(x + 1, z, label)[0], pairs(x, z + 1, label)[0]
        other_class = pairs(x, z, label + 1)[0]
    assert (base != other_x).tolist() == [True, False, True]
    assert (base != other_z).tolist() == [False, True, True]
    assert (base != other_class).tolist() == [True, False, False]


def test_settings_that_cannot_be(bands: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batch at least 2"):
        replace(settings(bands, tmp_path), batch=1)
    with pytest.raises(UsageError, match="lr and inverter_times"):
        replace(settings(bands, tmp_path), inverter_times=0.0)

"""Whatever inverter is registered keeps its promises, and the check names what is wrong with others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.inverters.base import InverterInfo
from nsbgan_infer.inverters.conformance import check_inverter
from nsbgan_infer.inverters.conv_inverter import ConvInverter, ConvInverterConfig
from nsbgan_infer.registry import BUILT_IN, inverter_for, load_inverter
from nsbgan_infer.storage.architectures import all_architectures

COVERS = ["inverters.base", "inverters.conv_inverter"]
INFO = InverterInfo("plugin", "s", "", "pixel", "bicubic", 4, (1, 207), 5, "none")


@dataclass
class Plugin:
    """An inverter made of a function."""

    call: Callable[[Tensor, Tensor], Tensor]
    info: Any = INFO

    def __call__(self, sample: Tensor, y: Tensor) -> Tensor:
        return self.call(sample, y)


def good(sample: Tensor, y: Tensor) -> Tensor:
    return sample.mean((1, 2, 3))[:, None] + torch.zeros(1, 5)


def failures(inverter: Any) -> set[str]:
    return {c.name for c in check_inverter(inverter) if not c.ok}


@pytest.mark.parametrize("arch", [a for a, cls in all_architectures().items() if cls.kind == "inverter"])
def test_every_architecture_conforms(arch: str) -> None:
    cls = all_architectures()[arch]
    torch.manual_seed(0)
    assert failures(cls(cls.tiny).eval()) == set()


@pytest.mark.parametrize("name", BUILT_IN["inverter"])
def test_whatever_weights_ship_conform(name: str) -> None:
    try:
        inverter = load_inverter(name)
    except CheckpointError as error:
        pytest.skip(str(error))
    assert failures(inverter) == set()
    assert inverter_for(inverter.info.sampler) == name


def test_linear_maps_alone_conform_too() -> None:
    network = ConvInverter(replace(ConvInverter.tiny, hidden=0))
    assert failures(network.eval()) == set()
    assert set(network.state_dict()) == {"layout.weight", "typical.weight"}


def test_a_broken_promise_is_named() -> None:
    assert failures(Plugin(good)) == set()
    assert failures(Plugin(good, replace(INFO, makes="wavelet"))) == {"info"}
    assert failures(Plugin(good, None)) == {"info"}
    assert "shape" in failures(Plugin(lambda x, y: good(x, y)[:, :4]))
    assert failures(Plugin(lambda x, y: good(x, y) + torch.rand(1))) >= {"determinism"}
    assert failures(Plugin(lambda x, y: good(x, y) + x.mean())) == {"batch independence"}
    assert failures(Plugin(lambda x, y: torch.zeros(len(x), 5))) == {"sees"}


@pytest.mark.parametrize(
    "change",
    [{"resolution": 24}, {"widths": (8, 12)}, {"hidden": -1}, {"makes": "bicubic"}, {"classes": (1000,)}],
)
def test_a_configuration_that_cannot_be_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"halvings|widths|reduction|ImageNet"):
        ConvInverterConfig(
            **{**vars(ConvInverterConfig("t", "", "wavelet", "wavelet", 16, 4, (1,), (8, 8), 8)), **change}
        )

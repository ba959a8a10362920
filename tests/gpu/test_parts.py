"""Whatever part is registered computes on the device what it computes on the CPU, in fp32, bf16 and fp16."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from near import LIMITS, error
from tiny import TinyClassifier, randomise
from torch import Tensor

from nsbgan_infer.decoders.conformance import check_decoder
from nsbgan_infer.devices import DTYPES
from nsbgan_infer.encoders.table import all_encoders, make_encoder
from nsbgan_infer.errors import MissingExtraError
from nsbgan_infer.latents import draw_latents
from nsbgan_infer.registry import BUILT_IN, load_classifier, load_decoder
from nsbgan_infer.storage.architectures import all_architectures

ARCHITECTURES = {arch: cls.kind for arch, cls in all_architectures().items()}
PRECISIONS = pytest.mark.parametrize("precision", DTYPES)


def of_kind(kind: str) -> list[str]:
    return [arch for arch, its in ARCHITECTURES.items() if its == kind]


def tiny(arch: str) -> Any:
    """The architecture at its tiny size, nothing in it flat."""
    cls = all_architectures()[arch]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return randomise(cls(cls.tiny))


def smooth(side: int, count: int = 2) -> Tensor:
    """(count, 3, side, side) in [0, 1]."""
    coarse = torch.rand(count, 3, side // 8, side // 8, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.interpolate(coarse, (side, side), mode="bilinear")


@PRECISIONS
@pytest.mark.parametrize("arch", of_kind("sampler"))
def test_samplers(arch: str, precision: str, device: torch.device) -> None:
    sampler, dtype = tiny(arch), DTYPES[precision]
    info = sampler.info
    classes = [None if info.classes is None else info.classes[i % len(info.classes)] for i in range(3)]
    latents = draw_latents(
        range(3), classes, z_dim=info.z_dim, truncation=0.7, mode=info.truncation_mode, truncates=info.truncates
    )
    wanted = sampler(latents)
    found = sampler.to(device, dtype)(latents)
    assert found.device.type == device.type
    assert error(found, wanted) < LIMITS[dtype]


@PRECISIONS
@pytest.mark.parametrize("name", [*of_kind("decoder"), *(n for n, e in BUILT_IN["decoder"].items() if e.load)])
def test_decoders(name: str, precision: str, device: torch.device) -> None:
    decoder: Any = tiny(name) if name in ARCHITECTURES else load_decoder(name)
    dtype = DTYPES[precision]
    low = smooth(32)
    wanted = decoder(low)
    if name in ARCHITECTURES:
        decoder.to(device, dtype)
    found = decoder(low.to(device, dtype))
    assert (found.device.type, found.dtype) == (device.type, dtype)
    assert error(found, wanted) < LIMITS[dtype]


@pytest.mark.parametrize("arch", of_kind("decoder"))
def test_decoders_keep_their_promises_on_the_device(arch: str, device: torch.device) -> None:
    """All but what random weights cannot keep, as the tests of the CPU say it."""
    failed = {c.name: c.message for c in check_decoder(tiny(arch).to(device)) if not c.ok}
    assert failed.keys() <= {"range", "colours", "registration"}, failed


@PRECISIONS
@pytest.mark.parametrize("arch", of_kind("inverter"))
def test_inverters(arch: str, precision: str, device: torch.device) -> None:
    inverter, dtype = tiny(arch), DTYPES[precision]
    sample, y = smooth(inverter.info.resolution), torch.zeros(2, 1000)
    y[:, (inverter.info.classes or (0,))[0]] = 1
    wanted = inverter(sample, y)
    found = inverter.to(device, dtype)(sample.to(device, dtype), y.to(device, dtype))
    assert found.device.type == device.type
    assert error(found, wanted) < LIMITS[dtype]


@PRECISIONS
@pytest.mark.parametrize("name", all_encoders())
def test_encoders(name: str, precision: str, device: torch.device) -> None:
    encoder, dtype = make_encoder({"basis": name, "levels": 2}), DTYPES[precision]
    picture = smooth(48)
    found = encoder(picture.to(device, dtype))
    assert (found.device.type, found.dtype) == (device.type, dtype)
    assert error(found, encoder(picture)) < LIMITS[dtype]


@pytest.mark.parametrize("name", ["tiny", *(n for n, e in BUILT_IN["classifier"].items() if e.source == "package")])
def test_classifiers(name: str, device: torch.device) -> None:
    """They judge what lies on the device, in fp32, and say the same."""
    try:
        classifier: Any = TinyClassifier() if name == "tiny" else copy.deepcopy(load_classifier(name))
    except MissingExtraError as missing:
        pytest.skip(str(missing))
    pictures = smooth(64)
    wanted = classifier(pictures)
    if name == "tiny":
        classifier.mix = classifier.mix.to(device)
    found = classifier.to(device)(pictures.to(device))
    assert found.features.device.type == device.type
    for mine, theirs in ((found.features, wanted.features), (found.logits, wanted.logits)):
        assert error(mine, theirs) < 1e-3

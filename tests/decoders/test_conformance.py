"""The conformance check accepts decoders that keep the contract and names what is wrong with those that do not."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.decoders.base import DecoderInfo
from nsbgan_infer.decoders.conformance import check_decoder
from nsbgan_infer.decoders.interpolate import make_bicubic, make_iwt, make_lanczos
from nsbgan_infer.decoders.unet_p import UNetP, UNetPConfig
from nsbgan_infer.decoders.unet_w import UNetW, UNetWConfig
from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.registry import BUILT_IN, load_decoder
from nsbgan_infer.storage.architectures import all_architectures

COVERS = ["decoders.base"]

GOOD = make_bicubic()
INFO = replace(GOOD.info, name="plugin")


@dataclass
class Plugin:
    """A decoder made of a function."""

    call: Callable[[Tensor], Tensor]
    info: DecoderInfo = INFO

    def __call__(self, low: Tensor) -> Tensor:
        return self.call(low)


def failures(decoder: Any) -> dict[str, str]:
    return {c.name: c.message for c in check_decoder(decoder) if not c.ok}


@pytest.mark.parametrize("scale", [2, 4])
@pytest.mark.parametrize("make", [make_iwt, make_bicubic, make_lanczos])
def test_the_built_in_interpolations_conform(make: Any, scale: int) -> None:
    checks = check_decoder(make(scale))
    assert all(c.ok for c in checks), checks
    assert len(checks) == 12


TILED: set[object] = set()  # networks whose tiles were compared: these depend on shapes alone, not on the weights


@pytest.mark.parametrize("name", sorted(BUILT_IN["decoder"]))
def test_whatever_is_registered_conforms(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every decoder whose weights ship keeps every promise, tiles included."""
    try:
        decoder = load_decoder(name)
    except CheckpointError as error:
        pytest.skip(str(error))
    network = (type(decoder), decoder.info.halo)
    if network in TILED:
        monkeypatch.setattr("nsbgan_infer.decoders.conformance._tiles", lambda _decoder: (True, "compared before"))
    TILED.add(network)
    assert failures(decoder) == {}


UNTRAINED = {"range", "colours", "registration"}  # what random weights cannot keep


@pytest.mark.parametrize("arch", [a for a, cls in all_architectures().items() if cls.kind == "decoder"])
def test_whatever_architecture_is_registered_conforms(arch: str) -> None:
    """Shapes, types, determinism and tiles are the network's own, whatever its weights."""
    cls = all_architectures()[arch]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        decoder = cls(cls.tiny).eval().requires_grad_(False)
        for weight in decoder.parameters():
            if not weight.any():  # a head that starts at zero would hide what its network sees
                weight.normal_(std=0.1)
    assert failures(decoder).keys() <= UNTRAINED


@pytest.mark.parametrize("model", [UNetW(UNetWConfig(width=4)), UNetP(UNetPConfig(width=2))], ids=["w", "p"])
def test_the_unets_conform_once_their_details_vanish(model: Any) -> None:
    """Untrained details would be noise, so they are zeroed; sizes, types and the rest are the network's own."""
    two = hasattr(model, "network1")
    for net in [model.network1, model.network2] if two else model.networks.values():
        last = net.heads[-1] if two else net.out
        torch.nn.init.zeros_(last.weight)
        torch.nn.init.zeros_(last.bias)
    assert failures(model.eval()) == {}


def centre_anchored(low: Tensor) -> Tensor:
    return F.interpolate(low, scale_factor=4, mode="bilinear", align_corners=False)


CALLS = iter(range(10**6))
BROKEN: dict[str, tuple[Callable[[Tensor], Tensor], str]] = {
    "shape": (make_bicubic(2), "instead of"),
    "odd sizes": (lambda low: GOOD(low) if low.shape[-1] % 2 == 0 else GOOD(low[..., :-1]), "9 x 13"),
    "dtype and device": (lambda low: GOOD(low).float(), "bfloat16 on cpu gave torch.float32"),
    "range": (lambda low: GOOD(low) * 255, "allowed"),
    "colours": (lambda low: GOOD(low).flip(1), "red and blue are exchanged"),
    "values outside [0, 1]": (lambda low: GOOD(low.sqrt()).square(), "finite"),
    "determinism": (lambda low: GOOD(low) + 1e-3 * next(CALLS), "two calls differ"),
    "batch independence": (
        lambda low: GOOD(low) - 0.2 * (low.mean() - low.mean(dim=(1, 2, 3), keepdim=True)),
        "differ",
    ),
    "input untouched": (lambda low: GOOD(low.clamp_(0.1, 0.9)), "overwritten"),
    "registration": (
        centre_anchored,
        r"sample k lies \+1\.[45]. down and \+1\.[45]. right of pixel 4k: centre anchored",
    ),
    "tiles": (lambda low: GOOD(low) + torch.linspace(-0.02, 0.02, 4 * low.shape[-1], dtype=low.dtype), "halo 2"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_promise_is_named(name: str) -> None:
    call, message = BROKEN[name]
    found = failures(Plugin(call))
    assert name in found, found
    assert re.search(message, found[name]), found[name]


def test_nan_anywhere_fails() -> None:
    found = failures(Plugin(lambda low: GOOD(low) if low.mean() > 0.1 else GOOD(low) * float("nan")))
    assert "nan" in found["range"]


def test_an_exception_is_a_finding_not_a_crash() -> None:
    def broken(_low: Tensor) -> Tensor:
        raise KeyError("no such layer\nwith a second line")

    found = failures(Plugin(broken))
    assert "raised KeyError: 'no such layer" in found["shape"] and "\n" not in found["shape"]
    assert len(found) == 11  # all but info


def test_without_info_nothing_else_is_tried() -> None:
    checks = check_decoder(Plugin(GOOD, info=None))  # type: ignore[arg-type]
    assert [(c.name, c.ok) for c in checks] == [("info", False)]
    bad = DecoderInfo("", "frequency", 1, "", halo=-1, multiple=0)  # type: ignore[arg-type]
    message = failures(Plugin(GOOD, bad))["info"]
    assert all(word in message for word in ("name", "basis", "scale", "licence", "halo", "multiple"))

"""Whatever sampler is registered keeps its promises, and the check names what is wrong with others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from nsbgan_infer.errors import CheckpointError
from nsbgan_infer.latents import Latents
from nsbgan_infer.registry import BUILT_IN, load_sampler
from nsbgan_infer.samplers.base import SamplerInfo
from nsbgan_infer.samplers.conformance import check_sampler
from nsbgan_infer.storage.architectures import all_architectures

INFO = SamplerInfo("plugin", "pixel", 4, 6, (1, 207), "std", 1.0, "none")


@dataclass
class Plugin:
    """A sampler made of a function."""

    call: Callable[[Latents], Tensor]
    info: SamplerInfo = INFO

    def __call__(self, latents: Latents) -> Tensor:
        return self.call(latents)


def good(latents: Latents) -> Tensor:
    return (latents.z.mean(1).sigmoid()[:, None, None, None] + torch.zeros(1, 3, 4, 4)) * 0.9


def failures(sampler: Any) -> dict[str, str]:
    return {c.name: c.message for c in check_sampler(sampler) if not c.ok}


@pytest.mark.parametrize("arch", [a for a, cls in all_architectures().items() if cls.kind == "sampler"])
def test_whatever_architecture_is_registered_conforms(arch: str) -> None:
    cls = all_architectures()[arch]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sampler = cls(cls.tiny).eval().requires_grad_(False)
    assert failures(sampler) == {}


@pytest.mark.parametrize("name", [n for n, e in BUILT_IN["sampler"].items() if e.source == "shipped"])
def test_whatever_weights_ship_conform(name: str) -> None:
    try:
        sampler = load_sampler(name)
    except CheckpointError as error:
        pytest.skip(str(error))
    assert failures(sampler) == {}


def test_a_plain_function_can_be_a_sampler() -> None:
    checks = check_sampler(Plugin(good))
    assert len(checks) == 7 and all(c.ok for c in checks), checks


CALLS = iter(range(10**6))
BROKEN: dict[str, tuple[Callable[[Latents], Tensor], str]] = {
    "shape": (lambda latents: good(latents)[..., :2], "instead of"),
    "range": (lambda latents: good(latents) * 255, "nominal"),
    "determinism": (lambda latents: good(latents) + 1e-3 * next(CALLS), "two calls differ"),
    "batch independence": (lambda latents: good(latents) + latents.z.mean() * 0.1, "three at a time differ"),
    "latents untouched": (lambda latents: good(replace(latents, z=latents.z.mul_(0.5))), "overwritten"),
    "latents decide": (lambda latents: torch.full((len(latents), 3, 4, 4), 0.5), "0.0000"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_broken_promise_is_named(name: str) -> None:
    call, message = BROKEN[name]
    found = failures(Plugin(call))
    assert message in found[name], found


def test_without_info_nothing_else_is_tried() -> None:
    assert [(c.name, c.ok) for c in check_sampler(Plugin(good, info=None))] == [("info", False)]  # type: ignore[arg-type]
    bad = replace(INFO, name="", resolution=0, classes=(1000,), licence="", makes="wavelet")
    message = failures(Plugin(good, bad))["info"]
    assert all(word in message for word in ("name", "resolution", "classes", "licence", "makes"))

"""The layers of `nsbgan bench`: where a network's time goes, and how near each layer comes to its floor.

A layer's floor is the time that its multiply-adds would take at the rate of the device's own matrix product. What a
module with parts of its own does besides them (additions, activations, enlarging, attention's products) is a row too.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nsbgan_infer.devices import dtype_name
from nsbgan_infer.diagnostics.bench import machine, matrix_rate
from nsbgan_infer.diagnostics.bench_batches import Say, ceiling, wait
from nsbgan_infer.diagnostics.bench_parts import random_biggan, random_decoder, smooth_picture
from nsbgan_infer.latents import draw_latents
from nsbgan_infer.registry import load_sampler
from nsbgan_infer.storage.shipped import default_upscaler

LOW = 128  # side of the low band that decoders are given
QUICK = ("embedded-w-64", "subband-w-fast")


@dataclass(frozen=True)
class Layer:
    """One layer's own milliseconds and multiply-adds, without those of its parts; `kind` is its class."""

    name: str
    kind: str
    ms: float
    multiply_adds: float


def measure(device: torch.device, say: Say, *, rounds: int, quick: bool = False) -> dict[str, Any]:
    """What `nsbgan bench --table layers` reports: machine, the matrix product's rate, and a table of layers for each
    network, the slowest first. `quick`: two of the networks."""
    dtype = ceiling(device)
    rate = matrix_rate(device, dtype)
    networks = {}
    for name, load in networks_of_interest().items():
        if quick and name not in QUICK:
            continue
        say(f"layers of {name} in {dtype_name(dtype)}")
        network, given = load()
        network = network.to(device, dtype, memory_format=torch.channels_last)
        if isinstance(given, torch.Tensor):
            given = given.to(device, dtype)
        networks[name] = report(time_layers(network, given, device, rounds=rounds), rate)
    return {
        "machine": machine(device),
        "matrix_product": {"dtype": dtype_name(dtype), "gmac_per_s": round(rate / 1e9, 1)},
        "rounds": rounds,
        "networks": networks,
    }


def networks_of_interest() -> dict[str, Callable[[], tuple[Any, Any]]]:
    """What loads each network, and what it is called with: batch 1."""

    def sampler(load: Callable[[], Any]) -> Callable[[], tuple[Any, Any]]:
        def make() -> tuple[Any, Any]:
            network = load()
            info = network.info
            return network, draw_latents(
                [0], [207], z_dim=info.z_dim, truncation=info.truncation, mode=info.truncation_mode
            )

        return make

    def decoder(name: str) -> Callable[[], tuple[Any, Any]]:
        return lambda: (random_decoder(name), smooth_picture(LOW, LOW))

    return {
        "biggan-deep-128": sampler(lambda: random_biggan(128)),
        "biggan-deep-256": sampler(lambda: random_biggan(256)),
        "biggan-deep-512": sampler(lambda: random_biggan(512)),
        "embedded-w-64": sampler(lambda: load_sampler("embedded-w-64")),
        **{name: decoder(name) for name in ("subband-w", "subband-w-fast", default_upscaler())},
    }


def time_layers(network: nn.Module, given: Any, device: torch.device, *, rounds: int) -> list[Layer]:
    """Every layer of `network` called with `given`: medians over `rounds` calls, after one that warms up."""

    def clock() -> float:
        wait(device)
        return time.perf_counter()

    times: dict[str, list[float]] = defaultdict(list)
    with torch.inference_mode():
        own(network, given, clock)
        for _ in range(rounds):
            for name, seconds in own(network, given, clock).items():
                times[name].append(seconds)
        with FlopCounterMode(display=False) as counter:
            work = own(network, given, lambda: counter.get_total_flops() / 2)
    kinds = {name: type(module).__name__ for name, module in network.named_modules()}
    return [Layer(name or "(whole)", kinds[name], 1000 * median(t), work[name]) for name, t in times.items()]


def own(network: nn.Module, given: Any, read: Callable[[], float]) -> dict[str, float]:
    """By how much `read()` grows in each module of one call, without what it grows by in the module's parts."""
    grown: dict[str, float] = defaultdict(float)
    inside = [0.0]  # what the parts of each module that is running have taken
    begun: list[float] = []

    def enter(*_: Any) -> None:
        inside.append(0.0)
        begun.append(read())

    def leave(name: str) -> None:
        whole = read() - begun.pop()
        grown[name] += whole - inside.pop()
        inside[-1] += whole

    hooks = []
    for name, module in network.named_modules():
        hooks.append(module.register_forward_pre_hook(enter))
        hooks.append(module.register_forward_hook(lambda *_, name=name: leave(name)))
    try:
        network(given)
    finally:
        for hook in hooks:
            hook.remove()
    return dict(grown)


def report(layers: list[Layer], rate: float) -> dict[str, Any]:
    """The table of one network, `rate` in multiply-adds a second: whole time, floor, and layers, the slowest first."""
    whole, work = sum(layer.ms for layer in layers), sum(layer.multiply_adds for layer in layers)
    rows = [
        {
            "layer": layer.name,
            "kind": layer.kind,
            "ms": round(layer.ms, 3),
            "multiply_adds": round(layer.multiply_adds),
            "gmac_per_s": round(layer.multiply_adds / layer.ms / 1e6, 1) if layer.ms else 0.0,
        }
        for layer in sorted(layers, key=lambda layer: -layer.ms)
    ]
    return {
        "ms": round(whole, 2),
        "floor_ms": round(1000 * work / rate, 2),
        "multiply_adds": round(work),
        "layers": rows,
    }

"""The rule of `--engine auto` on a CPU: the engine that is through first, compiling or loading included.

    eager      = images * work * eager
    openvino   = start + (load each network that is kept, compile each other one) + images * work * fast

Compiling runs a network once in plain torch, to trace it. The constants were measured (docs/numbers.md);
`nsbgan bench` times each engine's networks, and `nsbgan bench --table processes` whole runs: they show whether the rule
is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

MOST_THREADS = 8  # one picture keeps no more busy
NEVER = 10**7  # pictures


@dataclass(frozen=True)
class Costs:
    """Seconds of one thread for G multiply-adds, and seconds of a process for the rest."""

    eager: float
    fast: float
    """The same in OpenVINO."""
    start: float = 0.15
    """To import OpenVINO and its plug-in for the CPU."""
    compile: float = 0.6
    """One network, beside its run in plain torch."""
    compile_mb: float = 0.0075
    """More for each megabyte of its weights."""
    load: float = 0.05
    load_mb: float = 0.004


# (vectors of AVX-512, dtype) -> costs. Two cores of an EPYC with AVX2, where the ratio of eager to fast was 1.07
# (decoders) to 1.21 (BigGAN-256) in one run; two cores of a Xeon and of a Zen 5 with AVX-512, where it was 1.5 in fp32
# and 2 in bf16. Torch without instructions for bf16 is ten times slower, and OpenVINO then computes in fp32.
COSTS = {
    (False, torch.float32): Costs(0.041, 0.037),
    (False, torch.bfloat16): Costs(0.41, 0.037),
    (True, torch.float32): Costs(0.0175, 0.0117),
    (True, torch.bfloat16): Costs(0.0095, 0.0048),
}


@dataclass(frozen=True)
class NetworkWork:
    """One network as a run needs it: G multiply-adds a picture, megabytes of weights, whether it is kept compiled."""

    work: float
    megabytes: float
    kept: bool


@dataclass(frozen=True)
class Weighed:
    """Predicted seconds, and what follows: `engine`, and `why` in a clause for people."""

    eager: float
    openvino: float
    engine: str
    why: str


def costs_here(dtype: torch.dtype) -> Costs:
    """Those of this processor, for networks that compute in `dtype`."""
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    return COSTS.get((wide, dtype), COSTS[wide, torch.float32])


def weigh(images: int, networks: Sequence[NetworkWork], costs: Costs, threads: int) -> Weighed:
    """Which engine is through first with `images` pictures; eager where both are."""
    each = 1 / max(1, min(threads, MOST_THREADS))
    work = sum(n.work for n in networks)
    eager = images * work * costs.eager * each
    begin = costs.start + sum(_begin(n, costs, each) for n in networks)
    fast = begin + images * work * costs.fast * each
    missing = sum(not n.kept for n in networks)
    loads = "loads compiled networks" if not missing else f"compiles {missing} network{'s' * (missing > 1)}"
    told = f"OpenVINO {loads} and takes about {_seconds(fast)}, plain torch {_seconds(eager)}"
    if fast < eager:
        return Weighed(eager, fast, "openvino", told)
    pays = worth_compiling(networks, costs, threads)
    return Weighed(eager, fast, "eager", told if pays is None else f"{told}; it pays from {pays} pictures on")


def worth_compiling(networks: Sequence[NetworkWork], costs: Costs, threads: int) -> int | None:
    """From how many pictures on OpenVINO is through first; None where that is more than anybody makes."""
    each = 1 / max(1, min(threads, MOST_THREADS))
    gain = sum(n.work for n in networks) * (costs.eager - costs.fast) * each
    begin = costs.start + sum(_begin(n, costs, each) for n in networks)
    return int(begin / gain) + 1 if gain > begin / NEVER else None


def _begin(network: NetworkWork, costs: Costs, each: float) -> float:
    if network.kept:
        return costs.load + costs.load_mb * network.megabytes
    return costs.compile + costs.compile_mb * network.megabytes + network.work * costs.eager * each


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value < 100 else f"{value / 60:.0f} min"

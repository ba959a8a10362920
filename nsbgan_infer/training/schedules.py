"""Schedules as pure functions of the step, so that a resumed run needs no scheduler state."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from nsbgan_infer.errors import UsageError

ScheduleName = Literal["constant", "one-cycle", "cosine", "halving"]


@dataclass(frozen=True)
class Schedule:
    """How the learning rate goes over a run.

    * `constant`: linear warm-up over `warmup` (a share of all steps), then lr
    * `one-cycle`: linear warm-up over `warmup` (a share of all steps), then half a cosine to 0
    * `cosine`: restarts every `period` steps from lr to `lowest` (Loshchilov & Hutter 2016)
    * `halving`: times 0.5 at each step of `milestones`
    """

    name: ScheduleName = "one-cycle"
    warmup: float = 0.05
    period: int = 250_000
    lowest: float = 1e-7
    milestones: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.name not in get_args(ScheduleName):
            raise UsageError(f"Unknown schedule '{self.name}': use {', '.join(get_args(ScheduleName))}.")
        if not 0 <= self.warmup < 1 or self.period < 1:
            raise UsageError("A schedule's warmup is a share in [0, 1) and its period at least one step.")

    def rate(self, lr: float, step: int, steps: int) -> float:
        """The learning rate of `step` (from 0) of `steps`, with `lr` the base rate."""
        if self.name in ("constant", "one-cycle"):
            rise = round(self.warmup * steps)
            if step < rise:
                return lr * (step + 1) / rise
            if self.name == "constant":
                return lr
            return lr * 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, steps - rise)))
        if self.name == "cosine":
            part = (step % self.period) / self.period
            return self.lowest + (lr - self.lowest) * 0.5 * (1 + math.cos(math.pi * part))
        return lr * 0.5 ** sum(step >= m for m in self.milestones)


def along_cosine(first: float, last: float, part: float) -> float:
    """The value after `part` of the way (1 and beyond: `last`) from `first` to `last` along half a cosine.

    >>> [along_cosine(1.0, 0.0, part) for part in (0.0, 0.5, 1.0, 3.0)]
    [1.0, 0.5, 0.0, 0.0]
    """
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * min(1.0, part)))

"""The time of each step, for the line below the pictures."""

from __future__ import annotations

import time
from collections.abc import Callable


class Clock:
    """Adds up the seconds of each step by name."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self.now = now
        self.last = now()
        self.seconds: dict[str, float] = {}

    def mark(self, name: str) -> None:
        """The time since the last mark belongs to `name`."""
        now = self.now()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self.last
        self.last = now

    def step(self, name: str, _done: int, _total: int) -> None:
        """A pipeline's progress callback."""
        self.mark(name)

    def report(self, images: int) -> str:
        """`sample 0.02 s, decoded 1 0.05 s, ...; 0.11 s an image`."""
        parts = ", ".join(f"{name} {s / images:.3f} s" for name, s in self.seconds.items())
        return f"{parts}; {sum(self.seconds.values()) / images:.2f} s an image"

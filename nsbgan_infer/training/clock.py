"""When a run keeps a checkpoint, how long it will take, and how Ctrl-C ends it without losing a step."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

FIRST = 60.0  # seconds until the first checkpoint of a run
TIMED = 3  # steps that are timed, after one that warms up, before the length of the run is told

Now = Callable[[], float]


class SaveClock:
    """Tells when a checkpoint is due by time: after the first minute, then every `minutes` (0: never by time)."""

    def __init__(self, minutes: float, *, now: Now = time.monotonic) -> None:
        self.minutes, self.now = minutes, now
        self.next = now() + FIRST

    def due(self) -> bool:
        """Whether it is time."""
        return self.minutes > 0 and self.now() >= self.next

    def restart(self) -> None:
        """A checkpoint was kept just now."""
        self.next = self.now() + 60 * self.minutes


class Pace:
    """Times the first steps of a run, to say how long the rest takes. `wait` lets a GPU finish what was given to it."""

    def __init__(self, steps: int, wait: Callable[[], None], *, now: Now = time.monotonic) -> None:
        self.steps, self.wait, self.now = steps, wait, now
        self.done, self.since = 0, 0.0

    def tick(self) -> str | None:
        """One more step is done: the sentence, once it is known."""
        self.done += 1
        if self.steps <= TIMED + 1 or self.done not in (1, TIMED + 1):
            return None
        self.wait()
        if self.done == 1:
            self.since = self.now()
            return None
        left = self.steps - self.done
        return length_text((self.now() - self.since) / TIMED, left, f"{left:,} more steps")


def length_text(each: float, steps: int, what: str) -> str:
    """How long `steps` of `each` seconds take, as a sentence."""
    return f"About {time_text(each * steps)} for {what} ({each:.2g} s each). Ctrl-C keeps what is done."


def time_text(seconds: float) -> str:
    """A length of time for people: `40 s`, `12 min`, `3 h 20 min`, `4.2 days`.

    >>> [time_text(s) for s in (40, 725, 12000, 360_000)]
    ['40 s', '12 min', '3 h 20 min', '4.2 days']
    """
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    if minutes < 60:
        return f"{minutes} min"
    return f"{minutes // 60} h {minutes % 60} min" if minutes < 2880 else f"{seconds / 86400:.1f} days"


class Stop:
    """`asked` once Ctrl-C was pressed."""

    asked = False


@contextmanager
def stop_between_steps() -> Iterator[Stop]:
    """Ctrl-C is noted, for the loop to end after its step; pressed again it ends at once.

    Only the main thread of a process can listen; elsewhere Ctrl-C does what it did.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def note(_signal: int, _frame: FrameType | None) -> None:
        if stop.asked:
            raise KeyboardInterrupt
        stop.asked = True

    before = signal.signal(signal.SIGINT, note)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, before)

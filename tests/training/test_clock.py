"""When a run saves and what it says of its length; the loop that asks is tested in test_loop.py."""

from __future__ import annotations

import subprocess
import sys
import threading

from nsbgan_infer.training.clock import Pace, SaveClock, stop_between_steps


class Watch:
    """A clock that goes on when it is told to."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def test_a_checkpoint_after_the_first_minute_then_by_minutes() -> None:
    watch = Watch()
    clock = SaveClock(5, now=watch)
    due = []
    for _ in range(20):
        watch.at += 30
        due.append(clock.due())
        if due[-1]:
            clock.restart()
    assert [i for i, d in enumerate(due) if d] == [1, 11]  # after 60 s, then after 300 s more
    never = SaveClock(0, now=watch)
    watch.at += 1e6
    assert not never.due()


def test_the_length_is_told_from_timed_steps() -> None:
    watch, waits = Watch(), []
    pace = Pace(12_000, lambda: waits.append(1), now=watch)
    said = []
    for step in range(6):
        watch.at += 20 if step == 0 else 0.25  # the first one warms up
        said.append(pace.tick())
    assert [i for i, s in enumerate(said) if s] == [3] and len(waits) == 2
    assert said[3] == "About 50 min for 11,996 more steps (0.25 s each). Ctrl-C keeps what is done."
    short = Pace(4, lambda: None, now=watch)
    assert [short.tick() for _ in range(4)] == [None] * 4


PRESS = """
import signal
from nsbgan_infer.training.clock import stop_between_steps
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    with stop_between_steps() as stop:
        signal.raise_signal(signal.SIGINT)
        print(stop.asked)
        signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


def test_ctrl_c_is_noted_once_and_ends_at_once_the_second_time() -> None:
    # in a process of its own: signals belong to a process, and this one runs other tests
    ended = subprocess.run([sys.executable, "-c", PRESS], capture_output=True, text=True)
    assert ended.stdout.split() == ["True", "True"], ended.stderr


def test_in_another_thread_nothing_is_changed() -> None:
    seen: list[bool] = []

    def work() -> None:
        with stop_between_steps() as stop:
            seen.append(stop.asked)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [False]

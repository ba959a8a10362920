"""The HTTP service with tiny random parts, and a way to hold its work."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from tiny import tiny_pipeline

from nsbgan_infer.serving.http import build_service
from nsbgan_infer.serving.limits import Limits
from nsbgan_infer.serving.making import Maker, Task
from nsbgan_infer.serving.offers import Offers, open_offers


class HeldMaker(Maker):
    """A maker whose batches wait while `gate` is clear, and are noted."""

    def __init__(self) -> None:
        super().__init__(lambda _preset: tiny_pipeline())
        self.gate = threading.Event()
        self.gate.set()
        self.batches: list[int] = []
        self.given_up: list[bool] = []

    def __call__(self, tasks: Sequence[Task], given_up: Callable[[], bool] = lambda: False) -> Any:
        self.batches.append(len(tasks))
        self.gate.wait(20)
        self.given_up.append(given_up())
        return super().__call__(tasks, given_up)


def tiny_offers(maker: Maker) -> Offers:
    """The preset `tiny` of four classes, and one decoder for photos."""
    return open_offers(["tiny"], [maker.pipeline("tiny")], ["bicubic", "lanczos"])


def tiny_service(maker: Maker | None = None, *, limits: Limits | None = None, token: str | None = None) -> Any:
    """The application."""
    maker = maker or HeldMaker()
    return build_service(tiny_offers(maker), maker, limits=limits, token=token)

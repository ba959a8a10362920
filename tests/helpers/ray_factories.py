"""What Ray actors of the tests load; they import this module by name."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bulk import make


def plain() -> Callable[..., Any]:
    """The tiny maker."""
    return make


def dying(notes: Path) -> Callable[..., Any]:
    """One that kills its process by SIGKILL, once, at the fourth batch of all; each batch leaves a note."""

    def work(requests: Sequence[Any]) -> Any:
        (notes / f"{os.getpid()}-{time.monotonic_ns()}").touch()
        if not (notes / "killed").exists() and len(list(notes.iterdir())) > 3:
            (notes / "killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return make(requests)

    return work


def failing() -> Callable[..., Any]:
    """One that fails for one image."""

    def work(requests: Sequence[Any]) -> Any:
        if any(r.seed == 3 and r.class_id == 1 for r in requests):
            raise ValueError("no such thing")
        return make(requests)

    return work


def broken() -> Callable[..., Any]:
    """One that cannot be loaded."""
    raise ValueError("no weights here")


def slow_maker(notes: Path) -> Any:
    """A maker of the service's replicas that leaves a note of each batch, and takes a second for it."""
    from tiny_service import HeldMaker

    class SlowMaker(HeldMaker):
        def __call__(self, tasks: Sequence[Any], given_up: Callable[[], bool] = lambda: False) -> Any:
            (notes / f"{os.getpid()}-{time.monotonic_ns()}").touch()
            time.sleep(1)
            return super().__call__(tasks, given_up)

    return SlowMaker()


LARGE = 256


def large() -> Callable[..., Any]:
    """A maker of grey pictures of 256 x 256."""
    import torch

    from nsbgan_infer.images import Recipe
    from nsbgan_infer.pipeline import Output

    def work(requests: Sequence[Any]) -> Any:
        recipe = Recipe("tiny", "tiny", (), LARGE, 1, 0, 1.0, "scale", "cpu", "fp32", len(requests))
        tensors = torch.full((len(requests), 3, LARGE, LARGE), 0.5)
        return Output(tensors, tuple(requests), (recipe,) * len(requests))

    return work

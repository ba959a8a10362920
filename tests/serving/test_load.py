"""At several times its rate the service keeps serving, answers the rest with 429, and its queue stays bounded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the service needs the extra serve")
pytest.importorskip("prometheus_client", reason="the service needs the extra serve")
from load import offer
from tiny_service import HeldMaker, tiny_service

from nsbgan_infer.serving.limits import Limits
from nsbgan_infer.serving.making import Task
from nsbgan_infer.serving.server import serve_in_thread

pytestmark = pytest.mark.filterwarnings("ignore")  # of the libraries


class PacedMaker(HeldMaker):
    """Makes one picture for all, and takes 20 ms for a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []
        self.made: Any = None

    def __call__(self, tasks: Sequence[Task], given_up: Callable[[], bool] = lambda: False) -> Any:
        self.sizes.append(len(tasks))
        self.made = self.made or super().__call__(tasks[:1], given_up)
        time.sleep(0.02)
        return list(self.made) * len(tasks)


def test_a_flood_is_served_at_the_services_rate_and_the_rest_refused() -> None:
    maker = PacedMaker()
    app = tiny_service(maker, limits=Limits(queue=6, batch=2))
    seen: list[int] = []
    batcher = app.state.batcher
    batcher.seen = lambda _size, _seconds: seen.append(batcher.waiting)
    with serve_in_thread(app, first=18_700) as address:
        load = asyncio.run(offer(int(address.rstrip("/").rsplit(":", 1)[1]), 400, 2, classes=(1, 207)))
    assert load.other == []
    assert load.served + load.late > 10 and load.refused > 10  # 400 are offered a second, 100 can be made
    assert max(seen) <= 6
    assert maker.sizes.count(2) > len(maker.sizes) / 2  # under load, batches are full
    assert sum(maker.sizes) == load.served + load.late

"""The service's figures for Prometheus: requests, pictures, batches, the queue. One registry for each service."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

BUCKETS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)  # seconds


class Metrics:
    """What is counted; names begin with `nsbgan_`. `waiting` and `running` are asked when the figures are."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter("nsbgan_requests", "Requests answered.", ["path", "status"], registry=self.registry)
        self._seconds = Histogram(
            "nsbgan_request_seconds", "From arrival to answer.", ["path"], buckets=BUCKETS, registry=self.registry
        )
        self._pictures = Counter("nsbgan_pictures", "Pictures made.", registry=self.registry)
        self._batches = Histogram(
            "nsbgan_batch_pictures", "Pictures of a batch.", buckets=(1, 2, 4, 8, 16, 32), registry=self.registry
        )
        self._work = Counter("nsbgan_work_seconds", "Seconds of work on batches.", registry=self.registry)

    def watch(self, waiting: Callable[[], float], running: Callable[[], float]) -> None:
        """Report how many requests wait, and how many are worked on."""
        Gauge("nsbgan_waiting_requests", "Requests in the queue.", registry=self.registry).set_function(waiting)
        Gauge("nsbgan_running_requests", "Requests worked on.", registry=self.registry).set_function(running)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """A request of one of the service's own paths was answered."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def made(self, pictures: int, seconds: float) -> None:
        """A batch is through."""
        self._pictures.inc(pictures)
        self._batches.observe(pictures)
        self._work.inc(seconds)

    def text(self) -> bytes:
        """All figures in Prometheus' text format."""
        text: bytes = generate_latest(self.registry)
        return text

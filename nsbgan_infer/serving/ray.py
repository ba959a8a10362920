"""Replicas on Ray Serve that make the pictures of the service, on this machine or on many.

The application itself, its queue and its batches stay in this process. A batch goes to a replica that is free; should
that one die, the batch goes to another, since the same tasks give the same pictures. So no request that was accepted is
lost with a replica.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from nsbgan_infer.bulk.cluster import cluster, import_ray
from nsbgan_infer.errors import NsbError, WorkError, missing_extra
from nsbgan_infer.serving.batcher import GivenUp, Work
from nsbgan_infer.serving.making import GivenUpError, Maker
from nsbgan_infer.storage.hub import set_offline

APP = "nsbgan"
LOOK = 0.2  # seconds between two looks at whether somebody still waits
NOBODY = "Nobody waits for these pictures any more."
TRIES = 5  # replicas that may die on one batch before it is the batch's fault


class Replica:
    """What a replica does: a maker, loaded once, after which its process refuses the network."""

    def __init__(self, make: Callable[[], Maker], presets: Sequence[str], threads: int, offline: bool = False) -> None:
        torch.set_num_threads(threads)
        if offline:
            set_offline()
        self.maker = make()
        for preset in presets:
            self.maker.pipeline(preset)
        set_offline()

    def __call__(self, tasks: Sequence[Any]) -> list[Any]:
        """The results of one batch."""
        return list(self.maker(tasks))


@contextmanager
def replicas_on_ray(
    presets: Sequence[str],
    *,
    least: int = 1,
    most: int = 2,
    address: str | None = None,
    make: Callable[[], Maker] = Maker,
    offline: bool = False,
) -> Iterator[Work]:
    """The `work` of a service, done by `least` to `most` replicas, as the load asks for.

    `make` loads the maker of a replica, which fetches nothing with `offline`. `address` is that of a
    running cluster, None starts Ray on this machine. A replica has a CPU, and a GPU where this machine has one. Raises
    MissingExtraError, and as `cluster`.
    """
    ray = import_ray("The service on Ray", "serve-ray")
    try:
        from ray import serve
    except ImportError as error:
        raise missing_extra(f"ray[serve] ({error.name})", "serve-ray", "The service on Ray") from error
    with cluster(ray, address, most + 1):
        deployment = serve.deployment(Replica).options(
            name="pictures",
            max_ongoing_requests=1,
            autoscaling_config={"min_replicas": least, "max_replicas": most, "target_ongoing_requests": 1},
            ray_actor_options={"num_cpus": 1, "num_gpus": 1 if torch.cuda.is_available() else 0},
            health_check_period_s=2,
            graceful_shutdown_timeout_s=5,
        )
        serve.start(proxy_location="Disabled")  # the application is served by this process
        try:
            bound = deployment.bind(make, tuple(presets), torch.get_num_threads(), offline)
            handle = serve.run(bound, name=APP, route_prefix=None)
        except RuntimeError as error:
            raise WorkError(f"The replicas could not start: {str(error).strip().splitlines()[-1]}") from error
        ended = threading.Event()
        try:
            yield lambda tasks, given_up: ask_replicas(ray, handle, tasks, lambda: ended.is_set() or given_up())
        finally:
            ended.set()
            serve.shutdown()


def ask_replicas(ray: Any, handle: Any, tasks: Sequence[Any], given_up: GivenUp) -> list[Any]:
    """The results of one batch from whichever replica is free. Raises WorkError where one after the other dies.

    Nothing is asked once it is given up: Ray, where it has ended, would start anew for it.
    """
    for _ in range(TRIES):
        if given_up():
            raise GivenUpError(NOBODY)
        response = handle.remote(list(tasks))
        try:
            return _wait(response, given_up)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, NsbError):
                raise error.cause from None
            raise
        except (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError):
            continue
    raise WorkError(f"{TRIES} replicas died on this request, one after the other: it is given up.")


def _wait(response: Any, given_up: GivenUp) -> list[Any]:
    while True:
        try:
            results: list[Any] = response.result(timeout_s=LOOK)
            return results
        except TimeoutError:
            if given_up():
                response.cancel()
                raise GivenUpError(NOBODY) from None

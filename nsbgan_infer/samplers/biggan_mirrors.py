"""Where the three released BigGAN files can be had: a mirror of one's own, their old address, the Hub; in this order.

NSBGAN_MIRROR names a folder of this machine, or the address of a server's folder, that holds
`biggan-deep-256-pytorch_model.bin` and its like; it is asked first. NSBGAN_BIGGAN_URL replaces every other address.
Whatever the mirror, the same size and SHA-256 are asked for. Importing this module does not import torch.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from nsbgan_infer.errors import CheckpointError, OfflineError
from nsbgan_infer.storage.hub import Source, network_reachable

FILE = "pytorch_model.bin"
HUB = {"biggan-deep-128": f"https://huggingface.co/osanseviero/BigGAN-deep-128/resolve/main/{FILE}"}


def mirrors(name: str, first: Source) -> tuple[Source, ...]:
    """Every address of a released file, in the order in which they are tried; `first` is its own, with its checks."""
    others = () if "NSBGAN_BIGGAN_URL" in os.environ or name not in HUB else (replace(first, url=HUB[name]),)
    own = os.environ.get("NSBGAN_MIRROR", "").rstrip("/")
    asked_first = (replace(first, url=f"{own}/{name}-{FILE}"),) if own.startswith(("http://", "https://")) else ()
    return (*asked_first, first, *others)


def local_file(name: str) -> Path | None:
    """The file of a released checkpoint in the folder that NSBGAN_MIRROR names, if it is there."""
    folder = os.environ.get("NSBGAN_MIRROR", "")
    if not folder or folder.startswith(("http://", "https://")):
        return None
    file = Path(folder).expanduser() / f"{name}-{FILE}"
    return file if file.is_file() else None


def can_reach(name: str, first: Source, *, timeout: float) -> bool:
    """Whether one of the mirrors answers; all of them together have `timeout` seconds."""
    if local_file(name):
        return True
    sources = mirrors(name, first)
    return any(network_reachable(source.url, timeout=timeout / len(sources)) for source in sources)


def try_in_order(sources: tuple[Source, ...], take: Callable[[Source], Path]) -> Path:
    """What `take` makes of the first of `sources` with which it succeeds.

    Raises its first error where all fail, with what the other mirrors said.
    """
    errors: list[CheckpointError] = []
    for source in sources:
        try:
            return take(source)
        except CheckpointError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    kind = OfflineError if all(isinstance(e, OfflineError) for e in errors) else CheckpointError
    raise kind(" ".join(map(str, errors))) from errors[0]

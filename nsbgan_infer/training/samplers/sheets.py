"""The sheet of a sampler's run: what it draws of its first classes, enlarged to pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from nsbgan_infer.encoders import WaveletEncoder
from nsbgan_infer.latents import draw_latents
from nsbgan_infer.storage.components import Component
from nsbgan_infer.training.sheet import write_sheet

ROWS = 8


@torch.no_grad()
def write_classes(network: Component, folder: Path, step: int, *, truncation: float) -> None:
    """The sheet of `step`: eight seeds of each of the first eight classes, low bands enlarged to pictures."""
    sampler: Any = network
    info = sampler.info
    classes = info.classes[:ROWS]
    latents = draw_latents(
        [s for _ in classes for s in range(ROWS)],
        [c for c in classes for _ in range(ROWS)],
        z_dim=info.z_dim,
        truncation=truncation,
        mode=info.truncation_mode,
        truncates=info.truncates,
    )
    picture = network(latents)
    if info.basis == "wavelet":
        picture = WaveletEncoder(1).enlarge(picture)
    write_sheet(list(picture.unflatten(0, (len(classes), ROWS))), folder, step)

"""Which trainer a sampler's settings belong to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nsbgan_infer.storage.components import Component
from nsbgan_infer.training.samplers.biggan import SamplerSettings, train_sampler
from nsbgan_infer.training.samplers.lean import RedrawSettings, train_lean_sampler
from nsbgan_infer.training.samplers.presets import Settings
from nsbgan_infer.training.samplers.progan import ProGANSettings, train_progan
from nsbgan_infer.training.samplers.r3gan import R3GANSettings, train_r3gan

TRAINERS: dict[type, Callable[[Any], Component]] = {
    RedrawSettings: train_lean_sampler,
    SamplerSettings: train_sampler,
    R3GANSettings: train_r3gan,
    ProGANSettings: train_progan,
}


def train_any_sampler(settings: Settings) -> Component:
    """Run, or resume, the training that `settings` describe; the sampler, also saved in the run folder.

    Raises as `train`.
    """
    return TRAINERS[type(settings)](settings)

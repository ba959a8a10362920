"""Degraded training pairs: low-resolution picture over picture, the share of clean ones, the same in every process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from forked import run_alone
from torch import Tensor

from nsbgan_infer.errors import UnknownNameError, UsageError
from nsbgan_infer.training.decoders.pairs import MARGIN, DegradedBatches, ReducedBatches
from nsbgan_infer.training.decoders.windows import CropBatches, Pictures

SIDE = 32


def means(picture: Tensor) -> Tensor:
    """The mean of each cell of 4 x 4, which does not depend on what lies around a window."""
    return F.avg_pool2d(picture, 4)


def waves(count: int = 3) -> Pictures:
    """Smooth coloured pictures of 96 x 112, brighter by picture."""
    y, x = np.meshgrid(np.arange(96), np.arange(112), indexing="ij")

    def get(i: int) -> np.ndarray:
        planes = [127 + 90 * np.sin(y / (9 + i) + c) * np.cos(x / 11 - c) for c in range(3)]
        return np.stack(planes, axis=-1).astype(np.uint8)

    return Pictures(tuple(map(str, range(count))), get)


def pairs(batch: int = 4, ways: tuple[str, ...] = ("camera",), clean: float = 0.3, **windows: int) -> DegradedBatches:
    given = CropBatches(waves(), batch=batch, size=SIDE + MARGIN * 4, seed=5, turns=True, **windows)  # type: ignore[arg-type]
    return DegradedBatches(given, 4, ways, clean, means)


def test_a_pair_has_the_size_of_the_window_and_its_reduction() -> None:
    low, picture = pairs()(0)
    assert low.shape == (4, 3, 8, 8) and picture.shape == (4, 3, SIDE, SIDE)
    assert low.dtype == torch.float32 and float(low.min()) >= 0 and float(low.max()) <= 1


def test_clean_pairs_lie_exactly_over_each_other() -> None:
    low, picture = pairs(batch=16, clean=1.0)(3)
    assert (low - means(picture)).abs().max() <= 0.5 / 255 + 1e-6


@pytest.mark.parametrize("way", ["camera", "two-round"])
def test_degraded_pairs_lie_over_each_other_too(way: str) -> None:
    """The low-resolution picture is nearer to the window's means than to those of any neighbour, on the whole."""
    low, picture = pairs(batch=48, ways=(way,), clean=0.0)(1)
    want = means(picture)
    inner = (slice(None), slice(None), slice(1, -1), slice(1, -1))
    here = (low - want)[inner].square().mean()
    for dy, dx in ((0, 1), (0, -1), (1, 0), (-1, 0)):
        assert here < (low - torch.roll(want, (dy, dx), dims=(-2, -1)))[inner].square().mean()
    assert here > 1e-5


def test_the_share_of_clean_windows_is_the_one_asked_for() -> None:
    low, picture = pairs(batch=200, clean=0.25)(0)
    exact = ((low - means(picture)).abs().amax((1, 2, 3)) <= 0.6 / 255).float().mean()
    assert 0.17 < float(exact) < 0.33


def test_several_ways_are_mixed() -> None:
    both = pairs(batch=24, ways=("camera", "two-round"), clean=0.0)
    apart = [pairs(batch=24, ways=(way,), clean=0.0)(0).low for way in ("camera", "two-round")]
    same = torch.stack([(both(0).low - one).abs().amax((1, 2, 3)) == 0 for one in apart])
    assert same.sum(0).tolist() == [1] * 24 and 4 < int(same[0].sum()) < 20


def test_steps_repeat_and_processes_share_one_batch() -> None:
    whole = pairs()
    for step in (0, 7):
        one, again = whole(step), whole(step)
        assert torch.equal(one.low, again.low) and torch.equal(one.picture, again.picture)
        shares = [replace(whole, windows=replace(whole.windows, rank=r, world=2))(step) for r in range(2)]
        assert torch.equal(one.low, torch.stack([s.low for s in shares], dim=1).flatten(0, 1))
        assert torch.equal(one.picture, torch.stack([s.picture for s in shares], dim=1).flatten(0, 1))
    assert not torch.equal(whole(0).low, whole(1).low)


def ahead_changes_nothing(workers: int) -> None:
    degraded = pairs(batch=2)
    for batches in (degraded, ReducedBatches(degraded.windows, means)):
        ahead = batches.feed(torch.device("cpu"), workers)
        for step in (0, 1, 2, 7, 3):
            made, plain = ahead(step), batches(step)
            assert torch.equal(made.low, plain.low) and torch.equal(made.picture, plain.picture)


def test_a_thread_works_ahead() -> None:
    ahead_changes_nothing(0)


def test_processes_work_ahead() -> None:
    """In a process of its own, as a trainer is: forking this one, after all its native threads, would be a risk."""
    here = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
    run_alone(here + "from test_pairs import *; ahead_changes_nothing(2)")


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="camera"):
        pairs(ways=("camara",))
    with pytest.raises(UsageError, match="from 0 to 1"):
        pairs(clean=1.5)
    with pytest.raises(UsageError, match="name of a degradation"):
        pairs(ways=())

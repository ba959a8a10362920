"""Pictures in memory and the windows cut from them: order, shares of processes, symmetries, shrinking, bad pictures."""

from __future__ import annotations

import multiprocessing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from forked import run_alone
from PIL import Image

from nsbgan_infer.datasets import open_source
from nsbgan_infer.errors import ImageFileError, UsageError
from nsbgan_infer.training.decoders.windows import CropBatches, Pictures, feed, load_pictures


def numbered(count: int = 5, size: int = 12) -> Pictures:
    """Picture i is i everywhere in red, the column in green, the row in blue."""

    def get(i: int) -> Any:
        pixels = np.zeros((size, size + i, 3), np.uint8)
        pixels[..., 0], pixels[..., 1], pixels[..., 2] = i, np.arange(size + i), np.arange(size)[:, None]
        return pixels

    return Pictures(tuple(map(str, range(count))), get)


def test_every_epoch_sees_every_picture_once() -> None:
    batches = CropBatches(numbered(), batch=3, size=8, seed=7)
    seen = torch.cat([batches(i)[:, 0, 0, 0] for i in range(10)]).mul(255).round().long()
    epochs = seen.view(6, 5)
    assert all(sorted(e.tolist()) == [0, 1, 2, 3, 4] for e in epochs)
    assert len({tuple(e.tolist()) for e in epochs}) > 1


def test_processes_share_one_global_batch() -> None:
    one = CropBatches(numbered(), batch=4, size=8, seed=3)
    shares = [replace(one, rank=r, world=2) for r in range(2)]
    for step in (0, 9):
        assert torch.equal(one(step), torch.stack([s(step) for s in shares], dim=1).flatten(0, 1))


def test_windows_flip_in_both_ways_and_reach_every_border() -> None:
    batches = CropBatches(numbered(1), batch=64, size=8, seed=0)
    green = batches(0)[:, 1, 0].mul(255).round()
    slopes = green[:, 1] - green[:, 0]
    assert set(slopes.tolist()) == {-1.0, 1.0} and green.min() == 0 and green.max() == 11
    plain = replace(batches, flip=False)(0)[:, 1, 0].mul(255).round()
    assert set((plain[:, 1] - plain[:, 0]).tolist()) == {1.0}


def test_turns_give_all_eight_symmetries_of_the_same_windows() -> None:
    batches = CropBatches(numbered(1), batch=128, size=8, seed=0)
    turned = replace(batches, turns=True)(0).mul(255).round()
    right, down = turned[:, 1:, 0, 1] - turned[:, 1:, 0, 0], turned[:, 1:, 1, 0] - turned[:, 1:, 0, 0]
    assert len({(*a, *b) for a, b in zip(right.tolist(), down.tolist(), strict=True)}) == 8
    plain = batches(0).mul(255).round()
    assert torch.equal(turned.flatten(2).sort().values, plain.flatten(2).sort().values)


def test_shrunk_windows_hold_up_to_twice_as_much_and_no_more_than_the_picture() -> None:
    batches = CropBatches(numbered(1, size=40), batch=64, size=8, seed=0, flip=False)
    shrunk = replace(batches, shrink=0.5)(0).mul(255)
    slopes = (shrunk[:, 1, :, 5] - shrunk[:, 1, :, 2]) / 3  # columns of the source a column of the window, inside it
    assert slopes.shape == (64, 8) and 0.9 < slopes.min() < 1.2 and 1.8 < slopes.max() < 2.1
    assert len(slopes.mean(1).unique()) > 3
    narrow = CropBatches(numbered(1, size=9), batch=64, size=8, seed=0, flip=False, shrink=0.5)(0).mul(255)
    assert ((narrow[:, 1, :, 5] - narrow[:, 1, :, 2]) / 3).max() < 1.4
    assert torch.equal(batches(0), replace(batches, shrink=1.0)(0))


def ahead_changes_nothing(workers: int) -> None:
    batches = CropBatches(numbered(), batch=2, size=8, seed=0)
    ahead = feed(batches, torch.device("cpu"), workers)
    assert all(torch.equal(ahead(i), batches(i)) for i in (0, 1, 2, 7, 3, 4))


def a_lost_picture_is_named(workers: int) -> None:
    def lost(i: int) -> Any:
        raise ImageFileError(f"{i}.png is gone.")

    batches = CropBatches(Pictures(("0",), lost), batch=2, size=8, seed=0)
    with pytest.raises(ImageFileError, match=r"^0\.png is gone\.$"):
        feed(batches, torch.device("cpu"), workers)(0)
    assert not multiprocessing.active_children()


def test_a_thread_cuts_ahead() -> None:
    ahead_changes_nothing(0)
    a_lost_picture_is_named(0)


def test_processes_cut_ahead() -> None:
    """In a process of its own, as a trainer is: forking this one, after all its native threads, would be a risk."""
    here = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); "
    run_alone(here + "from test_windows import *; ahead_changes_nothing(2); a_lost_picture_is_named(2)")


def test_workers_are_refused_where_processes_cannot_share_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("multiprocessing.get_all_start_methods", lambda: ["spawn"])
    batches = CropBatches(numbered(), batch=2, size=8, seed=0)
    with pytest.raises(UsageError, match="workers = 0"):
        feed(batches, torch.device("cpu"), 1)


def test_bad_pictures_are_named_before_training(tmp_path: Path) -> None:
    Image.new("RGB", (40, 40)).save(tmp_path / "good.png")
    Image.new("RGB", (40, 20)).save(tmp_path / "low.png")
    data = (tmp_path / "good.png").read_bytes()
    (tmp_path / "torn.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(ImageFileError) as error:
        load_pictures(open_source(tmp_path), smallest=32)
    assert "low.png is 40 x 20" in str(error.value) and "torn.png" in str(error.value)
    (tmp_path / "torn.png").unlink()
    (tmp_path / "low.png").unlink()
    kept, again = (load_pictures(open_source(tmp_path), smallest=32, cache_bytes=n) for n in (1 << 20, 0))
    assert np.array_equal(kept.get(0), again.get(0)) and kept.get(0).shape == (40, 40, 3)
    assert load_pictures(open_source(tmp_path), smallest=16, square=16).get(0).shape == (16, 16, 3)

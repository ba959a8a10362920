"""State that is declared once: taken, saved, and restored in place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from nsbgan_infer.training.loop import Ema
from nsbgan_infer.training.tracked import restore_state, take_state


def tracked(seed: int) -> dict[str, Any]:
    torch.manual_seed(seed)
    network = nn.Linear(2, 3)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1 * (seed + 1))
    network(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    return {
        "network": network,
        "optimiser": optimiser,
        "ema": Ema(network, 0.9),
        "none": None,
        "parts": [{"loss": torch.full((), float(seed))}, {"more": nn.BatchNorm1d(seed + 1) if seed else None}],
    }


def test_what_was_taken_comes_back_in_place(tmp_path: Path) -> None:
    one, two = tracked(0), tracked(0)
    network, loss = two["network"], two["parts"][0]["loss"]
    with torch.no_grad():
        network.weight.zero_()
        loss.fill_(7.0)
    torch.save(take_state(one), tmp_path / "state.pt")
    restore_state(two, torch.load(tmp_path / "state.pt", weights_only=True))
    assert two["network"] is network and torch.equal(network.weight, one["network"].weight)
    assert two["parts"][0]["loss"] is loss and float(loss) == 0
    assert two["optimiser"].state_dict()["state"][0]["step"] == 1
    assert torch.equal(two["ema"].shadow["weight"], one["network"].weight)


def test_a_state_of_something_else_is_refused() -> None:
    state = take_state(tracked(0))
    with pytest.raises(KeyError):
        restore_state(tracked(0) | {"judge": nn.Linear(1, 1)}, state)
    with pytest.raises(ValueError, match=r"shorter|longer"):
        restore_state(tracked(0) | {"parts": [{}]}, state)
    with pytest.raises(RuntimeError):
        restore_state({"network": nn.Linear(2, 4)}, state)

"""The energy distance between drawn and real summaries, class by class (Szekely & Rizzo 2013), and what it remembers.

A batch holds a few pictures of a few classes: too few to tell how a class is spread. So the last summaries of every
class, drawn and real, are kept in rings of fixed size, and a batch is compared with those as well.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

LEAST = 1e-6  # of a squared distance: below it no gradient flows, so that equal vectors give none


class ClassRings:
    """For every class and kind of summary the last `size` vectors, in half precision on `device`."""

    def __init__(self, classes: int, size: int, dims: list[int], device: torch.device) -> None:
        self.values = [torch.zeros(classes, size, d, dtype=torch.float16, device=device) for d in dims]
        self.written = torch.zeros(classes, dtype=torch.int64, device=device)  # ever, so also where to go on
        self.places = torch.arange(size, device=device)

    def read(self, classes: Tensor) -> tuple[list[Tensor], Tensor]:
        """`classes` (G,) -> per kind (G, size, d) float32, and which of them are filled, (G, size) bool."""
        filled = self.places[None] < self.written[classes, None]
        return [v[classes].float() for v in self.values], filled

    def write(self, classes: Tensor, new: list[Tensor]) -> None:
        """Add per kind (G, n, d) to `classes` (G,), all different, over the oldest."""
        n = new[0].shape[1]
        places = (self.written[classes, None] + self.places[None, :n]) % len(self.places)
        for kept, given in zip(self.values, new, strict=True):
            kept[classes[:, None], places] = given.detach().to(kept.dtype)
        self.written[classes] += n

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"values": self.values, "written": self.written}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for kept, given in zip(self.values, state["values"], strict=True):
            kept.copy_(given)
        self.written.copy_(state["written"])


def energy_distance(drawn: Tensor, real: Tensor, past: Tensor, *, real_filled: Tensor, past_filled: Tensor) -> Tensor:
    """The part of the energy distance that depends on `drawn` (G, n, d), for each of G classes: (G,).

    2 E|x - y| - E|x - x'| with y from `real` (G, m, d), x' from the other rows of `drawn` and from `past` (G, k, d),
    which are constants; rows count where `*_filled` (G, m) and (G, k) is true. Its gradient attracts and repels; it is
    least when both sets follow one distribution.
    """
    n = drawn.shape[1]
    others = ~torch.eye(n, dtype=torch.bool, device=drawn.device)
    to_real = _mean_distance(drawn, real, real_filled[:, None])
    within = torch.cat((distances(drawn, drawn.detach()), distances(drawn, past)), 2)
    counted = torch.cat((others.expand(len(drawn), n, n), past_filled[:, None].expand(-1, n, -1)), 2)
    return to_real - _masked_mean(within, counted)


def distances(x: Tensor, y: Tensor) -> Tensor:
    """(G, n, d) and (G, m, d) -> Euclidean distances (G, n, m), by one matrix product."""
    squares = x.square().sum(2)[:, :, None] + y.square().sum(2)[:, None] - 2 * x @ y.mT
    return squares.clamp(min=LEAST).sqrt()


def _mean_distance(x: Tensor, y: Tensor, counted: Tensor) -> Tensor:
    return _masked_mean(distances(x, y), counted)


def _masked_mean(values: Tensor, counted: Tensor) -> Tensor:
    """Mean of `values` (G, n, m) where `counted`, over the last two dimensions: (G,). 0 where nothing counts."""
    counted = counted.expand_as(values)
    total = torch.where(counted, values, values.new_zeros(())).sum((1, 2))
    return total / counted.sum((1, 2)).clamp(min=1)

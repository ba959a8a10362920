"""Scores from a classifier's answers, in memory that does not grow with the number of pictures.

Every picture has a key, a hash of its 8-bit content. The key decides its split and whether it belongs to a bounded
pool, so the order of pictures and the size of batches change nothing.
"""

from __future__ import annotations

import hashlib
import heapq
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from nsbgan_infer.errors import UsageError

POOL = 10_000  # features kept for KID, precision and recall
PARTS = 10  # of a set, whose scores are averaged
LEAST_IN_PART = 10  # pictures: the score of k pictures is k at most, and that of one picture is 1


@dataclass(frozen=True)
class Spread:
    """The mean of a score over splits or subsets, and its standard deviation."""

    mean: float
    deviation: float


def picture_keys(pictures: Tensor) -> list[int]:
    """A 64-bit hash of each 8-bit picture (B, 3, H, W) uint8."""
    rows = pictures.cpu().contiguous().numpy()
    return [int.from_bytes(hashlib.blake2b(row.tobytes(), digest_size=8).digest(), "big") for row in rows]


def score_parts(n: int) -> int:
    """In how many parts the score of `n` pictures is taken: 10, or fewer, so that a part holds 10 pictures."""
    return min(PARTS, max(1, n // LEAST_IN_PART))


class InceptionScore:
    """exp of the mean KL(p(y|x) || p(y)), per split (Salimans et al. 2016); called so only on Inception's logits.

    Pictures go to splits by key. From logits: KL sums need only sum p log p and sum p of each split, float64.
    """

    def __init__(self, splits: int = PARTS) -> None:
        self.counts = [0] * splits
        self.entropies = torch.zeros(splits, dtype=torch.float64)  # sum over pictures and classes of p log p
        self.marginals: Tensor | None = None  # (splits, classes): sum of p

    def update(self, logits: Tensor, keys: list[int]) -> None:
        """Add logits (B, classes) of pictures with `keys`."""
        log_p = logits.double().cpu().log_softmax(1)
        p = log_p.exp()
        negative = (p * log_p).sum(1)
        if self.marginals is None:
            self.marginals = torch.zeros(len(self.counts), p.shape[1], dtype=torch.float64)
        where = torch.tensor([key % len(self.counts) for key in keys])
        self.marginals.index_add_(0, where, p)
        self.entropies.index_add_(0, where, negative)
        for split in where.tolist():
            self.counts[split] += 1

    def result(self) -> Spread:
        """Mean and deviation over the splits that hold pictures. Raises UsageError if none does."""
        if self.marginals is None:
            raise UsageError("A score over no pictures: give some.")
        counts = torch.tensor(self.counts, dtype=torch.float64)
        used = counts > 0
        q = self.marginals[used] / counts[used, None]
        kl = self.entropies[used] / counts[used] - torch.special.xlogy(q, q).sum(1)
        return _spread(kl.exp())


class Pool:
    """The features of at most `limit` pictures: those with the smallest keys, so any order keeps the same ones."""

    def __init__(self, limit: int = POOL) -> None:
        self.limit = limit
        self.seen = 0
        self._heap: list[tuple[int, int, Tensor]] = []  # (-key, -arrival, features): the largest key on top

    def update(self, features: Tensor, keys: list[int]) -> None:
        """Add features (B, ...) of pictures with `keys`."""
        for row, key in zip(features.detach().cpu(), keys, strict=True):
            self.seen += 1
            if len(self._heap) == self.limit and key >= -self._heap[0][0]:
                continue
            item = (-key, -self.seen, row.clone())
            if len(self._heap) < self.limit:
                heapq.heappush(self._heap, item)
            else:
                heapq.heapreplace(self._heap, item)

    def __len__(self) -> int:
        return len(self._heap)

    @property
    def features(self) -> Tensor:
        """(n, ...) in the order of keys."""
        return torch.stack([row for _, _, row in sorted(self._heap, key=lambda item: (-item[0], -item[1]))])


def kernel_distance(a: Tensor, b: Tensor, *, subsets: int = 100, size: int = 1000, seed: int = 0) -> Spread:
    """KID (Binkowski et al. 2018): unbiased MMD^2 with the kernel (x . y / d + 1)^3 over random subsets of features.

    `a` (n, d) and `b` (m, d); subsets are no larger than the smaller of the two. Raises UsageError below 2 pictures.
    """
    size = min(size, len(a), len(b))
    if size < 2:
        raise UsageError("A kernel distance needs at least 2 pictures of each kind.")
    rng = np.random.default_rng(seed)
    values = [
        _mmd2(*(x[torch.from_numpy(rng.permutation(len(x))[:size])].double() for x in (a, b))) for _ in range(subsets)
    ]
    return _spread(torch.stack(values))


def _mmd2(a: Tensor, b: Tensor) -> Tensor:
    m, d = a.shape
    aa, bb, ab = ((x @ y.T / d + 1) ** 3 for x, y in ((a, a), (b, b), (a, b)))
    within = (aa.sum() - aa.trace() + bb.sum() - bb.trace()) / (m * (m - 1))
    return within - 2 * ab.mean()


def precision_recall(fake: Tensor, real: Tensor, *, neighbours: int = 3) -> tuple[float, float]:
    """Share of fakes inside the manifold of reals, and of reals inside that of fakes (Kynkaanniemi et al. 2019).

    Features (n, d) and (m, d); a manifold is the union of balls that reach each point's k-th neighbour. Raises
    UsageError for `neighbours` pictures or fewer.
    """
    if min(len(fake), len(real)) <= neighbours:
        raise UsageError(f"Precision and recall need more than {neighbours} pictures of each kind.")
    return _share_inside(fake, real, neighbours), _share_inside(real, fake, neighbours)


def _share_inside(points: Tensor, manifold: Tensor, neighbours: int, chunk: int = 1024) -> float:
    points, manifold = points.float(), manifold.float()
    radii = torch.cat(
        [torch.cdist(part, manifold).kthvalue(neighbours + 1, 1).values for part in torch.split(manifold, chunk)]
    )
    inside = [(torch.cdist(part, manifold) <= radii).any(1) for part in torch.split(points, chunk)]
    return float(torch.cat(inside).double().mean())


def _spread(values: Tensor) -> Spread:
    return Spread(float(values.mean()), float(values.std(correction=0)))

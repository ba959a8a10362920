"""The Frechet distance between two sets of features, from moments that need no more memory for more pictures.

d^2 = |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2))   (Heusel et al. 2017, equation 6; Dowson & Landau 1982)

Moments are float64 sums, so order and batch size change the distance by rounding only.
"""

from __future__ import annotations

import torch
from torch import Tensor

from nsbgan_infer.errors import UsageError


class Moments:
    """Running mean and covariance of features: `n`, `total` (D,) and `products` (D, D) float64 on the CPU."""

    def __init__(self, features: int) -> None:
        self.n = 0
        self.total = torch.zeros(features, dtype=torch.float64)
        self.products = torch.zeros(features, features, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Add features (B, D)."""
        x = features.detach().double().cpu()
        self.n += len(x)
        self.total += x.sum(0)
        self.products += x.T @ x

    @property
    def mean(self) -> Tensor:
        """(D,) float64."""
        return self.total / self.n

    @property
    def covariance(self) -> Tensor:
        """(D, D) float64, unbiased. Raises UsageError for fewer than two pictures."""
        if self.n < 2:
            raise UsageError(f"A Frechet distance needs at least 2 pictures, got {self.n}.")
        return (self.products - torch.outer(self.total, self.mean)) / (self.n - 1)


def frechet_distance(a: Moments, b: Moments) -> float:
    """The squared Frechet distance of two Gaussians with these moments, as FID reports it; at least 0."""
    return gaussian_distance(a.mean, a.covariance, b.mean, b.covariance)


def gaussian_distance(mean_a: Tensor, cov_a: Tensor, mean_b: Tensor, cov_b: Tensor) -> float:
    """As `frechet_distance`, from means (D,) and covariances (D, D), which may be singular.

    tr (C1 C2)^(1/2) is the sum of the roots of the eigenvalues of C1^(1/2) C2 C1^(1/2), which is symmetric: two
    `eigh` calls, real and stable where a general matrix root is not.
    """
    values, vectors = torch.linalg.eigh(cov_a.double())
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    middle = root @ cov_b.double() @ root
    cross = torch.linalg.eigvalsh((middle + middle.T) / 2).clamp(min=0).sqrt().sum()
    distance = (mean_a - mean_b).double().square().sum() + cov_a.trace() + cov_b.trace() - 2 * cross
    return max(0.0, float(distance))

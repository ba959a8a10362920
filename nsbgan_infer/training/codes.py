"""Codes of training pictures, which the lean sampler is conditioned on, and the prior that it draws codes from.

A code holds what a frozen EfficientNet-Lite0 sees (principal components of its pooled features and of a 2 x 2 grid of
its last tap) and the layout (principal components of the 16 x 16 picture), each of unit variance over the set.
Conditioning on instances: Casanova et al. 2021, IC-GAN, arXiv:2109.05070.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.convert import read_pickle
from nsbgan_infer.errors import UsageError
from nsbgan_infer.files import atomic_path
from nsbgan_infer.samplers.lean import COARSE
from nsbgan_infer.samplers.learned import CodePrior
from nsbgan_infer.training.lowbands import LowBandSet
from nsbgan_infer.training.projected import LiteTrunk, shown_to_trunk

PARTS = (48, 48)  # components of the pooled features and of the grid; the layout has the rest of the code
CHUNK = 64
SPREAD_SHARE = 0.6  # of the class's standard deviation: what z adds to a blend of stored codes at truncation 1


@dataclass(frozen=True)
class Codes:
    """`code` (N, F, code_dim) float32; `summaries`: per kind (N, F, d) float16; `scales`: their mean distances;
    `certainty` (N, F): the logarithm of the probability that the classifier gives to the picture's own class.

    `layout` (3 * 16 * 16, layout_dim) and `layout_mean` turn the layout part back into a coarse picture.
    """

    code: Tensor
    certainty: Tensor
    summaries: tuple[Tensor, ...]
    scales: tuple[float, ...]
    layout: Tensor
    layout_mean: Tensor


def kept_codes(file: Path, data: LowBandSet, trunk: LiteTrunk, code_dim: int) -> Codes:
    """The codes in `file` if it has them, else computed and kept there, so that a resumed run starts at once."""
    if file.exists():
        codes = Codes(**read_pickle(file))
        if codes.code.shape == (len(data), data.flips, code_dim):
            return codes
    codes = compute_codes(data, trunk, code_dim)
    with atomic_path(file) as part:
        torch.save(dict(vars(codes)), part)
    return codes


@torch.no_grad()
def compute_codes(data: LowBandSet, trunk: LiteTrunk, code_dim: int) -> Codes:
    """Look at every picture of `data` once (2 ms each on one CPU core in bf16), then find the components.

    Raises UsageError if the set is too small for that many components.
    """
    if len(data) * data.flips <= max(*PARTS, code_dim - sum(PARTS)) or code_dim <= sum(PARTS):
        raise UsageError(
            f"A code of {code_dim} numbers needs code_dim above {sum(PARTS)} and more than {len(data)} pictures."
        )
    kinds: list[list[Tensor]] = []
    coarse, certainty = [], []
    for start in range(0, len(data), CHUNK):
        rows = torch.arange(start, min(start + CHUNK, len(data)))
        seen = []
        for flip in range(data.flips):
            low = data.batch(rows, torch.full_like(rows, flip))
            coarse.append(F.adaptive_avg_pool2d(low, COARSE).flatten(1))
            look = trunk(shown_to_trunk(low))
            chance = look.logits[:, list(data.classes)].float().log_softmax(1)
            certainty.append(chance.gather(1, data.labels[rows, None]))
            seen.append([s.half() for s in look.summaries()])
        kinds.append([torch.stack(s, 1) for s in zip(*seen, strict=True)])
    summaries = tuple(torch.cat(s) for s in zip(*kinds, strict=True))  # each (N, F, d)
    pictures, sure = _in_order(coarse, data.flips), _in_order(certainty, data.flips).squeeze(-1)
    parts = [whitened(s.flatten(0, 1).float(), k)[0] for s, k in zip(summaries, PARTS, strict=False)]
    layout, basis, mean = whitened(pictures.flatten(0, 1), code_dim - sum(PARTS))
    code = torch.cat([*parts, layout], 1).view(len(data), data.flips, code_dim)
    scales = tuple(_mean_distance(s, data.labels) for s in summaries)
    return Codes(code, sure, summaries, scales, basis, mean)


def _in_order(chunks: list[Tensor], flips: int) -> Tensor:
    """Chunks that alternate between flips -> (N, F, d)."""
    return torch.cat([torch.stack(chunks[i : i + flips], 1) for i in range(0, len(chunks), flips)])


def whitened(x: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """x (N, d) -> its `count` first principal components at unit variance, the basis (d, count) back, the mean."""
    mean = x.mean(0)
    centred = x - mean
    # in double precision: in single, eigh now and then gave NaN for covariances of few pictures
    values, vectors = torch.linalg.eigh((centred.t() @ centred / len(x)).double())
    values, vectors = values.flip(0)[:count], vectors.flip(1)[:, :count]
    root = values.clamp(min=1e-6 * float(values[0]) + 1e-12).sqrt()  # no amplified noise where nothing varies
    return centred @ (vectors / root).float(), (vectors * root).float(), mean


def _mean_distance(summary: Tensor, labels: Tensor) -> float:
    """The mean distance between two pictures of one class, over the classes."""
    distances = []
    for label in range(int(labels.max()) + 1):
        x = summary[labels == label][:400, 0].float()
        half = len(x) // 2
        if half:
            distances.append(torch.cdist(x[:half], x[half:]).mean())
    return float(torch.stack(distances).mean().clamp(min=1e-6)) if distances else 1.0


@torch.no_grad()
def fit_prior(prior: CodePrior, codes: Codes, labels: Tensor, generator: torch.Generator, *, rounds: int = 20) -> None:
    """Fill `prior` in place. Codes of each class are grouped by k-means (Lloyd), and of every group the one whose
    picture the classifier is surest about is stored: typical pictures, spread over the class.
    """
    stored = prior.offset.shape[1]
    for label in range(prior.mean.shape[0]):
        x = codes.code[labels == label].flatten(0, 1)
        sure = codes.certainty[labels == label].flatten()
        count = min(len(x), stored)
        centre = x[torch.randperm(len(x), generator=generator)[:count]]
        for _ in range(rounds):
            nearest = torch.cdist(x, centre).argmin(1)
            members = F.one_hot(nearest, count).to(x.dtype)  # (M, count)
            sizes = members.sum(0)[:, None]
            centre = torch.where(sizes > 0, members.t() @ x / sizes.clamp(min=1), centre)
        chosen = (sure[:, None] - 1e9 * (1 - members)).argmax(0)  # the surest member of every group
        mean = x.mean(0)
        offset = x[chosen] - mean
        prior.mean[label], prior.spread[label] = mean, SPREAD_SHARE * x.std(0)
        prior.offset[label] = offset[torch.arange(stored) % count]

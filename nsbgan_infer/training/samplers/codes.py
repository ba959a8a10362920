"""Codes of training pictures, which the lean sampler is conditioned on, and the prior that it draws codes from.

A code holds what a frozen EfficientNet-Lite0 sees (principal components of its pooled features and of a 2 x 2 grid of
its last tap) and the layout (principal components of the 16 x 16 picture), each of unit variance over the set. The sign
of a component is arbitrary, so it is fixed by rule, and codes for weights from before that rule are turned to agree.
Conditioning on instances: Casanova et al. 2021, IC-GAN, arXiv:2109.05070.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.errors import UsageError
from nsbgan_infer.samplers.lean import COARSE
from nsbgan_infer.samplers.learned import CodePrior
from nsbgan_infer.storage.checkpoints import read_pickle
from nsbgan_infer.storage.files import atomic_path
from nsbgan_infer.training.samplers.lowbands import LowBandSet
from nsbgan_infer.training.samplers.projected import LiteTrunk, shown_to_trunk

PARTS = (48, 48)  # components of the pooled features and of the grid; the layout has the rest of the code
CHUNK = 64
AGREEMENT = 0.9  # least mean correlation of recomputed class means with those of the weights that a run begins with
SPREAD_SHARE = 0.6  # of the class's standard deviation: what z adds to a blend of stored codes at truncation 1


@dataclass(frozen=True)
class Codes:
    """`code` (N, F, code_dim) float32; `certainty` (N, F): the logarithm of the probability that the classifier gives
    to the picture's own class among those of the set.

    `layout` (3 * 16 * 16, layout_dim) and `layout_mean` turn the layout part back into a coarse picture.
    """

    code: Tensor
    certainty: Tensor
    layout: Tensor
    layout_mean: Tensor


def kept_codes(file: Path, data: LowBandSet, trunk: LiteTrunk, code_dim: int) -> Codes:
    """The codes in `file` if it has them, else computed and kept there, so that a resumed run starts at once."""
    if file.exists():
        kept = read_pickle(file)
        if kept.keys() == {f.name for f in fields(Codes)}:
            codes = Codes(**kept)
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
    device = next(trunk.parameters()).device
    pooled, grid, coarse, certainty = [], [], [], []
    for start in range(0, len(data), CHUNK):
        rows = torch.arange(start, min(start + CHUNK, len(data)))
        for flip in range(data.flips):
            low = data.batch(rows, torch.full_like(rows, flip)).to(device)
            look = trunk(shown_to_trunk(low))
            chance = look.logits[:, list(data.classes)].float().log_softmax(1).cpu()
            certainty.append(chance.gather(1, data.labels[rows, None]))
            pooled.append(look.pooled.float().cpu())
            grid.append(F.adaptive_avg_pool2d(look.taps[3].float(), 2).flatten(1).cpu())
            coarse.append(F.adaptive_avg_pool2d(low, COARSE).flatten(1).cpu())
    features = [_in_order(chunks, data.flips).flatten(0, 1) for chunks in (pooled, grid)]
    parts = [whitened(x, k)[0] for x, k in zip(features, PARTS, strict=True)]
    layout, basis, mean = whitened(_in_order(coarse, data.flips).flatten(0, 1), code_dim - sum(PARTS))
    code = torch.cat([*parts, layout], 1).view(len(data), data.flips, code_dim)
    return Codes(code, _in_order(certainty, data.flips).squeeze(-1), basis, mean)


def _in_order(chunks: list[Tensor], flips: int) -> Tensor:
    """Chunks that alternate between flips -> (N, F, d)."""
    return torch.cat([torch.stack(chunks[i : i + flips], 1) for i in range(0, len(chunks), flips)])


def whitened(x: Tensor, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """x (N, d) -> its `count` first principal components at unit variance, the basis (d, count) back, the mean."""
    mean = x.mean(0)
    centred = x - mean
    values, vectors = _components(centred)
    values, vectors = values[:count], vectors[:, :count]
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(0)[None]).sign()  # the largest entry is positive
    root = values.clamp(min=1e-6 * float(values[0]) + 1e-12).sqrt()  # no amplified noise where nothing varies
    return centred @ (vectors / root).float(), (vectors * root).float(), mean


def _components(centred: Tensor) -> tuple[Tensor, Tensor]:
    """Variances, largest first, and directions (d, k) of rows (N, d) around 0, float64; k is the smaller of N and d.

    In double precision: in single, eigh now and then gave NaN for covariances of few pictures. For fewer rows than
    numbers in one, both are found from the rows' products with each other, a far smaller matrix.
    """
    if len(centred) >= centred.shape[1]:
        values, vectors = torch.linalg.eigh((centred.t() @ centred / len(centred)).double())
        return values.flip(0), vectors.flip(1)
    rows = centred.double()
    values, mixes = torch.linalg.eigh(rows @ rows.t() / len(rows))
    return values.flip(0), F.normalize(rows.t() @ mixes.flip(1), dim=0)


def turned_to(codes: Codes, labels: Tensor, mean: Tensor) -> Codes:
    """`codes` with the signs of a prior whose class means are `mean` (classes, code_dim), so that its weights fit them.

    Raises UsageError if the codes are others, not only turned: another set of pictures, or other colours of the trunk.
    """
    count = mean.shape[0]
    now = torch.stack([codes.code[labels == c].flatten(0, 1).mean(0) for c in range(count)])
    same = F.cosine_similarity(now, mean.to(now), dim=0)  # of each component over the classes
    weight = now.square().sum(0)
    if float((same.abs() * weight).sum() / weight.sum()) < AGREEMENT:
        raise UsageError(
            "The pictures' codes are not those that the starting weights were trained with: give the same --data, and "
            "the same `colours` (weights from before 2026-11-28 have colours = 'imagenet'), or start without --start."
        )
    sign = torch.where(same < 0, -1.0, 1.0)
    basis = codes.layout * sign[-codes.layout.shape[1] :]
    return replace(codes, code=codes.code * sign, layout=basis)


@torch.no_grad()
def fit_prior(
    prior: CodePrior,
    codes: Codes,
    labels: Tensor,
    generator: torch.Generator,
    *,
    surest: float = 1.0,
    rounds: int = 20,
) -> None:
    """Fill `prior` in place. Of each class the share `surest` of pictures that the classifier is surest about is
    grouped by k-means (Lloyd), and of every group the surest one is stored: typical pictures, spread over the class.
    """
    stored = prior.offset.shape[1]
    for label in range(prior.mean.shape[0]):
        x = codes.code[labels == label].flatten(0, 1)
        sure = codes.certainty[labels == label].flatten()
        mean, deviation = x.mean(0), x.std(0)
        kept = sure.argsort(descending=True)[: max(min(len(x), stored), round(surest * len(x)))]
        x, sure = x[kept], sure[kept]
        count = min(len(x), stored)
        centre = x[torch.randperm(len(x), generator=generator)[:count]]
        for _ in range(rounds):
            nearest = torch.cdist(x, centre).argmin(1)
            members = F.one_hot(nearest, count).to(x.dtype)  # (M, count)
            sizes = members.sum(0)[:, None]
            centre = torch.where(sizes > 0, members.t() @ x / sizes.clamp(min=1), centre)
        chosen = (sure[:, None] - 1e9 * (1 - members)).argmax(0)  # the surest member of every group
        offset = x[chosen] - mean
        prior.mean[label], prior.spread[label] = mean, SPREAD_SHARE * deviation
        prior.offset[label] = offset[torch.arange(stored) % count]

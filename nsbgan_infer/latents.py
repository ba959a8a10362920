"""Step 1, latents: (seed, class id, truncation) -> z (B, z_dim) float32 and y (B, 1000) float32.

One seed an image: z depends on seed, truncation and its mode alone, so classes share latents and no batch split
changes them. All modes start from the same uniform numbers of the seed and go through the inverse normal
distribution, so changing the truncation moves an image smoothly.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from nsbgan_infer.classes import NUM_CLASSES
from nsbgan_infer.errors import UsageError

TruncationMode = Literal["scale", "resample", "std"]
TruncatedSpace = Literal["z", "w"]
LAST_SEED = 2**32 - 1  # torch.Generator("cpu") reads 32 bits: larger seeds would repeat smaller ones


@dataclass(frozen=True)
class Latents:
    """The latents of B images.

    `z` (B, z_dim) float32; `y` (B, 1000) float32 weights over the ImageNet classes (one-hot, or mixtures while walking
    between classes; all zero for an unconditional sampler); `seeds`: one an image (a sampler with noise inputs draws
    them from these); `truncation` in (0, 1] and its `mode`, already applied to `z` unless the sampler truncates in w.
    `offsets` (B, n) float32: what an inversion moved in the sampler beside z (`SamplerInfo.offsets` says how many
    places it has for that); None where nothing was.
    """

    z: Tensor
    y: Tensor
    seeds: tuple[int, ...]
    truncation: float
    mode: TruncationMode
    offsets: Tensor | None = None

    def __repr__(self) -> str:
        place = "" if self.z.device.type == "cpu" else f" on {self.z.device}"
        sizes = " x ".join(map(str, self.z.shape))
        moved = "" if self.offsets is None else f", {self.offsets.shape[1]} offsets"
        drawn = f"seeds {self.seeds}, truncation {self.truncation:g} ({self.mode})"
        return f"<Latents: z {sizes}{moved}{place}, {drawn}>"

    def __len__(self) -> int:
        return self.z.shape[0]

    def __getitem__(self, part: slice) -> Latents:
        offsets = None if self.offsets is None else self.offsets[part]
        return Latents(self.z[part], self.y[part], self.seeds[part], self.truncation, self.mode, offsets)

    def pick(self, at: Sequence[int]) -> Latents:
        """Those of the images at these places, in their order."""
        picked: dict[str, Any] = {}
        for name, value in ((f.name, getattr(self, f.name)) for f in fields(self)):
            taken = value[list(at)] if isinstance(value, Tensor) else value
            picked[name] = tuple(value[i] for i in at) if isinstance(value, tuple) else taken
        return Latents(**picked)

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Latents:
        """The same latents on a device and in a dtype."""
        z, y = self.z.to(device, dtype), self.y.to(device, dtype)
        offsets = None if self.offsets is None else self.offsets.to(device, dtype)
        return Latents(z, y, self.seeds, self.truncation, self.mode, offsets)


def join_latents(parts: Sequence[Latents]) -> Latents:
    """Several latents of one truncation as one, in their order; where some have offsets, the others' are 0.

    Raises UsageError for none, or for mixed ones.
    """
    if not parts:
        raise UsageError("No latents were given to join.")
    joined: dict[str, Any] = {}
    for field in fields(Latents):
        values = [getattr(part, field.name) for part in parts]
        if field.name == "offsets" and (given := [v for v in values if v is not None]):
            count = given[0].shape[1]
            if any(v.shape[1] != count for v in given):
                raise UsageError("Latents with different numbers of offsets cannot be joined.")
            values = [part.z.new_zeros(len(part), count) if part.offsets is None else part.offsets for part in parts]
        if all(isinstance(v, Tensor) for v in values):
            joined[field.name] = torch.cat(values)
        elif all(isinstance(v, tuple) for v in values):
            joined[field.name] = tuple(item for v in values for item in v)
        elif any(v != values[0] for v in values):
            raise UsageError(f"Latents of different {field.name}s cannot be joined: {values[0]} and others.")
        else:
            joined[field.name] = values[0]
    return Latents(**joined)


def draw_latents(
    seeds: Sequence[int],
    classes: Sequence[int | None],
    *,
    z_dim: int,
    truncation: float,
    mode: TruncationMode,
    truncates: TruncatedSpace = "z",
) -> Latents:
    """The latents of image i from `seeds[i]` and class id `classes[i]` (None: unconditional).

    `truncates` is that of the sampler's info. "z": the truncation is applied here. "w" (StyleGAN2): z is drawn from the
    whole N(0, 1) and the sampler scales w towards its mean by `truncation`; the mode can then only be `scale`.

    Raises UsageError for a truncation outside (0, 1], an unknown mode, a mode other than `scale` in w, a seed outside
    0..2^32-1, a class id outside 0..999 or unequal lengths.

    >>> latents = draw_latents([0, 0], [207, 208], z_dim=128, truncation=0.5, mode="scale")
    >>> latents.z.shape, bool((latents.z[0] == latents.z[1]).all())  # one seed: classes share the noise
    (torch.Size([2, 128]), True)
    """
    check_truncation(truncation, mode)
    if truncates == "w" and mode != "scale":
        raise UsageError(
            f"Truncation mode '{mode}' acts on z, but this sampler scales w instead: use --truncation-mode scale."
        )
    if len(seeds) != len(classes):
        raise UsageError(f"{len(seeds)} seeds and {len(classes)} classes: give one seed an image.")
    drawn = [draw_z(s, z_dim, truncation, mode) if truncates == "z" else draw_z(s, z_dim, 1.0, "std") for s in seeds]
    z = torch.stack(drawn) if drawn else torch.empty(0, z_dim)
    y = torch.zeros(len(classes), NUM_CLASSES)
    for row, class_id in enumerate(classes):
        if class_id is None:
            continue
        if not 0 <= class_id < NUM_CLASSES:
            raise UsageError(f"Class id {class_id} does not exist: ids go from 0 to {NUM_CLASSES - 1}.")
        y[row, class_id] = 1
    return Latents(z, y, tuple(seeds), truncation, mode)


def draw_z(seed: int, z_dim: int, truncation: float = 1.0, mode: TruncationMode = "scale") -> Tensor:
    """z (z_dim,) float32 of one image.

    * `scale`: truncation * N(0, 1) cut to [-2, 2] (what the released BigGAN weights expect; TF-Hub's convention)
    * `resample`: N(0, 1) cut to [-2t, 2t], the truncation trick as published (Brock et al. 2018, section 3.1, whose
      thresholds run from 2, here truncation 1, to 0.04)
    * `std`: N(0, truncation^2), uncut (what the paper's authors did for their learned samplers)
    """
    check_truncation(truncation, mode)
    check_seed(seed)
    u = torch.rand(z_dim, generator=torch.Generator("cpu").manual_seed(seed), dtype=torch.float64)
    if mode == "std":
        return (truncation * _normal(u.clamp(1e-12, 1 - 1e-12))).float()
    bound = 2.0 if mode == "scale" else 2.0 * truncation
    low = 0.5 * (1 + math.erf(-bound / math.sqrt(2)))  # the normal distribution at -bound
    z = _normal(low + u * (1 - 2 * low)).clamp(-bound, bound)
    return (z * (truncation if mode == "scale" else 1.0)).float()


def check_truncation(truncation: float, mode: str) -> None:
    """Raise UsageError unless 0 < truncation <= 1 and the mode is known."""
    if not 0 < truncation <= 1:
        raise UsageError(f"Truncation {truncation:g} is out of range: use a number above 0 and up to 1.")
    if mode not in get_args(TruncationMode):
        raise UsageError(f"Unknown truncation mode '{mode}': use {', '.join(get_args(TruncationMode))}.")


def check_seed(seed: int) -> None:
    """Raise UsageError unless the seed is in 0..2^32-1, where no two seeds draw the same."""
    if not 0 <= seed <= LAST_SEED:
        raise UsageError(f"Seed {seed} is out of range: use 0 to {LAST_SEED}.")


def lerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The straight line from `a` (t = 0) to `b` (t = 1); right for class weights y."""
    return a + (b - a) * t


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The great arc from `a` to `b` along the last axis, with the norms going straight; right for z.

    Falls back to `lerp` where the two point the same or opposite ways (Shoemake 1985).
    """
    na, nb = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    cosine = ((a / na) * (b / nb)).sum(-1, keepdim=True).clamp(-1, 1)
    angle = torch.acos(cosine)
    sine = torch.sin(angle)
    safe = torch.where(sine > 1e-4, sine, torch.ones_like(sine))
    way = (torch.sin((1 - t) * angle) * a / na + torch.sin(t * angle) * b / nb) / safe
    arc = way * lerp(na, nb, t)
    return torch.where(sine > 1e-4, arc, lerp(a, b, t))


def walk(start: Latents, end: Latents, steps: int) -> Latents:
    """`steps` latents from one image's latents to another's, both ends included: z by slerp, y and offsets by lerp.

    The noise inputs and the truncation are those of `start` all the way.

    Raises UsageError unless both hold one image of one truncation and steps >= 2.
    """
    if len(start) != 1 or len(end) != 1 or steps < 2:
        raise UsageError("A walk goes from one image to one image in at least 2 steps.")
    if (start.truncation, start.mode) != (end.truncation, end.mode):
        raise UsageError("A walk keeps one truncation: draw both ends with the same truncation and mode.")
    at = [i / (steps - 1) for i in range(steps)]
    z = torch.cat([slerp(start.z, end.z, t) for t in at])
    y = torch.cat([lerp(start.y, end.y, t) for t in at])
    offsets, given = None, end.offsets if start.offsets is None else start.offsets
    if given is not None:  # an end without offsets has zeros
        a, b = (torch.zeros_like(given) if one.offsets is None else one.offsets for one in (start, end))
        offsets = torch.cat([lerp(a, b, t) for t in at]).half().float()  # as recipes keep it
    return Latents(z, y, start.seeds * steps, start.truncation, start.mode, offsets)


def vary(latents: Latents, amount: float, seeds: Sequence[int]) -> Latents:
    """One image's latents varied: z plus `amount` times the noise that each of `seeds` gives, all else as it is.

    Raises UsageError for several images, or an amount that is not above 0.
    """
    if len(latents) != 1 or not seeds or not amount > 0:
        raise UsageError("Variations are of one image's latents, by an amount above 0, from at least one seed.")
    noise = torch.stack([draw_z(seed, latents.z.shape[1], 1.0, "std") for seed in seeds]).to(latents.z)
    y, offsets = latents.y.expand(len(seeds), -1), latents.offsets
    many = None if offsets is None else offsets.expand(len(seeds), -1)
    return Latents(latents.z + amount * noise, y, tuple(seeds), latents.truncation, latents.mode, many)


def _normal(u: Tensor) -> Tensor:
    """The inverse normal distribution of u in (0, 1)."""
    return math.sqrt(2) * torch.erfinv(2 * u - 1)

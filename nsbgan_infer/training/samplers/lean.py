"""Trains the lean sampler: small data, small compute (the embedded samplers; nothing like it is in the paper).

The generator redraws training pictures from their codes (see `codes`), so that every drawn picture has one of its own
to resemble, and draws others from the prior that will be used later. What it draws passes a frozen EfficientNet-Lite
once (with two of them, each in its turn, so that neither is fooled for long); from there come all terms but two:
features of the original (Dosovitskiy & Brox 2016, arXiv:1602.02644), projected hinge GAN, energy distance to the class,
and the classifier's cross-entropy. The two are the distances to the original itself, whole and at 16 x 16.

Everything that a step needs lies on the training device, and a step asks nothing of the CPU: on a GPU it is replayed
as one graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.classifiers.efficientnet_lite import LiteName
from nsbgan_infer.devices import computes_bf16
from nsbgan_infer.errors import CheckpointError, UsageError, unknown_name
from nsbgan_infer.samplers.lean import COARSE, LeanGenerator
from nsbgan_infer.samplers.learned import LearnedConfig, LearnedSampler
from nsbgan_infer.samplers.span import gain, normalised
from nsbgan_infer.storage.components import load_component, save_component
from nsbgan_infer.training.cuda_graph import Captured
from nsbgan_infer.training.loop import Ema, LoopSettings, step_generator, train
from nsbgan_infer.training.optimisers import set_rate
from nsbgan_infer.training.samplers.codes import fit_prior, kept_codes, turned_to
from nsbgan_infer.training.samplers.energy import ClassRings, energy_distance
from nsbgan_infer.training.samplers.looks import KeptLooks, bytes_to_keep, measure
from nsbgan_infer.training.samplers.losses import discriminator_loss, generator_loss
from nsbgan_infer.training.samplers.lowbands import LowBandSet, open_lowbands
from nsbgan_infer.training.samplers.projected import Colours, LiteTrunk, ProjectedHeads, Seen, shown_to_trunk
from nsbgan_infer.training.samplers.sheets import write_classes

CODES = "codes.pt"  # in the run folder
STREAM = 21  # of `step_generator`
NOMINAL = 0.55  # values of real low bands are hardly ever further than this from 0.5
REAL_RING = 64  # summaries of real pictures that a class is compared with
DRAWN_BATCHES = 4  # batches of drawn summaries that are remembered for each class
POOLED = 40.0  # brings the distance of pooled features to about 1
TERMS = ("pixel", "coarse", "tap3", "tap4", "pooled", "excess", "classifier", "energy", "hinge")


@dataclass(frozen=True)
class RedrawWeights:
    """The weight of each term of the generator's loss."""

    pixel: float = 5.0
    """L1 to the original."""
    coarse: float = 30.0
    """L1 to the original at 16 x 16."""
    tap3: float = 1.0
    """L1 of the trunk's third tap (8 x 8), in units of its spread."""
    tap4: float = 0.5
    """L1 of the fourth tap (4 x 4)."""
    pooled: float = 0.5
    """Distance of the pooled features."""
    classifier: float = 0.02
    """Cross-entropy of the trunk's own classifier over the set's classes."""
    energy: float = 0.2
    """Energy distance to the real pictures of the class."""
    hinge: float = 0.1
    """Projected hinge GAN."""
    excess: float = 20.0
    """What lies outside the range of real low bands: without it one sample in twenty ended in glaring stripes."""


@dataclass(frozen=True)
class RedrawSettings:
    """One run. Raises UsageError for values that cannot be."""

    loop: LoopSettings
    data: str
    """A folder of `encode_lowbands`."""
    pictures: int = 0
    """Use this many of its pictures, evenly spaced (0: all)."""
    name: str = "embedded"
    licence: str = "none"
    start: str = ""
    """A saved lean sampler to begin with. Layers of another shape (wider stages) start from random weights; codes are
    turned to it."""
    widths: tuple[int, ...] = (192, 192, 192, 96, 32)
    """Channels at 4 x 4, 8 x 8, ..."""
    code_dim: int = 224
    choice_dim: int = 32
    centres: int = 96
    """Codes stored for each class."""
    surest: float = 1.0
    """The share of a class's pictures, the ones that the classifier is surest about, that stored codes come from."""
    class_dim: int = 32
    batch: int = 16
    groups: int = 4
    """Classes in a batch, each with as many pictures, so that repulsion within a class is felt."""
    from_prior: float = 0.5
    """Share of each group that is drawn from the prior, the standard deviation of z uniform in [0.3, 1]."""
    noise: float = 0.1
    """Standard deviation of what is added to codes."""
    networks: tuple[LiteName, ...] = ("lite0",)
    """The trunks, one a step in turn. Codes come from the first."""
    colours: Colours = "lite"
    """Mean and deviation of what the trunks are shown."""
    shift: int = 0
    """Both real and drawn pictures are moved at random by up to this many of the trunk's 128 pixels, against heads that
    learn a small set by heart."""
    keep_looks: float = 4.0
    """Gigabytes that what the trunks see in real pictures may take in memory; it must be 0 for a `shift`."""
    g_lr: float = 3e-4
    d_lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.99)
    heads_every: int = 2
    """The discriminator's heads learn once in this many steps."""
    warm: int = 0
    """Steps in which the heads learn alone, at `warm_lr`."""
    warm_lr: float = 1e-3
    decay: float = 0.4
    """Share of the steps, the last ones, over which both learning rates fall to 0."""
    ema: float = 0.999
    """Decay of the running mean of the weights, which is what is saved."""
    weights: RedrawWeights = field(default_factory=RedrawWeights)

    def __post_init__(self) -> None:
        if self.groups < 1 or self.batch % self.groups or self.batch // self.groups < 2:
            raise UsageError("batch must be a multiple of groups, with at least 2 pictures in a group.")
        if not 0 <= self.from_prior < 1 or not 0 <= self.ema < 1 or min(self.g_lr, self.d_lr, self.warm_lr) <= 0:
            raise UsageError("from_prior and ema lie in [0, 1), and learning rates are above 0.")
        if not 0 < self.surest <= 1 or not 0 < self.decay <= 1:
            raise UsageError("surest and decay are shares in (0, 1].")
        if min(self.shift, self.warm, self.keep_looks) < 0 or self.heads_every < 1 or self.shift > 32:
            raise UsageError("warm and keep_looks are at least 0, heads_every at least 1, shift from 0 to 32.")
        for network in self.networks or ("",):
            if network not in get_args(LiteName):
                raise unknown_name("network", network, get_args(LiteName))
        if self.colours not in get_args(Colours):
            raise unknown_name("colours", self.colours, get_args(Colours))


class Watcher:
    """One trunk with its heads, and what is remembered of what it saw."""

    def __init__(self, name: LiteName, settings: RedrawSettings, data: LowBandSet, device: torch.device) -> None:
        halved = settings.loop.precision == "bf16" and computes_bf16(device)
        dtype = torch.bfloat16 if halved else torch.float32
        self.trunk = LiteTrunk(name, settings.colours).to(  # type: ignore[call-overload]
            device, dtype, memory_format=torch.channels_last
        )
        self.spread, self.scales = measure(self.trunk, data)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.loop.seed)
            self.heads = ProjectedHeads(len(data.classes), spread=self.spread)
        self.heads.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.trained = [p for p in self.heads.parameters() if p.requires_grad]
        self.optimiser = make_adam(self.trained, settings.d_lr, (0.0, settings.betas[1]), device)
        dims = [1280, 320 * 4, 112 * 16, (24 + 40) * 2]  # of Seen.summaries
        each = settings.batch // settings.groups
        self.real = ClassRings(len(data.classes), max(REAL_RING, each), dims, device)
        self.drawn = ClassRings(len(data.classes), DRAWN_BATCHES * each, dims, device)
        self.last_loss = torch.zeros((), device=device)
        self.kept: KeptLooks | None = None

    @property
    def tracked(self) -> Mapping[str, Any]:
        """The heads, their optimiser, and what was seen lately."""
        return {
            "heads": self.heads,
            "optimiser": self.optimiser,
            "real": self.real,
            "drawn": self.drawn,
            "last_loss": self.last_loss,
        }


class RedrawTask:
    """The lean trainer as a `loop.Task`. One process: the point is that one CPU, or one GPU, is enough."""

    def __init__(self, settings: RedrawSettings, accelerator: Any) -> None:
        if accelerator.num_processes > 1:
            raise UsageError("The lean sampler is trained by one process: start it without `accelerate launch`.")
        self.settings, self.device = settings, accelerator.device
        data = open_lowbands(Path(settings.data))
        self.data = data.thinned(settings.pictures) if settings.pictures else data
        classes = len(self.data.classes)
        if settings.groups > classes:
            raise UsageError(f"{settings.data} has {classes} classes, fewer than {settings.groups} groups.")
        self.halved = settings.loop.precision == "bf16" and computes_bf16(self.device)
        with torch.backends.cudnn.flags(benchmark=False):  # shapes that come once are not worth a search
            self.watchers = [Watcher(name, settings, self.data, self.device) for name in settings.networks]
            codes = kept_codes(settings.loop.out / CODES, self.data, self.watchers[0].trunk, settings.code_dim)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.loop.seed)
            self.sampler = LearnedSampler(lean_config(settings, self.data))
        started = load_start(settings.start, self.sampler) if settings.start else None
        self.codes = codes if started is None else turned_to(codes, self.data.labels, started)
        self._begin(fresh=started is None)
        self.sampler.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._place()
        self.ema = Ema(self.sampler, settings.ema)
        trained = [p for p in self.sampler.parameters() if p.requires_grad]
        self.g_optimiser = make_adam(trained, settings.g_lr, settings.betas, self.device)
        self.updates: dict[tuple[int, bool, bool], Captured] = {}

    def _begin(self, *, fresh: bool) -> None:
        """The coarse picture from the layout components unless weights were given, and the prior from the codes."""
        generator, config, settings = self.sampler.generator, self.sampler.config, self.settings
        assert isinstance(generator, LeanGenerator)
        if fresh:
            with torch.no_grad():
                basis = self.codes.layout * (gain(config) * 2 / config.scale)
                generator.coarse.weight.zero_()
                generator.coarse.weight[:, -basis.shape[1] :] = basis
                generator.coarse.bias.copy_(normalised(self.codes.layout_mean, config))
                generator.to_rgb.weight.mul_(0.3)
                generator.to_rgb.bias.zero_()  # type: ignore[union-attr]
        random = step_generator(settings.loop.seed, 0, STREAM + 1)
        fit_prior(self.sampler.prior, self.codes, self.data.labels, random, surest=settings.surest)

    def _place(self) -> None:
        """Bring to the device what steps read."""
        settings, data, device = self.settings, self.data, self.device
        by_class = [torch.nonzero(data.labels == k).flatten() for k in range(len(data.classes))]
        self.counts = torch.tensor([len(rows) for rows in by_class], device=device)
        self.members = torch.nn.utils.rnn.pad_sequence(by_class, batch_first=True).to(device)  # (classes, most)
        self.columns = torch.tensor(data.classes, device=device)
        self.code = self.codes.code.to(device)
        each = settings.batch // settings.groups
        redrawn = max(1, each - round(settings.from_prior * each))
        place = torch.arange(settings.batch)
        self.is_paired = (place % each < redrawn).to(device)
        self.paired = torch.nonzero(place % each < redrawn).flatten().to(device)
        # a GPU reads pictures from its own memory, a CPU from the file as it needs them
        self.low = torch.from_numpy(np.array(data.low)).to(device) if device.type != "cpu" else None
        size = bytes_to_keep(data, bytes_each=2 if self.halved else 4) * len(self.watchers)
        if not settings.shift and size <= settings.keep_looks * 1e9:
            for watcher in self.watchers:
                watcher.kept = KeptLooks(watcher.trunk, data)

    def step(self, step: int) -> Mapping[str, Tensor | float]:
        """One update: of the heads every `heads_every` steps, of the generator once the heads are warm."""
        settings = self.settings
        draws = step >= settings.warm
        learns = not draws or step // len(self.watchers) % settings.heads_every == 0
        turn = step % len(self.watchers)
        self._set_rates(step)
        kind = (turn, learns, draws)
        if kind not in self.updates:
            self.updates[kind] = Captured(lambda batch: self._update(batch, *kind), enabled=self.device.type == "cuda")
        values = self.updates[kind](self._draw_batch(step))
        if draws:
            self.ema.update(self.sampler)
        return dict(zip(("loss", "d_loss", "share", *TERMS), values.unbind(), strict=True))

    def _set_rates(self, step: int) -> None:
        settings = self.settings
        left = (settings.loop.steps - step) / max(1.0, settings.decay * settings.loop.steps)
        share = min(1.0, (step + 1) / 50, (step - settings.warm + 1) / 50 if step >= settings.warm else 1.0, left)
        d_lr = settings.warm_lr if step < settings.warm else settings.d_lr
        set_rate(self.g_optimiser, settings.g_lr * share)
        for watcher in self.watchers:
            set_rate(watcher.optimiser, d_lr * share)

    def _draw_batch(self, step: int) -> dict[str, Tensor]:
        """All that is random in a step, drawn on the device: classes, pictures, flips, noise, shifts."""
        settings, config, device = self.settings, self.sampler.config, self.device
        random = step_generator(settings.loop.seed, step, STREAM, device)
        each = settings.batch // settings.groups

        def uniform(*shape: int) -> Tensor:
            return torch.rand(shape, generator=random, device=device)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=random, device=device)

        classes = uniform(len(self.counts)).argsort()[: settings.groups]
        labels = classes.repeat_interleave(each)
        rows = (uniform(settings.batch).double() * self.counts[labels]).long()
        rows = self.members[labels, rows.minimum(self.counts[labels] - 1)]
        flips = (uniform(settings.batch) * self.data.flips).long().clamp(max=self.data.flips - 1)
        z = normal(settings.batch, config.z_dim) * (0.3 + 0.7 * uniform(settings.batch, 1))
        batch = {
            "classes": classes,
            "labels": labels,
            "low": self._pictures(rows, flips),
            "rows": rows,
            "flips": flips,
            "code": self.code[rows, flips] + settings.noise * normal(settings.batch, config.code_dim),
            "z": z,
            "weights": F.one_hot(labels, len(self.counts)).float(),
        }
        if settings.shift:
            batch["moved"] = (uniform(2, settings.batch) * (2 * settings.shift + 1)).long()
        return batch

    def _pictures(self, rows: Tensor, flips: Tensor) -> Tensor:
        if self.low is None:
            return self.data.batch(rows, flips)
        return self.low[rows, flips].float()

    def _update(self, batch: Mapping[str, Tensor], turn: int, learns: bool, draws: bool) -> Tensor:
        """The update itself, free of random numbers and of the CPU: the loss, the heads' loss, share, and TERMS."""
        settings, watcher, labels = self.settings, self.watchers[turn], batch["labels"]
        real = self._look_at_real(watcher, batch)
        with torch.set_grad_enabled(draws):
            drawn_low = self._draw(batch)
            drawn = watcher.trunk(self._shown(drawn_low, batch))
        if learns:
            watcher.last_loss.copy_(self._learn_heads(watcher, real, drawn, labels))
        with torch.set_grad_enabled(draws):
            terms = self._paired_terms(drawn_low, batch["low"], drawn, real, watcher.spread)
            terms["excess"] = F.relu((drawn_low - 0.5).abs() - NOMINAL).mean()
            logits = drawn.logits.index_select(1, self.columns).float()
            terms["classifier"] = F.cross_entropy(logits, labels)
            terms["energy"] = self._energy(watcher, drawn, real, batch["classes"])
            with self._autocast():
                terms["hinge"] = generator_loss("hinge", None, watcher.heads(drawn.taps, labels))
            loss = torch.stack([getattr(settings.weights, name) * terms[name] for name in TERMS]).sum()
        if draws:
            self.g_optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.g_optimiser.step()
        share = (logits.argmax(1) == labels).float().mean()
        return torch.stack([loss, watcher.last_loss, share, *(terms[name] for name in TERMS)]).detach()

    def _autocast(self) -> torch.autocast:
        """bf16 where the device computes it. Nothing is cached between passes: a captured step may not rely on it."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.halved, cache_enabled=False)

    def _shown(self, low: Tensor, batch: Mapping[str, Tensor]) -> Tensor:
        """What the trunk is shown of low bands (B, 3, 64, 64): (B, 3, 128, 128), moved where there is a `shift`."""
        shown = shown_to_trunk(low)
        return moved(shown, batch["moved"], self.settings.shift) if self.settings.shift else shown

    @torch.no_grad()
    def _look_at_real(self, watcher: Watcher, batch: Mapping[str, Tensor]) -> Seen:
        if watcher.kept is not None:
            return watcher.kept.at(batch["rows"], batch["flips"])
        seen: Seen = watcher.trunk(self._shown(batch["low"], batch))
        return seen

    def _draw(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Redrawn pictures and, in the other places, pictures from the prior."""
        weights = batch["weights"]
        with torch.no_grad():
            code = torch.where(self.is_paired[:, None], batch["code"], self.sampler.prior(batch["z"], weights))
        with self._autocast():
            return self.sampler.draw_code(code, weights)

    def _learn_heads(self, watcher: Watcher, real: Seen, drawn: Seen, labels: Tensor) -> Tensor:
        """One update of the heads, real and drawn pictures in one pass."""
        for parameter in watcher.trained:
            parameter.requires_grad_(True)
        watcher.heads.train()
        count = len(labels)
        both = tuple(torch.cat((r, d.detach())) for r, d in zip(real.taps, drawn.taps, strict=True))
        with self._autocast():
            logits = watcher.heads(both, labels.repeat(2))
        loss = discriminator_loss("hinge", [x[:count] for x in logits], [x[count:] for x in logits])
        watcher.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        watcher.optimiser.step()
        for parameter in watcher.trained:
            parameter.requires_grad_(False)
        watcher.heads.eval()  # no power iteration in the generator's pass
        return loss.detach()

    def _paired_terms(
        self, low: Tensor, truth: Tensor, drawn: Seen, real: Seen, spread: tuple[float, ...]
    ) -> dict[str, Tensor]:
        """How far redrawn pictures are from their originals."""
        rows = self.paired
        low, truth = low[rows], truth[rows]
        coarse = (F.adaptive_avg_pool2d(low, COARSE) - F.adaptive_avg_pool2d(truth, COARSE)).abs().mean()
        tap3, tap4 = ((drawn.taps[i][rows] - real.taps[i][rows]).abs().float().mean() / spread[i] for i in (2, 3))
        pooled = (drawn.pooled[rows].float() - real.pooled[rows].float()).square().sum(1).add(1e-6).sqrt().mean()
        return {
            "pixel": (low - truth).abs().mean(),
            "coarse": coarse,
            "tap3": tap3,
            "tap4": tap4,
            "pooled": pooled / POOLED,
        }

    def _energy(self, watcher: Watcher, drawn: Seen, real: Seen, classes: Tensor) -> Tensor:
        """Mean over the classes of the batch of the energy distance, summed over the kinds of summary."""

        def by_class(seen: Seen) -> list[Tensor]:
            return [
                torch.unflatten(s / scale, 0, (len(classes), -1))
                for s, scale in zip(seen.summaries(), watcher.scales, strict=True)
            ]

        watcher.real.write(classes, by_class(real))
        mine = by_class(drawn)
        reals, real_filled = watcher.real.read(classes)
        past, past_filled = watcher.drawn.read(classes)
        kinds = [
            energy_distance(x, r, p, real_filled=real_filled, past_filled=past_filled)
            for x, r, p in zip(mine, reals, past, strict=True)
        ]
        watcher.drawn.write(classes, mine)
        return torch.stack(kinds).sum(0).mean()

    @property
    def tracked(self) -> Mapping[str, Any]:
        """Networks, optimisers, running mean, and what was seen lately."""
        return {
            "sampler": self.sampler,
            "g_optimiser": self.g_optimiser,
            "ema": self.ema,
            "watchers": [w.tracked for w in self.watchers],
        }

    def save(self, folder: Path, step: int, sheet: bool) -> None:
        """The running mean as it would ship now, and a sheet."""
        shipped = LearnedSampler(self.sampler.config)
        shipped.load_state_dict(self.ema.shadow)
        save_component(shipped, folder)
        if sheet:
            write_classes(load_component(folder), folder, step, truncation=0.5)


def make_adam(
    parameters: list[torch.nn.Parameter], lr: float, betas: tuple[float, float], device: torch.device
) -> torch.optim.Adam:
    """Adam in one kernel; on a GPU with its rate in a tensor, so that a captured step follows the schedule."""
    if device.type != "cuda":
        return torch.optim.Adam(parameters, lr=lr, betas=betas, fused=device.type == "cpu")
    rate = torch.tensor(lr, device=device)
    return torch.optim.Adam(parameters, lr=rate, betas=betas, fused=True, capturable=True)


def moved(x: Tensor, by: Tensor, reach: int) -> Tensor:
    """Windows of x (B, 3, H, W), each moved by `by` (2, B) - `reach` pixels down and right, the border mirrored."""
    height, width = x.shape[-2:]
    rows = by[0][:, None, None] + torch.arange(height, device=x.device)[None, :, None]
    columns = by[1][:, None, None] + torch.arange(width, device=x.device)[None, None]
    padded = F.pad(x, (reach,) * 4, mode="reflect").permute(0, 2, 3, 1)
    picture = torch.arange(len(x), device=x.device)[:, None, None]
    return padded[picture, rows, columns].permute(0, 3, 1, 2)


def load_start(folder: str, sampler: LearnedSampler) -> Tensor:
    """Copy into `sampler` the weights of the lean sampler saved in `folder` that have the same shape; its class means.

    Raises CheckpointError if it is not a lean sampler of the same classes, code and normalisation.
    """
    given = load_component(Path(folder), kind="sampler")
    now, then = sampler.config, getattr(given, "config", None)
    same = ("form", "classes", "code_dim", "choice_dim", "class_dim", "basis", "levels", "shift", "scale")
    differing = [k for k in same if getattr(then, k, None) != getattr(now, k)]
    if differing:
        raise CheckpointError(
            f"{folder} is not a start for this run: its {differing[0]} is {getattr(then, differing[0], None)}, "
            f"not {getattr(now, differing[0])}."
        )
    weights, mine = given.state_dict(), sampler.state_dict()
    fitting = {k: v.float() for k, v in weights.items() if k in mine and mine[k].shape == v.shape}
    sampler.load_state_dict({**mine, **fitting})
    mean: Tensor = weights["prior.mean"].float()
    return mean


def lean_config(settings: RedrawSettings, data: LowBandSet) -> LearnedConfig:
    """The sampler that `settings` describe for `data`. Raises UsageError if they do not fit."""
    shift, scale = data.shift_and_scale()
    try:
        return LearnedConfig(
            classes=data.classes,
            form="lean",
            basis=data.encoder.basis,
            resolution=data.low.shape[-1],
            levels=data.encoder.levels,
            z_dim=settings.code_dim + settings.choice_dim,
            class_dim=settings.class_dim,
            widths=settings.widths,
            code_dim=settings.code_dim,
            choice_dim=settings.choice_dim,
            centres=settings.centres,
            shift=shift,
            scale=scale,
            truncation=0.5,
            name=settings.name,
            licence=settings.licence,
        )
    except ValueError as error:
        raise UsageError(f"These settings describe no sampler: {error}.") from error


def train_lean_sampler(settings: RedrawSettings) -> LearnedSampler:
    """Run, or resume, the training of a lean sampler; the sampler, also saved in the run folder. Raises as `train`."""
    return cast("LearnedSampler", train(RedrawTask, settings))

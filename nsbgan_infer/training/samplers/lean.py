"""Trains the lean sampler: small data, small compute (the embedded samplers; nothing like it is in the paper).

The generator redraws training pictures from their codes (see `codes`), so that every drawn picture has one of its own
to resemble, and draws others from the prior that will be used later. What it draws passes a frozen
EfficientNet-Lite0 once; from there come all terms but two: features of the original (Dosovitskiy & Brox 2016,
arXiv:1602.02644), projected hinge GAN, energy distance to the class, and the classifier's cross-entropy. The two are
the distances to the original itself, whole and at 16 x 16.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from nsbgan_infer.devices import computes_bf16
from nsbgan_infer.errors import UsageError
from nsbgan_infer.samplers.lean import COARSE, LeanGenerator
from nsbgan_infer.samplers.learned import LearnedConfig, LearnedSampler, gain, normalised
from nsbgan_infer.storage.components import load_component, save_component
from nsbgan_infer.training.loop import Ema, LoopSettings, autocast, make_accelerator, run_loop, step_generator
from nsbgan_infer.training.run_folder import check_record, json_ready
from nsbgan_infer.training.samplers.biggan import write_sheet
from nsbgan_infer.training.samplers.codes import fit_prior, kept_codes
from nsbgan_infer.training.samplers.discriminators import hinge_discriminator, hinge_generator
from nsbgan_infer.training.samplers.lowbands import LowBandSet, open_lowbands
from nsbgan_infer.training.samplers.projected import (
    SPREAD,
    LiteTrunk,
    ProjectedHeads,
    Seen,
    energy_distance,
    shown_to_trunk,
)

CODES = "codes.pt"  # in the run folder
STREAM = 21  # of `step_generator`
NOMINAL = 0.55  # values of real low bands are hardly ever further than this from 0.5
REALS_FOR_ENERGY = 160
QUEUE = 4  # batches of drawn summaries that are remembered for each class


@dataclass(frozen=True)
class RedrawWeights:
    """The weight of each term: L1 to the original, L1 at 16 x 16, L1 of the third and fourth tap, distance of the
    pooled features, cross-entropy, energy distance, hinge, and what lies outside the range of real low bands: without
    the last, one sample in twenty ended in glaring stripes after 130,000 images.
    """

    pixel: float = 5.0
    coarse: float = 30.0
    tap3: float = 1.0
    tap4: float = 0.5
    pooled: float = 0.5
    classifier: float = 0.02
    energy: float = 0.2
    hinge: float = 0.1
    excess: float = 20.0


@dataclass(frozen=True)
class RedrawSettings:
    """One run. `data` is a folder of `encode_lowbands`; `pictures` above 0 uses only that many of it.

    A batch has `groups` classes with as many pictures each, so that repulsion within a class can be felt;
    `from_prior` is the share of each group that is drawn from the prior, with the standard deviation of z uniform in
    [0.3, 1]. `noise` is added to codes. The discriminator learns every `judge_every` steps.
    Both learning rates fall linearly to a tenth over the last `decay` share of the steps.
    """

    loop: LoopSettings
    data: str
    pictures: int = 0
    name: str = "embedded"
    licence: str = "none"
    widths: tuple[int, ...] = (192, 192, 192, 96, 32)
    code_dim: int = 224
    choice_dim: int = 32
    centres: int = 96
    class_dim: int = 32
    batch: int = 16
    groups: int = 4
    from_prior: float = 0.5
    noise: float = 0.1
    g_lr: float = 3e-4
    d_lr: float = 2e-4
    betas: tuple[float, float] = (0.5, 0.99)
    judge_every: int = 2
    decay: float = 0.25
    ema: float = 0.999
    weights: RedrawWeights = field(default_factory=RedrawWeights)

    def __post_init__(self) -> None:
        if self.groups < 1 or self.batch % self.groups or self.batch // self.groups < 2:
            raise UsageError("batch must be a multiple of groups, with at least 2 pictures in a group.")
        if not 0 <= self.from_prior < 1 or not 0 <= self.ema < 1 or min(self.g_lr, self.d_lr) <= 0:
            raise UsageError("from_prior and ema lie in [0, 1), and learning rates are above 0.")


class RedrawTask:
    """The lean trainer as a `loop.Task`. One process: the point is that one CPU is enough."""

    def __init__(self, settings: RedrawSettings, accelerator: Any) -> None:
        if accelerator.num_processes > 1:
            raise UsageError("The lean sampler is trained by one process: start it without `accelerate launch`.")
        self.settings, self.device = settings, accelerator.device
        data = open_lowbands(Path(settings.data))
        self.data = data.thinned(settings.pictures) if settings.pictures else data
        if settings.groups > len(self.data.classes):
            raise UsageError(
                f"{settings.data} has {len(self.data.classes)} classes, fewer than {settings.groups} groups."
            )
        self.by_class = [torch.nonzero(self.data.labels == k).flatten() for k in range(len(self.data.classes))]
        halved = settings.loop.precision == "bf16" and computes_bf16(self.device)
        frozen = torch.bfloat16 if halved else torch.float32
        self.trunk = LiteTrunk().to(self.device, frozen, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.codes = kept_codes(settings.loop.out / CODES, self.data, self.trunk, settings.code_dim)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.loop.seed)
            self.sampler = LearnedSampler(lean_config(settings, self.data))
            self.judge = ProjectedHeads(len(self.data.classes))
        self._start()
        for part in (self.sampler, self.judge):
            part.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.ema = Ema(self.sampler, settings.ema)
        trained = [p for p in self.sampler.parameters() if p.requires_grad]
        self.g_optimiser = torch.optim.Adam(trained, lr=settings.g_lr, betas=settings.betas)
        self.trained = [p for p in self.judge.parameters() if p.requires_grad]
        self.d_optimiser = torch.optim.Adam(self.trained, lr=settings.d_lr, betas=(0.0, settings.betas[1]))
        self.queue: list[list[list[Tensor]]] = [[] for _ in self.data.classes]
        self.last_d_loss = torch.zeros((), device=self.device)

    def _start(self) -> None:
        """The coarse picture from the layout components, and the prior from the codes."""
        generator, config = self.sampler.generator, self.sampler.config
        assert isinstance(generator, LeanGenerator)
        with torch.no_grad():
            basis = self.codes.layout * (gain(config) * 2 / config.scale)
            generator.coarse.weight.zero_()
            generator.coarse.weight[:, -basis.shape[1] :] = basis
            generator.coarse.bias.copy_(normalised(self.codes.layout_mean, config))
            generator.to_rgb.weight.mul_(0.3)
            generator.to_rgb.bias.zero_()  # type: ignore[union-attr]
        fit_prior(
            self.sampler.prior, self.codes, self.data.labels, step_generator(self.settings.loop.seed, 0, STREAM + 1)
        )

    def step(self, step: int) -> Mapping[str, Tensor | float]:
        """One update of the generator, and of the heads every `judge_every` steps."""
        settings = self.settings
        random = step_generator(settings.loop.seed, step, STREAM)
        classes, labels, rows, flips = self._pick(random)
        low = self.data.batch(rows, flips).to(self.device)
        with torch.no_grad():
            real = self.trunk(shown_to_trunk(low))
        paired = self._paired()
        drawn_low = self._draw(labels, rows, flips, paired, random)
        drawn = self.trunk(shown_to_trunk(drawn_low))
        self._set_rates(step)
        if step % settings.judge_every == 0:
            self.last_d_loss = self._judge_update(real, drawn, labels)
        terms = self._paired_terms(drawn_low[paired], low[paired], part(drawn, paired), part(real, paired))
        terms["excess"] = F.relu((drawn_low - 0.5).abs() - NOMINAL).mean()
        logits = drawn.logits[:, list(self.data.classes)].float()
        terms["classifier"] = F.cross_entropy(logits, labels)
        terms["energy"] = self._energy(drawn, classes, random)
        with autocast(self.device, settings.loop.precision):
            terms["hinge"] = hinge_generator(self.judge(drawn.taps, labels))
        loss = torch.stack([getattr(settings.weights, name) * value for name, value in terms.items()]).sum()
        self.g_optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.g_optimiser.step()
        self.ema.update(self.sampler)
        return {"loss": loss, "d_loss": self.last_d_loss, **terms, "share": (logits.argmax(1) == labels).float().mean()}

    def _set_rates(self, step: int) -> None:
        settings = self.settings
        left = (settings.loop.steps - step) / max(1.0, settings.decay * settings.loop.steps)
        share = min(1.0, (step + 1) / 50, max(0.1, left))
        for optimiser, rate in ((self.g_optimiser, settings.g_lr), (self.d_optimiser, settings.d_lr)):
            for group in optimiser.param_groups:
                group["lr"] = rate * share

    def _pick(self, random: torch.Generator) -> tuple[list[int], Tensor, Tensor, Tensor]:
        """The classes of this batch, and for each place in it label, picture and flip."""
        settings = self.settings
        each = settings.batch // settings.groups
        classes = torch.randperm(len(self.by_class), generator=random)[: settings.groups]
        rows = torch.cat([some(self.by_class[c], each, random) for c in classes.tolist()])
        flips = torch.randint(self.data.flips, (settings.batch,), generator=random)
        return classes.tolist(), classes.repeat_interleave(each).to(self.device), rows, flips

    def _paired(self) -> Tensor:
        """Which places of a batch are redrawn from the code of a picture (the others come from the prior)."""
        each = self.settings.batch // self.settings.groups
        first = each - round(self.settings.from_prior * each)
        return (torch.arange(self.settings.batch) % each < max(1, first)).to(self.device)

    def _draw(self, labels: Tensor, rows: Tensor, flips: Tensor, paired: Tensor, random: torch.Generator) -> Tensor:
        settings, config = self.settings, self.sampler.config
        weights = F.one_hot(labels, len(self.data.classes)).float()
        code = self.codes.code[rows, flips]
        code = (code + settings.noise * torch.randn(code.shape, generator=random)).to(self.device)
        z = torch.randn(len(rows), config.z_dim, generator=random)
        z = (z * (0.3 + 0.7 * torch.rand(len(rows), 1, generator=random))).to(self.device)
        with torch.no_grad():
            code = torch.where(paired[:, None], code, self.sampler.prior(z, weights))
        with autocast(self.device, settings.loop.precision):
            return self.sampler.draw_code(code, weights)

    def _judge_update(self, real: Seen, drawn: Seen, labels: Tensor) -> Tensor:
        for parameter in self.trained:
            parameter.requires_grad_(True)
        self.judge.train()
        with autocast(self.device, self.settings.loop.precision):
            on_real = self.judge(real.taps, labels)
            on_drawn = self.judge(tuple(t.detach() for t in drawn.taps), labels)
        loss = hinge_discriminator(on_real, on_drawn)
        self.d_optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.d_optimiser.step()
        for parameter in self.trained:
            parameter.requires_grad_(False)
        self.judge.eval()  # no power iteration in the generator's pass
        return loss.detach()

    @staticmethod
    def _paired_terms(low: Tensor, truth: Tensor, drawn: Seen, real: Seen) -> dict[str, Tensor]:
        """How far redrawn pictures are from their originals."""
        coarse = (F.adaptive_avg_pool2d(low, COARSE) - F.adaptive_avg_pool2d(truth, COARSE)).abs().mean()
        taps = [(d - r).abs().float().mean() / s for d, r, s in zip(drawn.taps, real.taps, SPREAD, strict=True)]
        pooled = (drawn.pooled.float() - real.pooled.float()).norm(dim=1).mean() / 40
        return {
            "pixel": (low - truth).abs().mean(),
            "coarse": coarse,
            "tap3": taps[2],
            "tap4": taps[3],
            "pooled": pooled,
        }

    def _energy(self, drawn: Seen, classes: list[int], random: torch.Generator) -> Tensor:
        """Mean over the classes of the batch of the energy distance, summed over the kinds of summary."""
        each = self.settings.batch // self.settings.groups
        scaled = [s / scale for s, scale in zip(drawn.summaries(), self.codes.scales, strict=True)]
        total = scaled[0].new_zeros(())
        for place, c in enumerate(classes):
            mine = [s[place * each : (place + 1) * each] for s in scaled]
            rows = some(self.by_class[c], REALS_FOR_ENERGY, random)
            flips = torch.randint(self.data.flips, rows.shape, generator=random)
            for kind, x in enumerate(mine):
                real = self.codes.summaries[kind][rows, flips].to(x) / self.codes.scales[kind]
                past = torch.cat([q[kind] for q in self.queue[c]]).to(x) if self.queue[c] else None
                total = total + energy_distance(x, real, past)
            self.queue[c] = [*self.queue[c], [x.detach().half() for x in mine]][-QUEUE:]
        return total / len(classes)

    def state(self) -> dict[str, Any]:
        """Networks, optimisers, running mean, and what was drawn lately."""
        return {
            "sampler": self.sampler.state_dict(),
            "judge": self.judge.state_dict(),
            "g_optimiser": self.g_optimiser.state_dict(),
            "d_optimiser": self.d_optimiser.state_dict(),
            "ema": self.ema.state(),
            "queue": self.queue,
            "d_loss": self.last_d_loss,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Undo `state`."""
        self.sampler.load_state_dict(state["sampler"])
        self.judge.load_state_dict(state["judge"])
        self.g_optimiser.load_state_dict(state["g_optimiser"])
        self.d_optimiser.load_state_dict(state["d_optimiser"])
        self.ema.load_state(state["ema"])
        self.queue = state["queue"]
        self.last_d_loss = state["d_loss"]

    def save(self, folder: Path, step: int, sheet: bool) -> None:
        """The running mean as it would ship now, and a sheet."""
        shipped = LearnedSampler(self.sampler.config)
        shipped.load_state_dict(self.ema.shadow)
        save_component(shipped, folder)
        if sheet:
            write_sheet(load_component(folder), folder / "sheets", step)


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


def part(seen: Seen, rows: Tensor) -> Seen:
    """What the trunk sees in some of the pictures."""
    return Seen(tuple(t[rows] for t in seen.taps), seen.pooled[rows], seen.logits[rows])


def some(rows: Tensor, count: int, random: torch.Generator) -> Tensor:
    """`count` of `rows`, drawn with replacement."""
    return rows[torch.randint(len(rows), (count,), generator=random)]


def train_lean_sampler(settings: RedrawSettings) -> LearnedSampler:
    """Run (or go on with) the training of a lean sampler; the sampler, also saved in the run folder.

    Raises UsageError or CheckpointError before step 0, NonFiniteError if training diverges.
    """
    accelerator = make_accelerator(settings.loop.device)
    check_record(settings.loop.out, json_ready(settings))
    task = RedrawTask(settings, accelerator)
    run_loop(task, settings.loop, settings, accelerator)
    component = load_component(settings.loop.out, kind="sampler")
    assert isinstance(component, LearnedSampler)
    return component

"""What the adversarial samplers (BigGAN, R3GAN, ProGAN) share: settings and the step of a GAN as a `loop.Task`.

A form builds two networks and says how the first draws; losses, gradient penalties, schedules, running mean and
processes are here. Real low bands (B, 3, R, R) come from a set of `nsbgan data encode`; both networks work on the
normalised ones, in [-1, 1] (`samplers.span`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nsbgan_infer.errors import UsageError, unknown_name
from nsbgan_infer.samplers.span import normalised
from nsbgan_infer.storage.components import Component, load_component, save_component
from nsbgan_infer.training.loop import LoopSettings, autocast, average_gradients, move_towards, step_generator
from nsbgan_infer.training.samplers.augment import POLICIES, augment
from nsbgan_infer.training.samplers.losses import LOSSES, LossName, discriminator_loss, generator_loss
from nsbgan_infer.training.samplers.lowbands import LowBandSet, open_lowbands
from nsbgan_infer.training.samplers.penalties import differentiable_twice, one_centred, squared_slope
from nsbgan_infer.training.samplers.sheets import write_classes
from nsbgan_infer.training.schedules import along_cosine

REAL_STREAM, DRAWN_STREAM, AUGMENT_STREAM, COMPARED_STREAM, MIX_STREAM = 11, 12, 13, 14, 15
# of `step_generator`; + 16 times the process. 13 is also what the generator's own update draws from.


@dataclass(frozen=True)
class AdversarialSettings:
    """What every form has. Raises UsageError for values that cannot be.

    Where two values stand, the first is that of the first step. From there it goes along half a cosine to the second,
    which it reaches at the end of the `course`.
    """

    loop: LoopSettings
    data: str
    """A folder of `encode_lowbands`; its encoder decides the basis."""
    name: str = "learned"
    licence: str = "none"
    batch: int = 256
    """Pictures of one pass, over all processes."""
    accumulate: int = 2
    """Passes of an update: the effective batch is batch * accumulate."""
    d_steps: int = 1
    """Updates of the discriminator in a step."""
    loss: LossName = "hinge"
    """A row of `losses.LOSSES`."""
    r1: tuple[float, float] = (0.0, 0.0)
    """Weight g of the gradient penalty on real pictures, g/2 E|grad C(x)|^2."""
    r2: tuple[float, float] = (0.0, 0.0)
    """The same on drawn pictures."""
    gp: float = 10.0
    """Of the loss wgan-gp alone: the weight of its penalty."""
    gp_norm: float = 1.0
    """Of the loss wgan-gp alone: the norm that its penalty wants."""
    drift: float = 1e-3
    """Of the loss wgan-gp alone: the weight of E C(x)^2 over real pictures, which keeps C near 0."""
    g_lr: float = 1e-4
    d_lr: float = 4e-4
    lr_left: float = 1.0
    """What is left of both learning rates at the end of the course."""
    betas: tuple[float, float] = (0.0, 0.999)
    beta2_last: float = 0.0
    """Adam's second beta at the end of the course (0: as at the start)."""
    adam_eps: float = 1e-6
    course: float = 1.0
    """The share of the steps over which everything that changes does so."""
    ema: float = 0.9999
    """Decay of the running mean of the weights, which is what is saved."""
    ema_start: int = 20_000
    """Until this step the mean is the present weights."""
    ema_half_life: float = 0.0
    """Above 0, in place of `ema` and `ema_start`: the half-life of the mean in pictures, which grows from 0 to this."""
    augment: tuple[str, ...] = ()
    """Policies of `augment.POLICIES`."""
    augment_share: tuple[float, float] = (1.0, 1.0)
    """The share of the pictures that a policy changes."""

    def __post_init__(self) -> None:
        if min(self.batch, self.accumulate, self.d_steps) < 1 or self.batch < 2:
            raise UsageError("A batch has at least 2 pictures; accumulate and d_steps are at least 1.")
        if not 0 <= self.ema < 1 or min(self.g_lr, self.d_lr) <= 0 or self.ema_half_life < 0:
            raise UsageError("ema is a decay in [0, 1), its half-life at least 0, and learning rates are above 0.")
        if not all(0 <= b < 1 for b in (*self.betas, self.beta2_last)) or not 0 < self.lr_left <= 1:
            raise UsageError("Adam's betas lie in [0, 1), and lr_left in (0, 1].")
        if min(*self.r1, *self.r2, self.gp, self.drift) < 0 or self.gp_norm <= 0 or not 0 < self.course <= 1:
            raise UsageError(
                "r1, r2, gp and drift are at least 0, gp_norm is above 0, and course is a share in (0, 1]."
            )
        if self.loss not in LOSSES:
            raise unknown_name("loss", self.loss, LOSSES)
        for policy in self.augment:
            if policy not in POLICIES:
                raise unknown_name("augmentation", policy, POLICIES)
        if not all(0 <= share <= 1 for share in self.augment_share):
            raise UsageError("augment_share are two shares in [0, 1].")

    def at(self, values: tuple[float, float], step: int) -> float:
        """The value of `step` of one that goes from the first to the second."""
        return along_cosine(*values, step / (self.course * self.loop.steps))


class AdversarialTask(ABC):
    """A form's `config` is what it draws (a `Span` with `classes` and `z_dim`); `sampler` is trained, `shadow` its
    running mean, a component, and `discriminator` maps pictures and class indices to a list of logits."""

    config: Any
    sheet_truncation: ClassVar[float] = 1.0

    def __init__(self, settings: AdversarialSettings, accelerator: Any) -> None:
        self.settings, self.accelerator = settings, accelerator
        self.data = open_lowbands(Path(settings.data))
        self.config = self._configure()
        if settings.batch % accelerator.num_processes:
            raise UsageError(f"A batch of {settings.batch} does not divide into {accelerator.num_processes} processes.")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.loop.seed)
            self.sampler, self.shadow, self.discriminator = self._build()
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            self.sampler = nn.SyncBatchNorm.convert_sync_batchnorm(self.sampler)  # type: ignore[no-untyped-call]
        for part in (self.sampler, self.shadow, self.discriminator):
            part.to(accelerator.device, memory_format=torch.channels_last)
        adam = {"betas": settings.betas, "eps": settings.adam_eps}
        self.g_optimiser = torch.optim.Adam(self.sampler.parameters(), lr=settings.g_lr, **adam)  # type: ignore[arg-type]
        self.trained = [p for p in self.discriminator.parameters() if p.requires_grad]
        self.d_optimiser = torch.optim.Adam(self.trained, lr=settings.d_lr, **adam)  # type: ignore[arg-type]
        self.offset = accelerator.process_index * 16
        self.now = 0  # the step, for what goes along the course
        self.logged: dict[str, Tensor] = {}

    @abstractmethod
    def _configure(self) -> Any:
        """The configuration of the sampler for the data. Raises UsageError if the settings do not fit it."""

    @abstractmethod
    def _build(self) -> tuple[Any, Any, Any]:
        """Sampler, shadow and discriminator, as they start."""

    @abstractmethod
    def _sample(self, z: Tensor, weights: Tensor) -> Tensor:
        """Normalised pictures of the present sampler."""

    def _plain_state(self) -> Mapping[str, Tensor]:
        """The present weights as the shadow names them."""
        state: Mapping[str, Tensor] = self.sampler.state_dict()
        return state

    def _shipped(self, step: int) -> Component:
        """What is saved after `step` steps."""
        shipped: Component = self.shadow
        return shipped

    def _fitted(self, real: Tensor) -> Tensor:
        """Normalised real pictures as the discriminator is to see them now."""
        return real

    def _discriminate(self, both: Tensor, labels: Tensor) -> list[Tensor]:
        """Logits of real and, behind them, drawn pictures. In one pass: spectral norm iterates once, and no batch norm
        mixes the two."""
        logits: list[Tensor] = self.discriminator(both, labels)
        return logits

    def _generator_penalty(self) -> Tensor | None:
        """What the generator minimises besides its loss."""
        return None

    def step(self, step: int) -> Mapping[str, Tensor | float]:
        """`d_steps` updates of the discriminator, one of the generator, then the running mean."""
        settings, self.now, self.logged = self.settings, step, {}
        self._set_rates(step)
        d_loss = torch.zeros((), device=self.accelerator.device)
        for i in range(settings.d_steps):
            d_loss = self._discriminator_update(step * settings.d_steps + i)
        g_loss = self._sampler_update(step)
        move_towards(self.shadow.state_dict(), self._plain_state(), self._decay(step))
        return {"d_loss": d_loss, "g_loss": g_loss, **self.logged}

    def _set_rates(self, step: int) -> None:
        settings = self.settings
        share = settings.at((1.0, settings.lr_left), step)
        first, second = settings.betas
        second = settings.at((second, settings.beta2_last or second), step)
        for optimiser, lr in ((self.g_optimiser, settings.g_lr), (self.d_optimiser, settings.d_lr)):
            for group in optimiser.param_groups:
                group.update(lr=lr * share, betas=(first, second))

    def _discriminator_update(self, index: int) -> Tensor:
        settings, device = self.settings, self.accelerator.device
        self._train(self.trained, True)
        self.d_optimiser.zero_grad(set_to_none=True)
        weights = [settings.at(settings.r1, self.now), settings.at(settings.r2, self.now)]
        total = torch.zeros((), device=device)
        for part in range(settings.accumulate):
            at = index * settings.accumulate + part
            real, labels = self._real(at, REAL_STREAM)
            with autocast(device, settings.loop.precision):
                with torch.no_grad():
                    drawn, drawn_labels = self._draw(at, DRAWN_STREAM, labels)
                both = torch.cat((real, drawn)).requires_grad_(any(weights))
                with differentiable_twice(any(weights)):
                    logits = self._discriminate(self._augmented(both, at), torch.cat((labels, drawn_labels)))
            of_real, of_drawn = ([x.chunk(2)[half] for x in logits] for half in (0, 1))
            loss = discriminator_loss(settings.loss, of_real, of_drawn)
            total += loss.detach() / settings.accumulate
            if any(weights):
                slopes = squared_slope(logits, both).chunk(2)
                for name, weight, slope in zip(("r1", "r2"), weights, slopes, strict=True):
                    loss = loss + weight / 2 * slope.mean()
                    self._log(name, slope.detach().mean())
            if settings.loss == "wgan-gp":
                loss = loss + self._wasserstein_terms(of_real, both.detach(), labels, at)
            self.accelerator.backward(loss / settings.accumulate)
        average_gradients(self.trained, self.accelerator)
        self.d_optimiser.step()
        return total

    def _wasserstein_terms(self, of_real: list[Tensor], both: Tensor, labels: Tensor, index: int) -> Tensor:
        """lambda times the penalty of WGAN-GP, and the drift (Karras et al. 2018, appendix A.1). A point between two
        pictures counts as of the real one's class."""
        settings = self.settings
        real, drawn = both.chunk(2)
        mix = torch.rand(len(real), generator=self._random(index, MIX_STREAM))
        with differentiable_twice(True):
            penalty = one_centred(
                lambda x: self.discriminator(self._augmented(x, index), labels),
                real,
                drawn,
                mix,
                target=settings.gp_norm,
            )
        self._log("gp", penalty.detach())
        drift = torch.stack([logits.square().mean() for logits in of_real]).sum()
        return settings.gp * penalty + settings.drift * drift

    def _sampler_update(self, step: int) -> Tensor:
        settings, device = self.settings, self.accelerator.device
        self._train(self.trained, False)
        self.g_optimiser.zero_grad(set_to_none=True)
        total = torch.zeros((), device=device)
        for part in range(settings.accumulate):
            at = step * settings.accumulate + part
            with autocast(device, settings.loop.precision):
                compared, labels = None, None
                if LOSSES[settings.loss].relativistic:
                    real, labels = self._real(at, COMPARED_STREAM)
                    with torch.no_grad():
                        compared = self.discriminator(self._augmented(real, -1 - at), labels)
                drawn, labels = self._draw(at, DRAWN_STREAM + 1, labels)
                logits = self.discriminator(self._augmented(drawn, -1 - at), labels)
            loss = generator_loss(settings.loss, compared, logits)
            self.accelerator.backward(loss / settings.accumulate)
            total += loss.detach() / settings.accumulate
        if (penalty := self._generator_penalty()) is not None:
            self.accelerator.backward(penalty)
        average_gradients(self.sampler.parameters(), self.accelerator)
        self.g_optimiser.step()
        return total

    def _real(self, index: int, stream: int) -> tuple[Tensor, Tensor]:
        """Normalised real low bands of this process and their labels."""
        generator = self._random(index, stream)
        count = self.settings.batch // self.accelerator.num_processes
        rows = torch.randint(len(self.data), (count,), generator=generator)
        flips = torch.randint(self.data.flips, (count,), generator=generator)
        low = normalised(self.data.batch(rows, flips), self.config).to(self.accelerator.device)
        fitted = self._fitted(low.contiguous(memory_format=torch.channels_last))
        return fitted, self.data.labels[rows].to(low.device)

    def _draw(self, index: int, stream: int, paired: Tensor | None) -> tuple[Tensor, Tensor]:
        """Normalised drawn low bands and their labels: in relativistic losses those of the real pictures that they are
        `paired` with, else drawn as often as the data has them."""
        generator = self._random(index, stream)
        count = self.settings.batch // self.accelerator.num_processes
        if paired is not None and LOSSES[self.settings.loss].relativistic:
            labels = paired
        else:
            labels = self.data.labels[torch.randint(len(self.data), (count,), generator=generator)]
        z = torch.randn(count, self.config.z_dim, generator=generator).to(self.accelerator.device)
        labels = labels.to(z.device)
        return self._sample(z, F.one_hot(labels, len(self.data.classes)).to(z.dtype)), labels

    def _augmented(self, x: Tensor, index: int) -> Tensor:
        settings = self.settings
        share = settings.at(settings.augment_share, self.now)
        return augment(x, settings.augment, self._random(index, AUGMENT_STREAM), share=share)

    def _random(self, index: int, stream: int) -> torch.Generator:
        return step_generator(self.settings.loop.seed, index, stream + self.offset)

    def _decay(self, step: int) -> float:
        """Of the running mean."""
        settings = self.settings
        if settings.ema_half_life > 0:
            half_life = settings.at((0.0, settings.ema_half_life), step)
            return 0.5 ** (settings.batch * settings.accumulate / half_life) if half_life > 0 else 0.0
        return settings.ema if step >= settings.ema_start else 0.0

    def _log(self, name: str, value: Tensor) -> None:
        """Add to what the step logs: the mean over passes and updates."""
        part = value.float() / (self.settings.accumulate * self.settings.d_steps)
        self.logged[name] = self.logged[name] + part if name in self.logged else part

    @staticmethod
    def _train(parameters: list[nn.Parameter], on: bool) -> None:
        for parameter in parameters:
            parameter.requires_grad_(on)

    @property
    def tracked(self) -> Mapping[str, Any]:
        """Both networks, both optimisers, the running mean."""
        return {
            "sampler": self.sampler,
            "discriminator": self.discriminator,
            "shadow": self.shadow,
            "g_optimiser": self.g_optimiser,
            "d_optimiser": self.d_optimiser,
        }

    def save(self, folder: Path, step: int, sheet: bool) -> None:
        """The sampler as it would ship now, and a sheet of eight classes."""
        save_component(self._shipped(step), folder)
        if sheet:
            write_classes(load_component(folder), folder, step, truncation=self.sheet_truncation)


def span_of(settings: AdversarialSettings, data: LowBandSet) -> dict[str, Any]:
    """What the data decides in a sampler's configuration."""
    shift, scale = data.shift_and_scale()
    return {
        "classes": data.classes,
        "basis": data.encoder.basis,
        "levels": data.encoder.levels,
        "shift": shift,
        "scale": scale,
        "name": settings.name,
        "licence": settings.licence,
    }

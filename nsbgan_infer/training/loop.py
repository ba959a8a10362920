"""The loop that every trainer shares: steps, log, sheets, checkpoints, resume.

A trainer is a `Task`: an object that does one optimisation step and can write down everything that a later step
depends on. Whatever is random in step i is drawn from `step_generator(seed, i)`, never from a running state, so a run
that is killed at any moment and started again goes through the same numbers.
"""

from __future__ import annotations

import copy
import json
import math
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor, nn

from nsbgan_infer.devices import computes_bf16, pick_device
from nsbgan_infer.errors import NonFiniteError, UsageError, missing_extra
from nsbgan_infer.storage.components import Component, load_component
from nsbgan_infer.storage.files import write_json
from nsbgan_infer.training.clock import Pace, SaveClock, length_text, stop_between_steps
from nsbgan_infer.training.run_folder import CHECKPOINT, check_record, cut_log, json_ready, resume, save_checkpoint
from nsbgan_infer.training.tracked import restore_state, take_state

REHEARSE = 100  # steps ahead from which it pays to take two beforehand, only to tell how long the run will take


@dataclass(frozen=True)
class LoopSettings:
    """`out` is the run folder, `steps` the length of the whole run (schedules depend on it), `seed` that of all
    randomness. `precision` bf16 means autocast with fp32 weights (plain fp32 where the device has no bf16). Every
    `log_every` steps a line is logged. The run can be resumed from checkpoints: one every `save_every` steps, one after
    the first minute and one every `save_minutes` (0: none by time). Every `sheet_every` (0: never) a sheet of pictures
    is written. `stop_after` (0: none) ends this call early at that step, to be resumed later;
    `quiet` hides the progress bar.
    """

    out: Path
    steps: int
    seed: int = 0
    device: str = "auto"
    precision: Literal["fp32", "bf16"] = "fp32"
    log_every: int = 50
    save_every: int = 500
    save_minutes: float = 5.0
    sheet_every: int = 0
    stop_after: int = 0
    quiet: bool = False
    tensorboard: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1 or self.log_every < 1 or self.save_every < 1 or min(self.sheet_every, self.save_minutes) < 0:
            raise UsageError("steps, log_every and save_every are at least 1, sheet_every and save_minutes at least 0.")
        if self.precision not in ("fp32", "bf16"):
            raise UsageError(f"Unknown precision '{self.precision}': use fp32 or bf16.")


class Settings(Protocol):
    """A trainer's settings, a frozen dataclass."""

    @property
    def loop(self) -> LoopSettings:
        """What every run has."""


S = TypeVar("S", bound=Settings)


class Task(Protocol):
    """What a trainer gives to `run_loop`."""

    def step(self, step: int) -> Mapping[str, Tensor | float]:
        """One optimisation step; the values to log, as scalars that need not be synchronised."""

    @property
    def tracked(self) -> Mapping[str, Any]:
        """All that later steps depend on, by name (see `tracked`)."""

    def save(self, folder: Path, step: int, sheet: bool) -> None:
        """Write the component into `folder` as it would ship now, and with `sheet` a sheet into `folder`/sheets."""


def make_accelerator(device: str) -> Any:
    """accelerate's Accelerator for a device name of ours. One process, or those that `accelerate launch` started.

    Its mixed precision is off: trainers say where bf16 is used, by `autocast`.

    Raises MissingExtraError without accelerate, UsageError for a device that is not there.
    """
    try:
        from accelerate import Accelerator
    except ImportError:
        raise missing_extra("accelerate", "train", "Training") from None
    chosen = pick_device(device)
    if chosen.type == "cuda":
        torch.backends.cudnn.benchmark = True  # batches have one shape
        if chosen.index is not None:
            torch.cuda.set_device(chosen)
    return Accelerator(cpu=chosen.type == "cpu", mixed_precision="no")


def autocast(device: torch.device, precision: str) -> torch.autocast:
    """bf16 autocast for `precision` bf16 on a device that computes it, else a context that does nothing. Weights and
    sums of losses stay fp32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16" and computes_bf16(device))


@torch.no_grad()
def average_gradients(parameters: Iterable[nn.Parameter], accelerator: Any) -> None:
    """Replace each gradient by its mean over the processes, in one message. Nothing happens in a single process.

    With equal shares of the batch and losses that are means, this is the gradient of the global batch.
    """
    if accelerator.num_processes == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = accelerator.reduce(torch.cat([g.flatten() for g in gradients]), reduction="mean")
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def take_step(network: nn.Module, optimiser: torch.optim.Optimizer, loss: Tensor, accelerator: Any) -> None:
    """One step of `optimiser` along the gradients of `loss`, averaged over the processes for `network`."""
    optimiser.zero_grad(set_to_none=True)
    accelerator.backward(loss)
    average_gradients(network.parameters(), accelerator)
    optimiser.step()


def step_generator(seed: int, step: int, stream: int = 0, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator of one step. `stream` separates uses (data, latents, noise) and processes from each other.

    Another kind of `device` gives other numbers.
    """
    mixed = (seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + stream * 0x94D049BB133111EB) % 2**64
    mixed ^= mixed >> 31  # neighbouring steps must not give neighbouring seeds
    return torch.Generator(device).manual_seed((mixed * 0xD6E8FEB86659FD93) % 2**63)


def train(make_task: Callable[[S, Any], Task], settings: S) -> Component:
    """Run, or resume, the training that `settings` describe; the component, also saved in the run folder.

    `make_task(settings, accelerator)` opens the data, which takes long: the folder is checked before. Raises
    UsageError, ImageFileError or CheckpointError before step 0, NonFiniteError if training diverges: the last good
    checkpoint and component stay in the run folder.
    """
    accelerator = make_accelerator(settings.loop.device)
    check_record(settings.loop.out, json_ready(settings))
    run_loop(make_task(settings, accelerator), settings.loop, settings, accelerator)
    return load_component(settings.loop.out)


def run_loop(task: Task, settings: LoopSettings, record: Any, accelerator: Any) -> int:
    """Run `task` to `settings.steps`, resuming from the run folder if it holds a checkpoint. Returns the step reached.

    `record` is the trainer's whole settings dataclass, kept in `settings.json` and compared on resume. Raises
    UsageError if the folder belongs to a run with other settings, NonFiniteError when a logged value is no longer
    finite (the last checkpoint stays as it was), KeyboardInterrupt on Ctrl-C, once the step is done and kept.
    """
    main = accelerator.is_main_process
    written = json_ready(record)
    if main:
        check_record(settings.out, written)
        if settings.precision == "bf16" and not settings.quiet and not computes_bf16(accelerator.device):
            print("This device has no instructions for bf16, so the run computes in fp32.", file=sys.stderr)
    accelerator.wait_for_everyone()
    start = resume(task.tracked, settings.out, accelerator.device)
    end = min(settings.steps, settings.stop_after or settings.steps)
    if main:
        write_json(settings.out / "settings.json", written)
        cut_log(settings.out / "log.jsonl", start)
    with (
        step_log(settings, start, enabled=main) as log,
        progress(settings, start, enabled=main) as bar,
        stop_between_steps() as stop,
    ):
        ahead = end - start
        if rehearsed := ahead >= REHEARSE and accelerator.device.type == "cpu" and not settings.quiet:
            bar.tell(start, length_text(rehearse(task, start), ahead, f"{ahead:,} steps"))
        meter, clock = Meter(), SaveClock(settings.save_minutes)
        pace = Pace(0 if rehearsed else ahead, lambda: _finish(accelerator.device))
        for step in range(start, end):
            meter.add(task.step(step))
            done = step + 1
            last = done == end or stop.asked
            logs = done % settings.log_every == 0 or last
            saves = done % settings.save_every == 0 or last or _by_time(clock, accelerator, logs)
            bar.tell(done, pace.tick())
            if logs:
                values = meter.take(accelerator)
                log(done, values)
                bar.show(values)
            if saves:
                meter.check()  # never keep a checkpoint whose losses were not looked at
                if main:
                    save_checkpoint(settings.out / CHECKPOINT, {"step": done, "task": take_state(task.tracked)})
                    sheet = settings.sheet_every > 0 and (done % settings.sheet_every == 0 or done == end)
                    task.save(settings.out, done, sheet)
                clock.restart()
                if stop.asked and done < end:
                    bar.tell(
                        done, f"Stopped after step {done:,} of {settings.steps:,}; all of it is in {settings.out}."
                    )
                    raise KeyboardInterrupt
                accelerator.wait_for_everyone()
    return max(start, end)


def rehearse(task: Task, step: int) -> float:
    """Seconds that a step takes. It is taken twice, the first time to warm up, and all that it changed is put back.

    For networks on the CPU: on a GPU a step may be captured with the places of the state that it changes.
    """
    before = copy.deepcopy(take_state(task.tracked))
    task.step(step)
    since = time.monotonic()
    task.step(step)
    seconds = time.monotonic() - since
    restore_state(task.tracked, before)
    return seconds


def _by_time(clock: SaveClock, accelerator: Any, logs: bool) -> bool:
    """Whether a checkpoint is due by time, the same answer in every process: of several, the first one's clock is asked
    where they meet to log anyway."""
    if accelerator.num_processes == 1:
        return clock.due()
    if not logs:
        return False
    due = torch.tensor(float(clock.due() and accelerator.is_main_process), device=accelerator.device)
    return bool(accelerator.reduce(due, reduction="sum") > 0)


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class Meter:
    """Means of scalars between two log lines; nothing is synchronised with a GPU until they are taken."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.count = 0
        self.since = time.monotonic()

    def add(self, values: Mapping[str, Tensor | float]) -> None:
        """Add the values of one step."""
        self.count += 1
        for key, value in values.items():
            new = value.detach().float() if isinstance(value, Tensor) else torch.tensor(float(value))
            self.sums[key] = self.sums[key] + new if key in self.sums else new

    def check(self) -> None:
        """Raise NonFiniteError if a value since the last `take` was not finite in this process."""
        for key, value in self.sums.items():
            check_finite(key, float(value))

    def take(self, accelerator: Any) -> dict[str, float]:
        """The means over steps and processes, and `seconds` a step; starts anew. Raises NonFiniteError."""
        means = {}
        for key, value in self.sums.items():
            mean = accelerator.reduce(value.to(accelerator.device), reduction="mean") / self.count
            means[key] = float(mean)
            check_finite(key, means[key])
        means["seconds"] = (time.monotonic() - self.since) / max(1, self.count)
        self.sums, self.count, self.since = {}, 0, time.monotonic()
        return means


def check_finite(key: str, value: float) -> None:
    """Raise NonFiniteError for NaN and infinity."""
    if not math.isfinite(value):
        raise NonFiniteError(
            f"Training diverged: {key} is {value}. The last checkpoint is good: "
            "resume from it with a lower learning rate."
        )


class Ema:
    """A running mean of a network's parameters and buffers: w <- decay * w + (1 - decay) * new.

    Early on the decay is (1 + n) / (10 + n) if that is smaller, so that the first values do not linger.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.count = decay, 0
        self.shadow = {k: v.detach().clone() for k, v in model.state_dict().items()}

    def update(self, model: nn.Module) -> None:
        """Take in the present weights."""
        decay = min(self.decay, (1 + self.count) / (10 + self.count))
        self.count += 1
        move_towards(self.shadow, model.state_dict(), decay)

    def state_dict(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"count": self.count, "shadow": self.shadow}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.count = state["count"]
        for key, value in state["shadow"].items():
            self.shadow[key].copy_(value)


@torch.no_grad()
def move_towards(mean: Mapping[str, Tensor], now: Mapping[str, Tensor], decay: float) -> None:
    """mean <- decay * mean + (1 - decay) * now, in place; what is not floating point is copied."""
    floating = [k for k, v in mean.items() if v.is_floating_point()]
    torch._foreach_lerp_([mean[k] for k in floating], [now[k] for k in floating], 1 - decay)
    for key in mean.keys() - set(floating):
        mean[key].copy_(now[key])


@contextmanager
def step_log(settings: LoopSettings, start: int, *, enabled: bool) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """A function that writes a line of values to `log.jsonl` and, where it is installed, to TensorBoard."""
    if not enabled:
        yield lambda _step, _values: None
        return
    board = _tensorboard(settings.out / "tensorboard", start) if settings.tensorboard else None
    with (settings.out / "log.jsonl").open("a", encoding="utf-8") as file:

        def write(step: int, values: dict[str, float]) -> None:
            file.write(json.dumps({"step": step, **{k: round(v, 7) for k, v in values.items()}}) + "\n")
            file.flush()
            if board:
                for key, value in values.items():
                    board.add_scalar(key, value, step)

        try:
            yield write
        finally:
            if board:
                board.close()


def _tensorboard(folder: Path, start: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None  # JSON lines hold the same values
    return SummaryWriter(str(folder), purge_step=start)  # what was written after the checkpoint is hidden


class Bar:
    """The progress bar of a run, or nothing at all."""

    def __init__(self, bar: Any | None) -> None:
        self.bar = bar

    def tell(self, step: int, sentence: str | None) -> None:
        """Move to a step, and write a sentence above the bar if there is one."""
        if self.bar is None:
            return
        if sentence:
            self.bar.write(sentence, file=sys.stderr)
        self.bar.update(step - self.bar.n)

    def show(self, values: dict[str, float]) -> None:
        """Show the values beside the bar."""
        if self.bar is not None:
            self.bar.set_postfix({k: f"{v:.4g}" for k, v in values.items() if k != "seconds"}, refresh=False)


@contextmanager
def progress(settings: LoopSettings, start: int, *, enabled: bool) -> Iterator[Bar]:
    """A bar with the time left, from the first step on; a line a minute where no terminal watches."""
    if not enabled or settings.quiet:
        yield Bar(None)
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without widgets gets the bar of a terminal
        from tqdm.auto import tqdm
    watched = sys.stderr.isatty() or "ipykernel" in sys.modules
    rest = {"mininterval": 0.2} if watched else {"mininterval": 60, "miniters": 1}
    with tqdm(total=settings.steps, initial=start, desc="training", unit="step", dynamic_ncols=True, **rest) as bar:
        yield Bar(bar)

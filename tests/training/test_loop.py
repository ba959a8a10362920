"""The shared loop: resuming to the same numbers, logs, refusals; schedules, overrides, optimisers."""

from __future__ import annotations

import json
import math
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from nsbgan_infer.errors import CheckpointError, NonFiniteError, UsageError
from nsbgan_infer.training import clock, optimisers
from nsbgan_infer.training import loop as loops
from nsbgan_infer.training.loop import Ema, LoopSettings, autocast, make_accelerator, run_loop, step_generator
from nsbgan_infer.training.optimisers import make_optimiser, orthogonalised, set_rate
from nsbgan_infer.training.overrides import apply_overrides, parse_overrides, read_overrides
from nsbgan_infer.training.run_folder import CHECKPOINT
from nsbgan_infer.training.schedules import Schedule

COVERS = ["training.optimisers", "training.overrides", "training.run_folder", "training.schedules"]


@dataclass(frozen=True)
class Record:
    loop: LoopSettings
    lr: float = 0.1


class Walk:
    """A task whose every step depends on the ones before and on the step's own randomness."""

    def __init__(self, seed: int, *, die_at: int = -1, diverge_at: int = -1) -> None:
        self.seed, self.die_at, self.diverge_at = seed, die_at, diverge_at
        self.value = torch.zeros(())
        self.saved: list[tuple[int, bool]] = []

    def step(self, step: int) -> Mapping[str, Tensor | float]:
        if step == self.die_at:
            raise KeyboardInterrupt
        self.value.mul_(0.9).add_(torch.randn((), generator=step_generator(self.seed, step)))
        return {"value": self.value.clone() if step != self.diverge_at else self.value * math.nan}

    @property
    def tracked(self) -> dict[str, Any]:
        return {"value": self.value}

    def save(self, folder: Path, step: int, sheet: bool) -> None:
        self.saved.append((step, sheet))


def loop(out: Path, **settings: Any) -> LoopSettings:
    return LoopSettings(
        out, **{"steps": 20, "device": "cpu", "log_every": 2, "save_every": 6, "quiet": True, **settings}
    )


def run(task: Walk, settings: LoopSettings) -> list[dict[str, float]]:
    try:
        run_loop(task, settings, Record(settings), make_accelerator("cpu"))
    finally:
        lines = (settings.out / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k != "seconds"} for line in lines]


@pytest.mark.parametrize("die_at", [1, 6, 7, 13, 19])
def test_killed_and_resumed_is_the_same_curve(tmp_path: Path, die_at: int) -> None:
    whole = run(Walk(5), loop(tmp_path / "whole"))
    with pytest.raises(KeyboardInterrupt):
        run(Walk(5, die_at=die_at), loop(tmp_path / "cut"))
    with (tmp_path / "cut" / "log.jsonl").open("a") as file:
        file.write('{"step": 1')  # what a kill in the middle of a line leaves
    assert run(Walk(5), loop(tmp_path / "cut")) == whole
    assert [line["step"] for line in whole] == list(range(2, 21, 2))


class Pressed(Walk):
    """Ctrl-C comes in the middle of step 8."""

    def step(self, step: int) -> Mapping[str, Tensor | float]:
        if step == 8:
            signal.raise_signal(signal.SIGINT)
        return super().step(step)


PRESS = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import test_loop as t
task = t.Pressed(5)
try:
    t.run(task, t.loop(Path(sys.argv[2]), quiet=False))
except KeyboardInterrupt:
    print(task.saved)
"""


def test_ctrl_c_keeps_the_step_and_says_where(tmp_path: Path) -> None:
    whole = run(Walk(5), loop(tmp_path / "whole"))
    ended = subprocess.run(  # a process of its own: signals belong to a process, and this one runs other tests
        [sys.executable, "-c", PRESS, str(Path(__file__).parent), str(tmp_path / "cut")], capture_output=True, text=True
    )
    assert ended.stdout.strip() == "[(6, False), (9, False)]", ended.stderr
    assert f"Stopped after step 9 of 20; all of it is in {tmp_path / 'cut'}." in ended.stderr
    lines = run(Walk(5), loop(tmp_path / "cut"))
    assert [line["step"] for line in lines] == [2, 4, 6, 8, 9, *range(10, 21, 2)]
    assert lines[-1] == whole[-1]


def test_a_checkpoint_comes_by_time_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = Walk(0)
    monkeypatch.setattr(clock.SaveClock, "due", lambda _clock: len(task.saved) == 0)  # once, at the first step
    run(task, loop(tmp_path, save_every=50))
    assert [step for step, _ in task.saved] == [1, 20]


def test_the_length_of_the_run_is_told_in_its_first_steps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(Walk(0), loop(tmp_path, quiet=False))
    said = capsys.readouterr().err
    assert "s for 16 more steps (" in said and "Ctrl-C keeps what is done" in said


def test_a_long_run_tells_its_length_before_its_first_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent = run(Walk(3), loop(tmp_path / "silent", steps=120))
    capsys.readouterr()
    said_at: list[str] = []

    class Listening(Walk):
        def step(self, step: int) -> Mapping[str, Tensor | float]:
            said_at.append(capsys.readouterr().err)
            return super().step(step)

    told = run(Listening(3), loop(tmp_path / "told", steps=120, quiet=False))
    assert told == silent  # the steps taken beforehand left no trace
    assert "for 120 steps (" in said_at[2] and "Ctrl-C keeps what is done" in said_at[2]
    assert len(said_at) == 122 and not any("more steps" in said for said in said_at)


def test_stop_after_then_go_on(tmp_path: Path) -> None:
    whole = run(Walk(1), loop(tmp_path / "a"))
    first = run(Walk(1), loop(tmp_path / "b", stop_after=8))
    assert first == whole[:4] and run(Walk(1), loop(tmp_path / "b")) == whole


def test_checkpoints_and_sheets_come_when_asked(tmp_path: Path) -> None:
    task = Walk(0)
    run(task, loop(tmp_path, sheet_every=12))
    assert task.saved == [(6, False), (12, True), (18, False), (20, True)]


def test_a_finished_run_does_nothing_more(tmp_path: Path) -> None:
    lines = run(Walk(0), loop(tmp_path))
    assert run(Walk(0, die_at=20), loop(tmp_path)) == lines


def test_another_run_in_the_same_folder_is_refused(tmp_path: Path) -> None:
    run(Walk(0), loop(tmp_path))
    before = (tmp_path / "log.jsonl").read_bytes()
    for other in (loop(tmp_path, steps=30), loop(tmp_path, seed=1)):
        with pytest.raises(UsageError, match="choose a new folder"):
            run(Walk(0), other)
    with pytest.raises(UsageError, match=r"lr = 0\.1, now it is 0\.2"):
        run_loop(Walk(0), loop(tmp_path), Record(loop(tmp_path), lr=0.2), make_accelerator("cpu"))
    run(Walk(0), loop(tmp_path, log_every=5, save_every=2, quiet=False))  # these may change
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_divergence_stops_and_keeps_the_good_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="value is nan"):
        run(Walk(0, diverge_at=9), loop(tmp_path))
    assert torch.load(tmp_path / CHECKPOINT, weights_only=True)["step"] == 6


def test_damaged_checkpoint_is_refused(tmp_path: Path) -> None:
    run(Walk(0), loop(tmp_path, stop_after=8))
    (tmp_path / CHECKPOINT).write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError, match="new folder"):
        run(Walk(0), loop(tmp_path))


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="Cannot write"):
        run_loop(Walk(0), loop(tmp_path / "file"), Record(loop(tmp_path)), make_accelerator("cpu"))


@given(seed=st.integers(0, 2**40), step=st.integers(0, 2**31), stream=st.integers(0, 8))
def test_step_generators_differ(seed: int, step: int, stream: int) -> None:
    def draw(seed: int, step: int, stream: int) -> list[float]:
        return torch.rand(4, generator=step_generator(seed, step, stream)).tolist()

    here = draw(seed, step, stream)
    assert here == draw(seed, step, stream)
    for other in ((seed + 1, step, stream), (seed, step + 1, stream), (seed, step, stream + 1)):
        assert draw(*other) != here


def test_ema_follows_parameters_and_copies_counters() -> None:
    model: Any = nn.BatchNorm1d(2)
    ema = Ema(model, 0.5)
    for _ in range(40):
        with torch.no_grad():
            model.weight.fill_(3.0)
        model.num_batches_tracked += 1
        ema.update(model)
    assert torch.allclose(ema.shadow["weight"], torch.tensor(3.0)) and ema.shadow["num_batches_tracked"] == 40
    other = Ema(nn.BatchNorm1d(2), 0.5)
    other.load_state_dict(ema.state_dict())
    assert other.count == 40 and torch.equal(other.shadow["weight"], ema.shadow["weight"])


def test_schedules() -> None:
    rate = Schedule("one-cycle", warmup=0.1).rate
    assert rate(1.0, 0, 100) == 0.1 and rate(1.0, 9, 100) == 1.0
    assert rate(1.0, 55, 100) == pytest.approx(0.5) and rate(1.0, 99, 100) < 1e-3
    halving = Schedule("halving", milestones=(5, 8)).rate
    assert [halving(4.0, i, 10) for i in (0, 4, 5, 7, 8)] == [4, 4, 2, 2, 1]
    cosine = Schedule("cosine", period=10, lowest=0.0).rate
    assert cosine(1.0, 10, 40) == 1.0 and cosine(1.0, 5, 40) == pytest.approx(0.5) == cosine(1.0, 15, 40)
    assert Schedule("constant", warmup=0.0).rate(0.3, 0, 10) == 0.3
    with pytest.raises(UsageError, match="one-cycle"):
        Schedule("linear")  # type: ignore[arg-type]


@dataclass(frozen=True)
class Inner:
    milestones: tuple[int, ...] = ()
    mode: Literal["a", "b"] = "a"


@dataclass(frozen=True)
class Outer:
    lr: float = 0.1
    steps: int = 3
    flip: bool = True
    out: Path = Path()
    pair: tuple[float, float] = (0.0, 1.0)
    inner: Inner = field(default_factory=Inner)


def test_overrides_from_toml(tmp_path: Path) -> None:
    file = tmp_path / "x.toml"
    file.write_text('lr = 1\nout = "there"\npair = [0, 0.5]\n[inner]\nmilestones = [5, 6]\nmode = "b"\n')
    found = apply_overrides(Outer(), read_overrides(file))
    assert found == Outer(1.0, 3, True, Path("there"), (0.0, 0.5), Inner((5, 6), "b"))
    assert isinstance(found.lr, float)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lrr = 1", "did you mean lr"),
        ("steps = 1.5", "whole number"),
        ("steps = true", "whole number"),
        ("flip = 1", "true or false"),
        ("pair = [1]", "2 values"),
        ("inner = 3", r"\[inner\]"),
        ('[inner]\nmode = "c"', "one of a, b"),
        ("lr = ", "not valid TOML"),
    ],
)
def test_overrides_that_cannot_work(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "x.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        apply_overrides(Outer(), read_overrides(file))
    with pytest.raises(UsageError, match="Cannot read"):
        read_overrides(tmp_path / "absent.toml")


def test_single_settings_are_lines_of_such_a_file() -> None:
    found = parse_overrides(["mode=b", "inner.milestones=[5, 6]", "lr = 2e-4", "out=there/it=is"])
    assert found == {"mode": "b", "inner": {"milestones": [5, 6]}, "lr": 2e-4, "out": "there/it=is"}
    for bad in ("lr", "lr=", "=3", "a b=3"):
        with pytest.raises(UsageError, match="NAME=VALUE"):
            parse_overrides([bad])
    with pytest.raises(UsageError, match="given twice"):
        parse_overrides(["lr=1", "lr=2"])


@pytest.mark.parametrize("has_bf16", [True, False])
def test_bf16_falls_back_where_the_device_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], has_bf16: bool
) -> None:
    for module in (loops, optimisers):
        monkeypatch.setattr(module, "computes_bf16", lambda device: has_bf16)
    with autocast(torch.device("cpu"), "bf16"):
        assert nn.Linear(2, 2)(torch.ones(1, 2)).dtype == (torch.bfloat16 if has_bf16 else torch.float32)
    settings = loop(tmp_path, precision="bf16", quiet=False)
    run_loop(Walk(0), settings, Record(settings), make_accelerator("cpu"))
    assert ("computes in fp32" in capsys.readouterr().err) != has_bf16
    rounded = orthogonalised(torch.randn(1, 8, 8))
    assert torch.equal(rounded, rounded.bfloat16().float()) == has_bf16


def test_orthogonalised_moves_singular_values_near_one() -> None:
    torch.manual_seed(0)
    for shape in ((4, 16, 144), (2, 40, 8)):
        values = torch.linalg.svdvals(orthogonalised(torch.randn(shape)))
        assert values.min() > 0.4 and values.max() < 1.4


@pytest.mark.parametrize("name", ["adam", "muon"])
def test_optimisers_fit_a_small_network(name: Literal["adam", "muon"]) -> None:
    torch.manual_seed(0)
    model = nn.ModuleDict({"first": nn.Conv2d(1, 8, 3), "body": nn.Conv2d(8, 8, 3), "last": nn.Conv2d(8, 1, 3)})
    x = torch.randn(4, 1, 12, 12)
    y = x[:, :, 3:-3, 3:-3] * 2
    optimiser = make_optimiser(model, name, lr=1e-2)

    def loss() -> Tensor:
        return (model["last"](model["body"](model["first"](x)).relu()) - y).square().mean()

    before = loss().item()
    for _ in range(60):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    assert loss().item() < 0.5 * before
    set_rate(optimiser, 0.0)
    at_rest = {k: v.clone() for k, v in model.state_dict().items()}
    optimiser.step()
    assert all(torch.equal(v, at_rest[k]) for k, v in model.state_dict().items())


def test_muon_applies_adam_to_the_rest() -> None:
    """First and last layer move exactly as torch's Adam moves them."""
    torch.manual_seed(0)
    models = [nn.ModuleDict({"last": nn.Linear(3, 2)}) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimisers = [make_optimiser(models[0], "muon", lr=0.1), torch.optim.Adam(models[1].parameters(), 0.1, (0.9, 0.99))]
    for step in range(3):
        for model, optimiser in zip(models, optimisers, strict=True):
            optimiser.zero_grad()
            model["last"](torch.full((1, 3), 1.0 + step)).square().sum().backward()
            optimiser.step()
    assert torch.allclose(models[0]["last"].weight, models[1]["last"].weight, atol=1e-6)  # type: ignore[arg-type]

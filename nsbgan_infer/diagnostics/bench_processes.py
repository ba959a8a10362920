"""`nsbgan bench --table processes`: what a user waits for, from start to end of the program, in fresh processes.

Eight pictures by plain torch; by `--engine auto` and `--engine openvino` with nothing compiled yet, and with what that
left in the cache; one picture; torch's import alone. Every round runs each once, so that what disturbs the machine
disturbs all of them, and begins with an empty cache. Each process also says how much memory it held at most, and the
processor time that it took, which other programs disturb less: with OMP_NUM_THREADS=1, for waiting threads count.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from nsbgan_infer.errors import WorkError

IMAGES = 8
PEAK = "peak.txt"
PROGRAM = """
import os, runpy, sys
file = sys.argv.pop(1)
try:
    {work}
finally:
    with open("/proc/self/status") as status:
        peak = [line.split()[1] for line in status if line.startswith("VmHWM")]
    open(file, "w").write(f"{{peak[0]}} {{sum(os.times()[:2])}}")
"""
COMMAND = 'runpy.run_module("nsbgan_infer", run_name="__main__", alter_sys=True)'


@dataclass(frozen=True)
class Process:
    """One row: `images` pictures by `engine`, with an empty cache or the one that `cache` names and fills. No images:
    torch's import alone."""

    name: str
    engine: str
    cache: str
    images: int = IMAGES


class Took(NamedTuple):
    """Seconds and seconds of processor time of one process, and its peak memory in MiB."""

    seconds: float
    cpu: float
    memory: float


ROWS = (
    Process("import torch", "", "", 0),
    Process("one picture", "eager", "plain", 1),
    Process("plain torch", "eager", "plain"),
    Process("auto, first run", "auto", "auto"),
    Process("auto, second run", "auto", "auto"),
    Process("openvino, first run", "openvino", "openvino"),
    Process("openvino, second run", "openvino", "openvino"),
    Process("auto after openvino", "auto", "openvino"),
)
RATIOS = {  # name -> (how many times faster this row, than that one)
    "first_run": ("auto, first run", "plain torch"),
    "second_run": ("auto, second run", "plain torch"),
    "second_run_once_compiled": ("auto after openvino", "plain torch"),
}


def measure_processes(
    say: Callable[[str], None],
    *,
    rounds: int = 3,
    arguments: Sequence[str] = ("--preset", "embedded", "--res", "512"),
    rows: Sequence[Process] = ROWS,
) -> dict[str, Any]:
    """Seconds and MiB of every row (medians), seconds of one picture beyond torch's import, and the ratios.

    `arguments` choose the pipeline of `generate`. Raises WorkError for a process that fails.
    """
    found: dict[str, list[Took]] = {row.name: [] for row in rows}
    for number in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            for row in rows:
                say(f"round {number + 1} of {rounds}: {row.name}")
                found[row.name].append(_time(row, arguments, Path(folder)))
    values = _ratios({name: [t.seconds for t in times] for name, times in found.items()})
    cpu = _ratios({name: [t.cpu for t in times] for name, times in found.items()})
    return {
        "rounds": rounds,
        "arguments": list(arguments),
        "seconds": {name: round(statistics.median(t.seconds for t in times), 2) for name, times in found.items()},
        "cpu_seconds": {name: round(statistics.median(t.cpu for t in times), 2) for name, times in found.items()},
        "memory_mib": {name: round(statistics.median(t.memory for t in times)) for name, times in found.items()},
        "ratios": {name: round(statistics.median(v), 2) for name, v in values.items()},
        "range": {name: [round(min(v), 2), round(max(v), 2)] for name, v in values.items()},
        "cpu_ratios": {name: round(statistics.median(v), 2) for name, v in cpu.items()},
    }


def _ratios(seconds: Mapping[str, list[float]]) -> dict[str, list[float]]:
    values = {
        name: [b / a for a, b in zip(seconds[this], seconds[that], strict=True)]
        for name, (this, that) in RATIOS.items()
        if this in seconds and that in seconds
    }
    if {"one picture", "import torch"} <= seconds.keys():
        pairs = zip(seconds["one picture"], seconds["import torch"], strict=True)
        values["one_picture_beyond_torch_s"] = [one - alone for one, alone in pairs]
    return values


def _time(row: Process, arguments: Sequence[str], folder: Path) -> Took:
    options = ["generate", *arguments, "--class", "207", "--per-class", str(row.images), "--engine", row.engine, "-q"]
    given = [*options, "--offline", "--out", str(folder / "out")] if row.images else []
    program = PROGRAM.format(work=COMMAND if row.images else "import torch")
    command = [sys.executable, "-c", program, str(folder / PEAK), *given]
    environment = os.environ | {"NSBGAN_CACHE": str(folder / (row.cache or "none"))}
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    seconds = time.perf_counter() - start
    if done.returncode:
        raise WorkError(f"The process '{row.name}' failed: {done.stderr.strip()[-300:]}")
    peak, cpu = (folder / PEAK).read_text().split()
    return Took(seconds, float(cpu), int(peak) / 1024)

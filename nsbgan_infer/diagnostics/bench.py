"""Timing of whole paths, `nsbgan bench`: ours against the wheel's own BigGAN, all in one process, round by round.

Every round times each path once, one after the other, so that what disturbs the machine disturbs all of them; ratios
are taken within a round and reported as their median and quartiles. Memory is the peak of fresh processes for each
path. Samplers have random weights of the real sizes, which take the same time; decoders those that ship, where they do.
"""

from __future__ import annotations

import copy
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path as Folder
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nsbgan_infer.bulk.sinks import SinkName
from nsbgan_infer.diagnostics import bench_photos
from nsbgan_infer.diagnostics.bench_parts import Baseline, overhead, random_biggan, random_decoder, wheel_biggan
from nsbgan_infer.encoders import WaveletEncoder
from nsbgan_infer.engines import EngineName, with_engine_part
from nsbgan_infer.errors import WorkError
from nsbgan_infer.images import Format
from nsbgan_infer.latents import draw_latents
from nsbgan_infer.pipeline import NsbPipeline, Stage
from nsbgan_infer.samplers.base import Sampler

T = TypeVar("T")
Say = Callable[[str], None]
Step = tuple[str, Callable[[Any], Any]]  # numbered step, what it does with what came before
FAST, TINY = "subband-w-fast", "subband-w-tiny"
DECODERS = (TINY, FAST, "subband-w", "resnet-w")
LABELS = {torch.float32: "fp32", torch.bfloat16: "bf16"}
CPU_ENGINES: tuple[tuple[EngineName, torch.dtype], ...] = (
    ("eager", torch.float32),
    ("openvino", torch.float32),
    ("openvino", torch.bfloat16),
)
GPU_ENGINES: tuple[tuple[EngineName, torch.dtype], ...] = (
    ("eager", torch.float32),
    ("eager", torch.bfloat16),
    ("compile", torch.bfloat16),
)
BULK: dict[str, tuple[SinkName, Format]] = {
    "bulk_png_over_bare": ("folder", "png"),
    "bulk_webp_over_bare": ("folder", "webp"),
    "bulk_tar_over_bare": ("tar", "png"),
}
MATRIX_SIDES = {"cpu": 1024, "cuda": 8192}
MATRIX_SECONDS = 4.0  # eight products, or fewer where one takes seconds: bf16 on a CPU that has none
MEMORY_PATHS = ("torch alone", "wheel512", "nsb512", "photo")
PHOTO_ROUNDS = 3  # at most: a photo takes a minute where a picture takes a second


@dataclass(frozen=True)
class Path:
    """One row: `name` (wheel512, nsb512, ...), the engine that runs it, and its steps. The first step gets None.
    `parts`: the sampler and decoder of nsb512."""

    name: str
    engine: str
    dtype: str
    decoder: str
    steps: tuple[Step, ...]
    parts: tuple[Any, ...] = ()

    @property
    def key(self) -> str:
        """What tells the row from every other."""
        return " ".join(p for p in (self.name, self.engine, self.dtype, self.decoder) if p)


@dataclass
class Timing:
    """Seconds of one path by round, as a whole and by step."""

    path: Path
    whole: list[float] = field(default_factory=list)
    steps: dict[str, list[float]] = field(default_factory=dict)


def measure(
    *,
    rounds: int = 9,
    device: torch.device,
    batch: int = 1,
    images: int = 64,
    photo: tuple[int, int] = bench_photos.SIZE,
    memory: bool = True,
    say: Say,
) -> dict[str, Any]:
    """Everything that `nsbgan bench` reports: machine, rows, ratios with their spread, baselines, memory.

    `images` are those of the bulk run that the overhead is measured on, `photo` the size of the one that is enlarged.
    Raises WorkError when a process that measures
    memory fails.
    """
    engines = list(CPU_ENGINES if device.type == "cpu" else GPU_ENGINES)
    if device.type == "cpu" and find_spec("openvino") is None:
        say("OpenVINO is not installed: only eager torch is timed (`pip install 'nsbgan-infer[openvino]'`).")
        engines = engines[:1]
    paths = make_paths(engines, device, batch)
    timings = run_rounds(paths, rounds, device, say)
    extra: dict[str, list[float]] = {}
    if device.type == "cpu" and batch == 1:
        say(f"a bulk run of {images} images")
        best = find_best(timings, "nsb512", FAST).path
        extra |= bulk_rates(best, images)
    photos = run_rounds(make_photo_paths(engines, device, photo, say), min(rounds, PHOTO_ROUNDS), device, say)
    extra |= bench_photos.photo_ratios(
        {f"{t.path.engine} {t.path.dtype} {t.path.decoder}": t.whole for t in photos}, photos[0].path.decoder
    )
    peaks = memory_peaks(say) if memory and device.type == "cpu" else {}
    if peaks:
        pairs = zip(peaks["nsb512"], peaks["wheel512"], strict=True)
        extra["memory_nsb512_over_wheel512"] = [ours / theirs for ours, theirs in pairs]
        extra["memory_photo_mib"] = peaks["photo"]
    rows, found = report([*timings, *photos], extra)
    small = {k: round(1000 * spread(v)[0], 3) for k, v in baselines(rounds).items()}
    rate = {k: round(matrix_rate(device, d) / 1e9, 1) for k, d in (("fp32", torch.float32), ("bf16", torch.bfloat16))}
    return {
        "machine": machine(device) | {"matrix_product_gmac_per_s": rate},
        "rounds": rounds,
        "batch": batch,
        **found,
        "rows": rows,
        "baselines_ms": small,
        "memory_mib": {k: round(spread(v)[0]) for k, v in peaks.items()},
    }


def make_paths(engines: Iterable[tuple[EngineName, torch.dtype]], device: torch.device, batch: int) -> list[Path]:
    """All rows: the wheel at 256 and 512, and for each engine folded BigGAN, 128 -> 512 and 256 -> 128 -> 512."""
    paths = [
        Path(f"wheel{r}", "wheel", "fp32", "", (("2 samplers", wheel_biggan(r, device, batch)),)) for r in (256, 512)
    ]
    samplers: dict[int, Sampler] = {r: random_biggan(r) for r in (128, 256, 512)}
    decoders = {name: random_decoder(name) for name in DECODERS}
    for engine, dtype in engines:
        label = LABELS[dtype]
        drawn = {r: _engined(s, engine, dtype, device) for r, s in samplers.items()}
        made = {n: _engined(d, engine, dtype, device) for n, d in decoders.items()}
        paths += [Path(f"biggan{r}", engine, label, "", (_sample(drawn[r], batch),)) for r in (256, 512)]
        for name, decoder in made.items():
            paths.append(
                Path("nsb128to512", engine, label, name, (_sample(drawn[128], batch), ("4 decoders", decoder)))
            )
            steps = (_sample(drawn[256], batch), ("3 encoders", WaveletEncoder(1)), ("4 decoders", decoder))
            paths.append(Path("nsb512", engine, label, name, steps, (drawn[256], decoder)))
    return paths


def make_photo_paths(
    engines: Iterable[tuple[EngineName, torch.dtype]], device: torch.device, size: tuple[int, int], say: Say
) -> list[Path]:
    """The rows of one photo of `size` (width, height)."""
    name = f"photo{size[0]}x{size[1]}"
    rows = bench_photos.photo_rows(engines, device, size, say)
    return [Path(name, e, LABELS[d], decoder, (("4 decoders", work),)) for e, d, decoder, work in rows]


def run_rounds(paths: list[Path], rounds: int, device: torch.device, say: Say) -> list[Timing]:
    """Time every path `rounds` times, interleaved, after one untimed call each (which compiles)."""
    timings = [Timing(p) for p in paths]
    for timing in timings:
        say(f"first call: {timing.path.key}")
        _time_once(timing.path, device)
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        for timing in timings:
            seconds = _time_once(timing.path, device)
            timing.whole.append(sum(seconds.values()))
            for step, value in seconds.items():
                timing.steps.setdefault(step, []).append(value)
    return timings


def multiply_adds(path: Path) -> int | None:
    """Multiply-adds of one call of an eager path, from torch's own count of convolutions and matrix products."""
    if path.engine not in ("eager", "wheel"):
        return None
    with FlopCounterMode(display=False) as counter:
        _run(path)
    return int(counter.get_total_flops()) // 2


def find_ratios(timings: list[Timing]) -> dict[str, list[float]]:
    """The named ratios, one value a round. "Best engine" is the one with the least median time of that path."""
    best512 = find_best(timings, "nsb512", FAST)
    best128 = find_best(timings, "nsb128to512", FAST)
    wheel512 = find_best(timings, "wheel512")
    pairs = {
        "wheel512_over_nsb512": (wheel512, best512),
        "wheel512_over_nsb128to512": (wheel512, best128),
        "wheel512_over_nsb512_tiny": (wheel512, find_best(timings, "nsb512", TINY)),
        "wheel512_over_nsb128to512_tiny": (wheel512, find_best(timings, "nsb128to512", TINY)),
        "nsb512fast_over_folded512": (best512, _same(timings, "biggan512", best512)),
        "nsb128to512_over_folded512": (best128, _same(timings, "biggan512", best128)),
        "wheel256_over_biggan256": (find_best(timings, "wheel256"), find_best(timings, "biggan256")),
    }
    return {k: [a / b for a, b in zip(x.whole, y.whole, strict=True)] for k, (x, y) in pairs.items()}


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median, lower and upper quartile."""
    if len(values) < 2:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return middle, low, high


def baselines(rounds: int) -> dict[str, list[float]]:
    """Seconds of what surrounds the networks, ours beside the usual: transforms and PNG of one 512 x 512 picture."""
    rows = Baseline().rows()
    for work in rows.values():
        work()
    seconds: dict[str, list[float]] = {name: [] for name in rows}
    for _ in range(rounds):
        for name, work in rows.items():
            start = time.perf_counter()
            work()
            seconds[name].append(time.perf_counter() - start)
    return seconds


def matrix_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Multiply-adds a second of torch's matrix product: the machine's own ceiling for what the networks do."""
    side = MATRIX_SIDES.get(device.type, MATRIX_SIDES["cpu"])
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    times: list[float] = []
    while len(times) < 8 and sum(times) < MATRIX_SECONDS:
        start = time.perf_counter()
        a @ b
        _wait(device)
        times.append(time.perf_counter() - start)
    return float(side**3 / min(times))


def bulk_rates(path: Path, images: int) -> dict[str, list[float]]:
    """Pictures a second of a bulk run over those of sampler and decoder alone, for each kind of output; and the share
    of the time that the first, PNG files, spends on the rest."""
    sampler, decoder = path.parts
    pipeline = NsbPipeline(sampler, [Stage(WaveletEncoder(1), decoder)], name="bench")
    found: dict[str, list[float]] = {}
    for name, (sink, fmt) in BULK.items():
        with tempfile.TemporaryDirectory() as folder:
            alone, whole = overhead(pipeline, Folder(folder), images, sink, fmt)
        found[name] = [alone / whole]
    return found | {"overhead_share": [max(0.0, 1 - found["bulk_png_over_bare"][0])]}


def memory_peaks(say: Say, repeats: int = 3) -> dict[str, list[float]]:
    """Peak memory in MiB of fresh processes that make one image by each path in eager fp32.

    Several times, in turn: where threads and blocks come to lie moves a peak by 10 % from one process to the next.
    """
    peaks: dict[str, list[float]] = {name: [] for name in MEMORY_PATHS}
    for name in MEMORY_PATHS * repeats:
        say(f"memory of {name}")
        command = [sys.executable, "-m", "nsbgan_infer.diagnostics.bench", name]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise WorkError(f"The process that measures the memory of {name} failed: {done.stderr.strip()[-300:]}")
        peaks[name].append(float(done.stdout.split()[-1]))
    return peaks


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures were measured on."""
    from importlib import metadata

    names = {"torch", "openvino", "pillow", "numpy", "pytorch-pretrained-biggan"}
    installed = {d.metadata["Name"].lower(): d.version for d in metadata.distributions()}
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else _cpu_name()
    versions = {n: installed[n] for n in sorted(names & installed.keys())}
    return {"device": name, "threads": torch.get_num_threads(), "system": platform.platform(), "versions": versions}


def report(timings: list[Timing], extra: Mapping[str, list[float]]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The rows in milliseconds, and `ratios` and `spread` with `extra` ones (a value a round) among them."""
    counts = {t.path.key: multiply_adds(t.path) for t in timings}
    rows = []
    for timing in timings:
        middle, low, high = spread(timing.whole)
        steps = {s: round(1000 * spread(v)[0], 3) for s, v in timing.steps.items()}
        path = timing.path
        rows.append(
            {
                "path": path.name,
                "engine": path.engine,
                "dtype": path.dtype,
                "decoder": path.decoder or None,
                "ms": round(1000 * middle, 2),
                "quartiles_ms": [round(1000 * low, 2), round(1000 * high, 2)],
                "steps_ms": steps,
                "multiply_adds": counts[path.key],
            }
        )
    values = {**find_ratios(timings), **extra}
    found = {k: spread(v) for k, v in values.items()}
    return rows, {
        "ratios": {k: round(m, 4) for k, (m, _, _) in found.items()},
        "spread": {k: [round(low, 4), round(high, 4)] for k, (_, low, high) in found.items()},
    }


def _engined(part: T, engine: EngineName, dtype: torch.dtype, device: torch.device) -> T:
    """A part run by an engine; a copy where torch would change its device or dtype in place."""
    if engine != "openvino" and isinstance(part, nn.Module) and (dtype != torch.float32 or device.type != "cpu"):
        part = cast("T", copy.deepcopy(part).to(device, dtype))
    return with_engine_part(part, engine, dtype)


def _sample(sampler: Sampler, batch: int) -> Step:
    info = sampler.info
    latents = draw_latents(
        range(batch), [207] * batch, z_dim=info.z_dim, truncation=info.truncation, mode=info.truncation_mode
    )
    return "2 samplers", lambda _none: sampler(latents)


def _run(path: Path) -> Tensor:
    x: Any = None
    with torch.inference_mode():
        for _, work in path.steps:
            x = work(x)
    return cast(Tensor, x)


def _time_once(path: Path, device: torch.device) -> dict[str, float]:
    seconds: dict[str, float] = {}
    x: Any = None
    with torch.inference_mode():
        for name, work in path.steps:
            start = time.perf_counter()
            x = work(x)
            _wait(device)
            seconds[name] = time.perf_counter() - start
    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def find_best(timings: list[Timing], name: str, decoder: str = "") -> Timing:
    """The row `name` with the least median time over all engines."""
    rows = [t for t in timings if t.path.name == name and t.path.decoder == decoder]
    return min(rows, key=lambda t: statistics.median(t.whole))


def _same(timings: list[Timing], name: str, like: Timing) -> Timing:
    """The row `name` of the engine and dtype of `like`."""
    wanted = (name, like.path.engine, like.path.dtype)
    return next(t for t in timings if (t.path.name, t.path.engine, t.path.dtype) == wanted)


def _cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as file:  # noqa: PTH123 - no file of ours
            return next(line.split(":", 1)[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _memory_of(name: str) -> float:
    """Peak memory in MiB of this process after one image by path `name`."""
    device = torch.device("cpu")
    if name == "wheel512":
        _run(Path(name, "wheel", "fp32", "", (("2 samplers", wheel_biggan(512, device, 1)),)))
    elif name == "nsb512":
        sampler, decoder = random_biggan(256), random_decoder(FAST)
        _run(Path(name, "eager", "fp32", FAST, (_sample(sampler, 1), ("3", WaveletEncoder(1)), ("4", decoder))))
    elif name == "photo":
        bench_photos.enlarge_once()
    return peak_memory()


def peak_memory() -> float:
    """The most memory in MiB that this process has held so far.

    Linux's own figure (VmHWM) where there is one: `ru_maxrss` of a process begins at the peak of the one that started
    it.
    """
    try:
        with open("/proc/self/status") as file:  # noqa: PTH123 - no file of ours
            return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / (1 << 10)
    except (OSError, StopIteration):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


if __name__ == "__main__":
    print(_memory_of(sys.argv[1]))

"""The batches of `nsbgan bench`: how many pictures a second a device makes, one at a time and at its best.

For each path and precision a batch is doubled until pictures a second grow by less than a tenth, or memory ends. The
share is multiply-adds a second over those of the device's own matrix product in bf16 (in fp32 where a CPU has no
instructions for bf16), measured in the same run.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path as Folder
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from nsbgan_infer.decoders.tiling import is_out_of_memory
from nsbgan_infer.devices import computes_bf16, dtype_name
from nsbgan_infer.diagnostics.bench import machine, matrix_rate, peak_memory
from nsbgan_infer.diagnostics.bench_parts import random_biggan, random_decoder, smooth_picture
from nsbgan_infer.encoders import WaveletEncoder
from nsbgan_infer.engines import place_part
from nsbgan_infer.latents import draw_latents
from nsbgan_infer.registry import load_sampler
from nsbgan_infer.storage.shipped import default_upscaler

GROWTH = 1.1  # a doubled batch is kept if it makes that many times the pictures a second
LARGEST = 1024  # pictures of a batch
SECONDS = 0.5  # a batch is timed for that long, and three times at least on a GPU
DECODER = "subband-w"
QUICK = ("embedded", "photo128to512")
RESET = Folder("/proc/self/clear_refs")  # Linux: writing 5 begins the peak of memory anew

MEMORY_IS = {
    "cuda": "the most that torch's tensors held on the GPU at once",
    "cpu": "the most that the whole process held, Python and libraries included",
}

Make = Callable[[], object]  # makes a batch once
Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """A path in one precision. `load` makes its networks and returns what turns a batch size into that work."""

    path: str
    dtype: torch.dtype
    load: Callable[[], Callable[[int], Make]]


@dataclass(frozen=True)
class Measured:
    """One batch size: pictures a second, and the peak of memory in MiB (None where the device does not tell)."""

    batch: int
    rate: float
    memory: float | None


def measure(device: torch.device, say: Say, *, quick: bool = False) -> dict[str, Any]:
    """What `nsbgan bench --table batches` reports: machine, the rate that shares are of, rows, what memory means.

    `quick`: two of the paths, two pictures at most."""
    dtype = ceiling(device)
    rate = matrix_rate(device, dtype)
    jobs = [job for job in make_jobs(device) if not quick or job.path in QUICK]
    largest, seconds = (2, 0.0) if quick else (LARGEST, SECONDS)
    return {
        "machine": machine(device),
        "matrix_product": {"dtype": dtype_name(dtype), "gmac_per_s": round(rate / 1e9, 1)},
        "memory_is": MEMORY_IS.get(device.type, "not told by this device"),
        "batches": measure_batches(jobs, device, rate, say, largest=largest, seconds=seconds),
    }


def measure_batches(
    jobs: Iterable[Job],
    device: torch.device,
    rate: float,
    say: Say,
    *,
    largest: int = LARGEST,
    seconds: float = SECONDS,
) -> list[dict[str, Any]]:
    """Two rows for each job, batch 1 and the best one: pictures a second, their share of `rate` (multiply-adds a
    second), and the peak of memory."""
    rows = []
    for job in jobs:
        label = dtype_name(job.dtype)
        say(f"batches of {job.path} in {label}")
        at = job.load()
        found, ended = grow(at, device, largest=largest, seconds=seconds)
        with FlopCounterMode(display=False) as counter:
            at(1)()
        work = counter.get_total_flops() / 2
        for which, one in (("1", found[0]), ("best", max(found, key=lambda m: m.rate))):
            rows.append(
                {
                    "path": job.path,
                    "dtype": label,
                    "which": which,
                    "batch": one.batch,
                    "pictures_per_s": round(one.rate, 3),
                    "share": round(one.rate * work / rate, 4),
                    "memory_mib": None if one.memory is None else round(one.memory),
                    "ended_by": ended,
                }
            )
    return rows


def make_jobs(device: torch.device) -> list[Job]:
    """BigGAN-512, our composed paths to 512 with the decoder that ships, what is embedded, and a photo's decoder."""
    parts = {
        "biggan512": lambda: (random_biggan(512), []),
        "nsb128to512": lambda: (random_biggan(128), [(None, random_decoder(DECODER))]),
        "nsb512": lambda: (random_biggan(256), [(WaveletEncoder(1), random_decoder(DECODER))]),
        "embedded": lambda: (
            load_sampler("embedded-w-64"),
            [(None, random_decoder(DECODER)), (WaveletEncoder(1), random_decoder(DECODER))],
        ),
        "photo128to512": lambda: (None, [(None, random_decoder(default_upscaler()))]),
    }
    return [
        Job(name, dtype, partial(_loaded, load, device, dtype))
        for name, load in parts.items()
        for dtype in precisions(device)
    ]


def _loaded(load: Callable[[], Any], device: torch.device, dtype: torch.dtype) -> Callable[[int], Make]:
    """The networks on the device, and a function that gives work of a batch size. Latents are drawn beforehand."""
    sampler, stages = load()
    sampler, *decoders = (place_part(p, "eager", device, dtype) for p in (sampler, *(d for _, d in stages)))
    encoders = [encoder for encoder, _ in stages]

    def at(batch: int) -> Make:
        given: Any = smooth_picture(128, 128).to(device, dtype).repeat(batch, 1, 1, 1)
        if sampler is not None:
            info = sampler.info
            given = draw_latents(
                range(batch), [207] * batch, z_dim=info.z_dim, truncation=info.truncation, mode=info.truncation_mode
            )

        @torch.inference_mode()
        def make() -> object:
            x = given if sampler is None else sampler(given)
            for encoder, decoder in zip(encoders, decoders, strict=True):
                x = decoder(encoder(x) if encoder else x)
            return x

        return make

    return at


def grow(
    at: Callable[[int], Make], device: torch.device, *, largest: int = LARGEST, seconds: float = SECONDS
) -> tuple[list[Measured], str]:
    """Every batch size that was measured, doubled from 1 on, and what ended it: `rate`, `memory` or `largest`.

    Raises what batch 1 raises.
    """
    found: list[Measured] = []
    batch = 1
    while batch <= largest:
        try:
            one = _measure(at, batch, device, seconds)
        except (RuntimeError, MemoryError) as error:
            if not found or not is_out_of_memory(error):
                raise
            _forget(device)
            return found, "memory"
        found.append(one)
        if len(found) > 1 and one.rate < GROWTH * found[-2].rate:
            return found, "rate"
        batch *= 2
    return found, "largest"


def peak_since(device: torch.device) -> tuple[Callable[[], None], Callable[[], float | None]]:
    """What begins a peak of memory anew, and what reads it in MiB: torch's tensors on a GPU, on a CPU the whole
    process, after handing back what earlier work left in its heap. Where the system can do neither, a CPU's is that of
    the process so far."""
    if device.type == "cuda":
        return (
            lambda: torch.cuda.reset_peak_memory_stats(device),
            lambda: torch.cuda.max_memory_allocated(device) / (1 << 20),
        )
    if device.type != "cpu":
        return lambda: None, lambda: None

    def begin() -> None:
        gc.collect()
        with contextlib.suppress(OSError, AttributeError, TypeError):  # no glibc: musl, macOS, Windows
            ctypes.CDLL(None).malloc_trim(0)
        with contextlib.suppress(OSError):
            RESET.write_text("5")

    return begin, peak_memory


def ceiling(device: torch.device) -> torch.dtype:
    """The precision of the matrix product that shares are of."""
    return torch.bfloat16 if computes_bf16(device) else torch.float32


def precisions(device: torch.device) -> tuple[torch.dtype, ...]:
    """What is measured: fp32, and bf16 where the device computes it."""
    return (torch.float32, torch.bfloat16) if computes_bf16(device) else (torch.float32,)


def _measure(at: Callable[[int], Make], batch: int, device: torch.device, seconds: float) -> Measured:
    begin, read = peak_since(device)
    begin()
    make = at(batch)
    make()  # chooses algorithms, and takes the memory that it will need
    wait(device)
    times = list(_times(make, device, seconds))
    return Measured(batch, batch / min(times), read())


def _times(make: Make, device: torch.device, seconds: float) -> Iterator[float]:
    begin, count = time.perf_counter(), 0
    least = 1 if device.type == "cpu" else 3
    while count < least or time.perf_counter() - begin < seconds:
        start = time.perf_counter()
        make()
        wait(device)
        yield time.perf_counter() - start
        count += 1


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _forget(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()

"""A bounded load test of the service on loopback: what it does at several times the rate that it can serve.

`python tests/helpers/load.py --preset embedded --seconds 240` measures the bare pipeline before and after, serves
in a process of its own, offers four times the pipeline's rate, and prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Load:
    """What came back of the requests that were offered."""

    seconds: float = 0.0
    served: int = 0
    refused: int = 0
    """Answers 429, all with Retry-After."""
    late: int = 0
    """Served after the time, out of the queue."""
    other: list[str] = field(default_factory=list)
    latencies: list[float] = field(default_factory=list)
    """Seconds of the served ones."""
    memory: list[tuple[float, int]] = field(default_factory=list)
    """Seconds, and bytes of the server's memory then; a second or more apart, where it is known."""

    def percentile(self, share: float) -> float:
        """Of the latencies."""
        ordered = sorted(self.latencies)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


async def offer(port: int, rate: float, seconds: float, *, classes: tuple[int, ...], pid: int | None = None) -> Load:
    """Send `rate` requests a second for `seconds`, whatever becomes of those before, and wait for the answers."""
    load, waiting, begun = Load(), set[asyncio.Task[None]](), time.perf_counter()
    number, noted = 0, 0.0
    while (now := time.perf_counter() - begun) < seconds:
        waiting.add(task := asyncio.ensure_future(_ask(port, load, classes[number % len(classes)], number)))
        task.add_done_callback(waiting.discard)
        if pid and now - noted >= 1:
            load.memory.append((now, _memory(pid)))
            noted = now
        number += 1
        await asyncio.sleep(max(0.0, number / rate - (time.perf_counter() - begun)))
    load.seconds, load.served = time.perf_counter() - begun, len(load.latencies)  # what comes later is not counted
    await asyncio.gather(*waiting)
    load.late = len(load.latencies) - load.served
    return load


async def _ask(port: int, load: Load, class_id: int, seed: int) -> None:
    body = json.dumps({"class": class_id, "seed": seed}).encode()
    begun = time.perf_counter()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        head = (
            "POST /generate HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}"
        )
        writer.write(f"{head}\r\n\r\n".encode() + body)
        answer = await reader.read()
        writer.close()
    except OSError as error:
        load.other.append(repr(error))
        return
    status = answer[9:12].decode()
    if status == "200":
        load.latencies.append(time.perf_counter() - begun)
    elif status == "429" and b"retry-after" in answer[:1000].lower():
        load.refused += 1
    else:
        load.other.append(answer[:300].decode("latin-1"))


def _memory(pid: int) -> int:
    statm = Path(f"/proc/{pid}/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm.exists() else 0


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def bare_rate(preset: str, pictures: int, batch: int) -> tuple[float, float]:
    """Pictures a second, and a second of processor time, of the pipeline alone, as PNG files, in a process of its own.

    Where others use the machine too, the second number is the one to compare.
    """
    code = (
        "import sys, time; from nsbgan_infer.serving.making import Maker, GenerateTask\n"
        "from nsbgan_infer.pipeline import Drawing\n"
        "preset, n, batch = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]); maker = Maker()\n"
        "pipeline = maker.pipeline(preset); ids = pipeline.sampler.info.classes; d = pipeline.settle(Drawing())\n"
        "work = lambda k: maker([GenerateTask(preset, ids[(k + i) % len(ids)], k, d) for i in range(batch)])\n"
        "work(0); t, c = time.perf_counter(), time.process_time(); [work(k) for k in range(0, n, batch)]\n"
        "n = -(-n // batch) * batch; print(n / (time.perf_counter() - t), n / (time.process_time() - c))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, preset, str(pictures), str(batch)], capture_output=True, check=True
    )
    rate, by_cpu = map(float, done.stdout.split())
    return rate, by_cpu


@contextmanager
def served(preset: str, batch: int, queue: int) -> Iterator[tuple[int, int]]:
    """Port and process id of a service."""
    command = [sys.executable, "-m", "nsbgan_infer", "serve", "--preset", preset, "--port", "18888", "--offline"]
    server = subprocess.Popen(
        [*command, "--batch-size", str(batch), "--deadline", "600", "--queue", str(queue)],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert server.stderr is not None
    try:
        (port,) = re.findall(r":(\d+)/ ", server.stderr.readline())
        yield int(port), server.pid
    finally:
        server.terminate()
        server.wait(120)


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="embedded")
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--queue", type=int, default=8)
    parser.add_argument("--times", type=float, default=4)
    given = parser.parse_args()
    pictures = 2 * given.batch
    rates = [bare_rate(given.preset, pictures, given.batch)]
    with served(given.preset, given.batch, given.queue) as (port, pid):
        started, offered = _memory(pid), given.times * rates[0][0]
        asyncio.run(
            offer(port, offered, 4 * given.batch / rates[0][0], classes=(207, 217, 497))
        )  # full batches warm up
        before = cpu_seconds(pid)
        load = asyncio.run(offer(port, offered, given.seconds, classes=(207, 217, 497), pid=pid))
        used = cpu_seconds(pid) - before
    rates.append(bare_rate(given.preset, pictures, given.batch))
    report = {k: v for k, v in asdict(load).items() if k not in ("latencies", "memory")}
    rate, by_cpu = load.served / load.seconds, (load.served + load.late) / used
    report |= {"bare": rates, "rate": rate, "ratio": rate / statistics.mean(r for r, _ in rates)}
    report |= {"by_cpu": by_cpu, "ratio_by_cpu": by_cpu / statistics.mean(c for _, c in rates)}
    report |= {"machine_load": os.getloadavg()}
    report |= {"p50": load.percentile(0.5), "p99": load.percentile(0.99)}
    in_order = sorted(load.memory, reverse=True)
    curve = {
        f"{end} s": next(n for then, n in in_order if then <= end) for end in range(30, int(given.seconds) + 1, 30)
    }
    megabytes = {"start": started, **curve, "most": max(n for _, n in load.memory)}
    report |= {"memory": {name: round(n / 1e6) for name, n in megabytes.items()}}
    print(json.dumps(report))


if __name__ == "__main__":
    main()

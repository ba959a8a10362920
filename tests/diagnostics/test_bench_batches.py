"""Batches that grow: where they stop, what is reported, and what memory means."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tiny import tiny_biggan, tiny_decoder, tiny_sampler

from nsbgan_infer.cli.bench import _batches_text
from nsbgan_infer.cli.main import cli, exit_code
from nsbgan_infer.diagnostics import bench_batches
from nsbgan_infer.diagnostics.bench_batches import Job, Measured, ceiling, grow, measure_batches, peak_since, precisions

CPU = torch.device("cpu")


def rates(monkeypatch: pytest.MonkeyPatch, found: dict[int, float | Exception]) -> None:
    """Let every batch have a rate, or an error, without any time."""

    def measure(_at: object, batch: int, _device: object, _seconds: float) -> Measured:
        if isinstance(value := found[batch], Exception):
            raise value
        return Measured(batch, value, 10.0 * batch)

    monkeypatch.setattr(bench_batches, "_measure", measure)


def none(_batch: int) -> Callable[[], object]:
    return lambda: None


def test_batches_double_until_they_no_longer_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    rates(monkeypatch, {1: 1.0, 2: 1.9, 4: 3.0, 8: 3.2})
    found, ended = grow(none, CPU)
    assert ([m.batch for m in found], ended) == ([1, 2, 4, 8], "rate")
    found, ended = grow(none, CPU, largest=2)
    assert ([m.batch for m in found], ended) == ([1, 2], "largest")


def test_memory_ends_them_and_other_errors_are_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    rates(monkeypatch, {1: 1.0, 2: 1.9, 4: torch.OutOfMemoryError("CUDA out of memory")})
    found, ended = grow(none, CPU)
    assert ([m.batch for m in found], ended) == ([1, 2], "memory")
    for wrong in ({1: torch.OutOfMemoryError("no")}, {1: 1.0, 2: RuntimeError("shapes differ")}):
        rates(monkeypatch, wrong)  # type: ignore[arg-type]
        with pytest.raises(RuntimeError):
            grow(none, CPU)


def test_a_share_is_work_over_the_matrix_products_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    rates(monkeypatch, {1: 2.0, 2: 4.0, 4: 3.0})
    a = torch.rand(8, 8)
    rows = measure_batches([Job("x", torch.float32, lambda: lambda _batch: lambda: a @ a)], CPU, 1e4, lambda _: None)
    assert [(r["which"], r["batch"], r["pictures_per_s"], r["memory_mib"]) for r in rows] == [
        ("1", 1, 2.0, 10), ("best", 2, 4.0, 20),
    ]  # fmt: skip
    assert [r["share"] for r in rows] == [pytest.approx(rate * 8**3 / 1e4, abs=1e-4) for rate in (2.0, 4.0)]
    assert {r["ended_by"] for r in rows} == {"rate"}


def test_the_peak_of_a_process_begins_anew_where_the_system_can() -> None:
    begin, read = peak_since(CPU)
    held: Any = torch.ones(1 << 26)  # 256 MiB
    before = read()
    del held
    begin()
    after = read()
    assert before is not None and after is not None and before > 256
    assert after < before - 200 or not bench_batches.RESET.exists()


KEPT_HEAP = """
from nsbgan_infer.cli.heap import keep_heap
kept = keep_heap()
import torch
from nsbgan_infer.diagnostics.bench_batches import peak_since
begin, read = peak_since(torch.device("cpu"))
held, above = torch.ones(1 << 26), torch.ones(1 << 20)  # 256 MiB, and what keeps it from being the heap's end
before = read()
del held
begin()
print(kept, before, read())
"""


@pytest.mark.skipif(not bench_batches.RESET.exists(), reason="this system cannot begin a peak anew")
def test_what_earlier_work_left_in_the_heap_is_not_counted() -> None:
    ran = subprocess.run([sys.executable, "-c", KEPT_HEAP], capture_output=True, text=True, check=True)
    kept, before, after = ran.stdout.split()
    if kept != "True":
        pytest.skip("this C library keeps no heap")
    assert float(after) < float(before) - 200


def test_bf16_is_measured_where_the_device_computes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for can in (True, False):
        monkeypatch.setattr(bench_batches, "computes_bf16", lambda _device, can=can: can)
        assert ceiling(CPU) == (torch.bfloat16 if can else torch.float32)
        assert (torch.bfloat16 in precisions(CPU)) is can


def test_the_command_prints_the_table(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(bench_batches, "random_biggan", tiny_biggan)
    monkeypatch.setattr(bench_batches, "random_decoder", lambda name: tiny_decoder(name))
    monkeypatch.setattr(bench_batches, "load_sampler", lambda _name: tiny_sampler())
    monkeypatch.setattr(bench_batches, "matrix_rate", lambda _device, _dtype: 1e6)
    monkeypatch.setattr(bench_batches, "LARGEST", 2)
    arguments = ["bench", "--table", "batches", "--device", "cpu", "--quick", "--json", "-q"]
    assert exit_code(lambda: cli.main(arguments, prog_name="nsbgan", standalone_mode=False)) == 0
    found = json.loads(capsys.readouterr().out)
    assert {r["path"] for r in found["batches"]} == set(bench_batches.QUICK)
    assert all(r["pictures_per_s"] > 0 and r["share"] > 0 and r["batch"] <= 2 for r in found["batches"])
    text = _batches_text(found)
    assert "the whole process" in text and "embedded" in text and "best; then" in text


def test_every_path_is_loaded_and_makes_its_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_batches, "random_biggan", tiny_biggan)
    monkeypatch.setattr(bench_batches, "random_decoder", lambda name: tiny_decoder(name))
    monkeypatch.setattr(bench_batches, "load_sampler", lambda _name: tiny_sampler(resolution=64))
    monkeypatch.setattr(bench_batches, "precisions", lambda _device: (torch.float32,))
    jobs = bench_batches.make_jobs(CPU)
    assert set(bench_batches.QUICK) < {job.path for job in jobs}
    for job in jobs:
        made: Any = job.load()(2)()
        assert made.shape == (2, 3, 512, 512), job.path

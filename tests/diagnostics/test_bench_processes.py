"""`nsbgan bench --table processes`: what it starts, and that its figures add up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nsbgan_infer.cli.bench import PROCESS_TARGETS, _processes_text
from nsbgan_infer.diagnostics import bench_processes
from nsbgan_infer.diagnostics.bench_processes import ROWS, Process, Took, measure_processes
from nsbgan_infer.errors import WorkError


def test_a_process_is_timed_and_its_memory_read() -> None:
    found = measure_processes(print, rounds=1, rows=[Process("import torch", "", "", 0)])
    assert found["seconds"]["import torch"] > 0.1 and found["memory_mib"]["import torch"] > 50
    assert found["cpu_seconds"]["import torch"] > 0.1
    assert found["ratios"] == {}


def test_a_process_that_fails_is_told_with_its_own_words() -> None:
    with pytest.raises(WorkError, match=r"The process 'one' failed: .*Unknown preset 'no-such'"):
        measure_processes(print, rounds=1, rows=[Process("one", "eager", "a", 1)], arguments=["--preset", "no-such"])


def test_ratios_are_taken_within_a_round_and_each_has_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def time(row: Process, _arguments: object, _folder: Path) -> Took:
        seen.append(row.name)
        fast = {"import torch": 1.0, "one picture": 1.5, "auto, second run": 2.0}
        slower = 1 if len(seen) <= len(ROWS) else 3  # the machine, in the second round
        return Took(slower * fast.get(row.name, 4.0), 1.0, 100.0)

    monkeypatch.setattr(bench_processes, "_time", time)
    found: dict[str, Any] = measure_processes(lambda _text: None, rounds=2)
    assert seen == [row.name for row in ROWS] * 2
    assert found["ratios"].keys() == PROCESS_TARGETS.keys() == found["range"].keys()
    assert found["ratios"]["second_run"] == 2.0 and found["range"]["second_run"] == [2.0, 2.0]
    assert found["ratios"]["one_picture_beyond_torch_s"] == 1.0
    text = _processes_text(found)
    assert "second_run                  2.00" in text and "100 MiB" in text and "met" in text and "missed" in text

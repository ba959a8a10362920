"""Devices and dtypes: what `auto` means, and one sentence for what is not there."""

from __future__ import annotations

import pytest
import torch

from nsbgan_infer.devices import DTYPES, computes_bf16, dtype_name, pick_device, pick_dtype
from nsbgan_infer.errors import UsageError

CPU = torch.device("cpu")


@pytest.mark.parametrize(("cuda", "mps", "wanted"), [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")])
def test_auto_takes_the_fastest_that_is_here(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, wanted: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device() == torch.device(wanted)


@pytest.mark.parametrize("name", ["gpu", "xpu", "", "cuda:x"])
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"use auto, cpu, cuda, cuda:N or mps\.$"):
        pick_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:3", "mps"])
def test_a_device_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UsageError, match="use cpu or auto"):
        pick_device(name)


def test_dtypes_have_the_names_that_recipes_write() -> None:
    assert pick_dtype("auto", CPU) is torch.float32
    assert all(pick_dtype(name, CPU) is dtype and dtype_name(dtype) == name for name, dtype in DTYPES.items())
    assert dtype_name(torch.float64) == "float64"
    with pytest.raises(UsageError, match="use auto, fp32, bf16 or fp16"):
        pick_dtype("fp8", CPU)


def test_a_gpu_without_bf16_is_refused_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    with pytest.raises(UsageError, match="use --dtype fp32"):
        pick_dtype("bf16", torch.device("cuda"))
    assert not computes_bf16(torch.device("cuda"))

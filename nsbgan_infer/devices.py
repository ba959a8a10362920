"""Where and in which precision the work runs."""

from __future__ import annotations

from functools import cache

import torch

from nsbgan_infer.errors import UsageError, WrongTypeError

FLOATS = (torch.float32, torch.bfloat16, torch.float16)
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(name: str = "auto") -> torch.device:
    """`auto` takes CUDA, then Apple's MPS, then the CPU. Raises UsageError for a device that is not there."""
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device: torch.device | None = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda", "mps"):
        raise UsageError(f"Unknown device '{name}': use auto, cpu, cuda, cuda:N or mps.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise UsageError(f"Device '{name}' is not available here: use cpu or auto.")
    if device.type == "mps" and not torch.backends.mps.is_available():
        raise UsageError("Device 'mps' is not available here: use cpu or auto.")
    return device


def pick_float(dtype: torch.dtype) -> torch.dtype:
    """`dtype` if the networks can compute in it. Raises UsageError for another, WrongTypeError for what is none."""
    if not isinstance(dtype, torch.dtype):
        raise WrongTypeError(f"A dtype is torch.float32, torch.bfloat16 or torch.float16, not {dtype!r}.")
    if dtype not in FLOATS:
        raise UsageError(f"The networks do not compute in {dtype}: use torch.float32, torch.bfloat16 or torch.float16.")
    return dtype


def pick_dtype(name: str, device: torch.device) -> torch.dtype:
    """`auto` is fp32 (what every figure in README is measured in unless it says bf16)."""
    if name == "auto":
        return torch.float32
    if name not in DTYPES:
        raise UsageError(f"Unknown dtype '{name}': use auto, fp32, bf16 or fp16.")
    if name == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise UsageError("This GPU does not compute in bf16: use --dtype fp32.")
    return DTYPES[name]


def computes_bf16(device: torch.device) -> bool:
    """Whether `device` has instructions for bf16, or the vectors to stand in for them. A CPU without them is ten times
    slower in bf16 than in fp32."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    return device.type != "cpu" or _cpu_computes_bf16()


@cache
def _cpu_computes_bf16() -> bool:
    try:
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    except (AttributeError, RuntimeError):  # a build without oneDNN
        return False


def dtype_name(dtype: torch.dtype) -> str:
    """The name of a dtype as options and recipes write it."""
    return {v: k for k, v in DTYPES.items()}.get(dtype, str(dtype).removeprefix("torch."))

"""Whether the main job can run here, and with what: devices, engines, extras, weights, disk and network.

Nothing is fetched; the network is asked only whether it is there, for a few seconds at most.
"""

from __future__ import annotations

import os
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import Any

from nsbgan_infer.errors import NsbError
from nsbgan_infer.presets import PRESETS
from nsbgan_infer.registry import shipped_file
from nsbgan_infer.samplers.biggan_release import TENSOR_BYTES, can_fetch, release
from nsbgan_infer.storage.files import sha256_of, writable_folder
from nsbgan_infer.storage.hub import cache_dir, hub_reachable, is_offline
from nsbgan_infer.storage.shipped import manifest

LEAST_FREE = 100 << 20  # bytes: the main job writes a few pictures


def examine(*, out: Path = Path()) -> dict[str, Any]:
    """Everything that `nsbgan doctor` tells, ready for JSON; `problems` are sentences, empty if the main job can run.

    `out` is the folder in which the main job would make its `out`.
    """
    problems: list[str] = []
    return {
        "devices": _devices(problems),
        "engines": _engines(),
        "extras": extras(),
        "weights": _weights(problems),
        "cached": _cached(),
        "disk": _disk(out, problems),
        "network": _network(),
        "problems": problems,
    }


def _devices(problems: list[str]) -> dict[str, Any]:
    try:
        import torch

        from nsbgan_infer.devices import computes_bf16, pick_device
    except (ImportError, OSError) as error:  # OSError: a library of torch that does not load
        problems.append(f"torch cannot be imported ({error}): install it again.")
        return {"torch": None, "auto": None, "threads": None, "found": []}
    cpu = f"{os.cpu_count()} cores, {'bf16 and fp32' if computes_bf16(torch.device('cpu')) else 'fp32 only'}"
    found: list[dict[str, Any]] = [{"name": "cpu", "what": cpu, "memory": None}]
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        facts = torch.cuda.get_device_properties(index)
        found.append({"name": f"cuda:{index}", "what": facts.name, "memory": facts.total_memory})
    if torch.backends.mps.is_available():
        found.append({"name": "mps", "what": "Apple GPU", "memory": None})
    return {
        "torch": torch.__version__,
        "auto": str(pick_device()),
        "threads": torch.get_num_threads(),
        "found": found,
    }


def _engines() -> dict[str, str | None]:
    """Engine -> what it needs and has here, None where that is missing."""
    compiler = next((c for c in ("c++", "g++", "clang++", "cl") if shutil.which(c)), None)
    openvino = _version("openvino")
    return {
        "eager": "torch",
        "compile": compiler and f"with {compiler}",
        "openvino": openvino and f"openvino {openvino}",
    }


def extras() -> dict[str, dict[str, str | None]]:
    """Extra -> package -> installed version, None where it is not installed."""
    found: dict[str, dict[str, str | None]] = {}
    for requirement in metadata.requires("nsbgan-infer") or []:
        match = re.fullmatch(r"""([A-Za-z0-9._-]+).*;\s*extra\s*==\s*['"]([a-z]+)['"]\s*""", requirement)
        if match and match[2] != "all":
            found.setdefault(match[2], {})[match[1]] = _version(match[1])
    return found


def _weights(problems: list[str]) -> list[dict[str, Any]]:
    """What ships, each file checked against the manifest. Those that the main job needs are problems if damaged."""
    rows = []
    try:
        shipped = manifest().get("components", {})
    except NsbError as error:
        problems.append(str(error))
        return []
    for name, facts in shipped.items():
        row: dict[str, Any] = {"name": name, "size": None, "error": None}
        try:
            file = shipped_file(name)
            row["size"] = file.stat().st_size
            if sha256_of(file) != facts.get("sha256"):
                row["error"] = f"{file} is not the file that ships: install nsbgan-infer again."
        except NsbError as error:
            row["error"] = str(error)
        rows.append(row)

    needed = {PRESETS["embedded"].sampler, *manifest().get("defaults", {}).get("generate", {}).values()}
    problems += [r["error"] for r in rows if r["error"] and r["name"] in needed]
    problems += [f"No weights of {n} ship with this version." for n in sorted(needed - {r["name"] for r in rows})]
    return rows


def _cached() -> list[dict[str, Any]]:
    """The released BigGANs, whether they are in the cache, and the size there."""
    rows = []
    for name in TENSOR_BYTES:
        facts = release(name)
        size = sum(p.stat().st_size for p in facts.folder.iterdir() if p.is_file()) if facts.cached else None
        rows.append({"name": name, "here": facts.cached, "size": size, "download": facts.size})
    return rows


def _disk(out: Path, problems: list[str]) -> list[dict[str, Any]]:
    """Free bytes where pictures and fetched weights go."""
    try:
        writable_folder(out)
    except NsbError as error:
        problems.append(str(error))
    rows: list[dict[str, Any]] = []
    for what, folder in (("pictures", out), ("cache", cache_dir())):
        there = next(p for p in (folder.absolute(), *folder.absolute().parents) if p.exists())
        rows.append({"what": what, "folder": str(folder), "free": shutil.disk_usage(there).free})
    if rows[0]["free"] < LEAST_FREE:
        problems.append(f"Only {rows[0]['free'] >> 20} MiB are free for pictures: make room, or work elsewhere.")
    return rows


def _network() -> dict[str, bool | None]:
    """Whether the Hub and the server of BigGAN's weights answer; None offline, where nobody is asked."""
    if is_offline():
        return {"hub": None, "biggan": None}

    return {"hub": hub_reachable(), "biggan": can_fetch("biggan-deep-256")}


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None

"""`nsbgan doctor`: what is here, what is missing, and whether the main job can run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from nsbgan_infer.cli.options import console_options
from nsbgan_infer.cli.output import Console, size_text, table, versions
from nsbgan_infer.errors import WorkError


@click.command("doctor")
@click.option("--offline", is_flag=True, help="Never use the network.")
@console_options
def command(offline: bool, console: Console) -> None:
    """Tell devices, engines, extras, weights, disk and network, and whether `nsbgan generate` can run.

    Exit code 1, with the reason, if it cannot. Nothing is fetched.
    """
    from nsbgan_infer.cli.loading import go_offline
    from nsbgan_infer.diagnostics.doctor import examine

    if offline:
        go_offline()
    found = examine()
    console.result({"versions": versions(), **found}, _text(found))
    if found["problems"]:
        raise WorkError(" ".join(found["problems"]))


def _text(found: Mapping[str, Any]) -> str:
    devices, disk = found["devices"], found["disk"]
    rows = [
        (d["name"], f"{d['what']}, {size_text(d['memory'])}" if d["memory"] else d["what"]) for d in devices["found"]
    ]
    blocks = [
        f"nsbgan-infer {versions()['nsbgan-infer']}, torch {devices['torch']}, {devices['threads']} threads, "
        f"--device auto is {devices['auto']}",
        _block("Devices", rows),
        _block("Engines", [(name, has or "not here") for name, has in found["engines"].items()]),
        _block("Extras", [(name, _extra(name, packages)) for name, packages in found["extras"].items()]),
        _block(
            "Weights that ship", [(w["name"], size_text(w["size"]), w["error"] or "whole") for w in found["weights"]]
        ),
        _block("Weights that are fetched once", [_cached(w) for w in found["cached"]]),
        _block("Disk", [(d["what"], f"{size_text(d['free'])} free", d["folder"]) for d in disk]),
        _block("Network", [(name, _answer(there)) for name, there in found["network"].items()]),
    ]
    if not found["problems"]:
        blocks.append("The main job can run: nsbgan generate --class 207 --res 512")
    return "\n\n".join(blocks)


def _extra(name: str, packages: Mapping[str, str | None]) -> str:
    missing = [p for p, version in packages.items() if version is None]
    here = ", ".join(f"{p} {v}" for p, v in packages.items() if v)
    return f"missing {', '.join(missing)}: pip install 'nsbgan-infer[{name}]'" if missing else here


def _cached(row: Mapping[str, Any]) -> tuple[str, ...]:
    return (row["name"], size_text(row["size"] or row["download"]), "here" if row["here"] else "not here")


def _answer(there: bool | None) -> str:
    return {None: "not asked (offline)", True: "reachable", False: "not reachable"}[there]


def _block(title: str, rows: Sequence[tuple[str, ...]]) -> str:
    return f"{title}\n{table(rows, indent='  ')}"

"""`nsbgan plugins`: the entry points that other packages bring, and whether a part keeps its promises."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from nsbgan_infer.cli.complete import decoder_names
from nsbgan_infer.cli.groups import Group
from nsbgan_infer.cli.options import console_options
from nsbgan_infer.cli.output import Console, table
from nsbgan_infer.errors import WorkError
from nsbgan_infer.registry import KINDS, Entry, Kind

if TYPE_CHECKING:
    from nsbgan_infer.encoders.conformance import Check


@click.group("plugins", cls=Group, invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List plug-ins, or check a part against the contract of its kind."""
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_command)


@command.command("list")
@console_options
def list_command(console: Console) -> None:
    """List what installed packages register, and what keeps each from being used. Runs their import code."""
    from nsbgan_infer.registry import discover_plugins, probe, stray_points

    found = [probe(p) for p in discover_plugins()]
    value = [
        {"name": p.name, "kind": p.kind, "package": p.distribution, "target": p.target, "error": p.error} for p in found
    ]
    rows = [(p.name, p.kind, p.distribution, p.target, p.error or "usable") for p in found]
    text = table(rows, header=("name", "kind", "package", "target", "state")) if rows else "No plug-ins are installed."
    for group, name, package in stray_points():
        ours = [f"nsbgan_infer.{kind}s" for kind in KINDS]
        console.note(f"{package} registers {name} in the group {group}, which is none: use {', '.join(ours)}.")
    console.result({"plugins": value}, text)


@command.command("check")
@click.argument("name", shell_complete=decoder_names)
@click.option("--kind", type=click.Choice(KINDS), help="Where NAME means parts of several kinds. Default: by NAME.")
@console_options
def check_command(name: str, kind: Kind | None, console: Console) -> None:
    """Check a sampler, encoder, decoder, inverter or classifier: shapes, ranges, determinism, registration, tiles, ...

    NAME is a plug-in's or built-in's name, a folder, a .safetensors file or spandrel:FILE. Exit code 1 if a promise is
    broken.
    """
    from nsbgan_infer.registry import kind_of

    kind = kind or kind_of(name)
    checks = _checks(kind, name)
    broken = [c for c in checks if not c.ok]
    value = {kind: name, "ok": not broken, "checks": [c._asdict() for c in checks]}
    console.result(value, table([("ok" if c.ok else "BROKEN", c.name, c.message) for c in checks]))
    if broken:
        raise WorkError(f"{name} breaks {len(broken)} of {len(checks)} promises: {', '.join(c.name for c in broken)}.")


def _checks(kind: Kind, name: str) -> list[Check]:
    from nsbgan_infer import registry
    from nsbgan_infer.classifiers.conformance import check_classifier
    from nsbgan_infer.decoders.conformance import check_decoder
    from nsbgan_infer.encoders.conformance import check_encoder
    from nsbgan_infer.inverters.conformance import check_inverter
    from nsbgan_infer.samplers.conformance import check_sampler

    if kind == "encoder":
        return check_encoder(registry.load_encoder(name))
    part = registry.load_classifier(name) if kind == "classifier" else registry.load_part(name, kind)
    checks: dict[Kind, Callable[[Any], list[Check]]] = {
        "sampler": check_sampler,
        "decoder": check_decoder,
        "inverter": check_inverter,
        "classifier": check_classifier,
    }
    return [*checks[kind](part), *_called(part, registry.entries(kind).get(name))]


def _called(part: Any, entry: Entry | None) -> list[Check]:
    """Whether a plug-in says the name under which it is registered, by which recipes find it again."""
    from nsbgan_infer.encoders.conformance import Check

    if entry is None or entry.source != "plug-in":
        return []
    said = getattr(getattr(part, "info", None), "name", None)
    told = f"`info.name` is {said!r}, registered as {entry.name!r}"
    return [Check("name", said == entry.name, told + ("" if said == entry.name else ": recipes would not find it"))]

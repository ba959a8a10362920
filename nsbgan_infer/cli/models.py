"""`nsbgan models`: parts and presets, where each comes from, its size and licence, and what is here."""

from __future__ import annotations

from typing import Any

import click

from nsbgan_infer.cli.options import console_options
from nsbgan_infer.cli.output import Console, size_text, table
from nsbgan_infer.presets import PRESETS, Preset
from nsbgan_infer.reductions import REDUCTIONS
from nsbgan_infer.registry import Entry, Kind, discover_plugins, entries
from nsbgan_infer.storage.shipped import manifest, weights_dir

WHERE = {
    "none": "no weights",
    "shipped": "ships",
    "released": "fetched once",
    "package": "extra package",
    "yours": "yours to give",
    "plug-in": "plug-in",
}


@click.command("models")
@click.option("--remote", metavar="OWNER/NAME", help="What a Hub repository holds (OWNER/NAME@REVISION for another).")
@console_options
def command(remote: str | None, console: Console) -> None:
    """List parts and presets: source, size, licence, and whether the weights are here.

    Nothing is fetched or imported for it; `nsbgan plugins check` tries a plug-in. With --remote the Hub is asked
    instead, for names, sizes and the headers of the weights.
    """
    if remote:
        _show_remote(remote, console)
        return
    kinds: tuple[Kind, ...] = ("sampler", "decoder", "inverter", "classifier")
    parts = {f"{kind}s": [_part(e) for e in entries(kind).values()] for kind in kinds}
    parts["encoders"] = [_part(e) for e in _encoders()]
    presets = [_preset(p) for p in PRESETS.values()]
    broken = [
        {"name": p.name, "kind": p.kind, "package": p.distribution, "error": p.error}
        for p in discover_plugins()
        if p.error
    ]
    value = {**parts, "presets": presets, "broken_plugins": broken, "defaults": manifest().get("defaults", {})}
    order = ("samplers", "encoders", "decoders", "inverters", "classifiers")
    blocks = [_block(kind.capitalize(), [_row(p) for p in parts[kind]]) for kind in order]
    blocks.append(_block("Presets", [(p["name"], p["summary"], p["paper"]) for p in presets]))
    if broken:
        blocks.append(_block("Plug-ins that are not used", [(b["name"], b["package"], b["error"]) for b in broken]))
    console.result(value, "\n\n".join(blocks))


def _show_remote(ref: str, console: Console) -> None:
    from nsbgan_infer.publishing.hub_contents import look_at
    from nsbgan_infer.storage.hub import parse_ref

    repo, revision = parse_ref(ref if ref.startswith("hf://") else f"hf://{ref}")
    found = look_at(repo, revision=revision)
    listing = found.listing
    value = {"repo": repo, "commit": listing.commit, "private": listing.private, "kind": found.kind}
    value |= {"parts": list(found.parts), "other_files": found.others}
    lines = [f"{repo} at {listing.commit[:12]}{', private' * listing.private}"]
    if found.kind == "other":
        lines.append("It holds no component of nsbgan_infer.")
    lines.append(_block("Parts", [_remote_row(p) for p in found.parts]) if found.parts else "")
    pinned = f"{repo}@{listing.commit}"
    if found.kind == "pipeline":
        lines.append(f"Use it with --pipeline {pinned}")
    elif found.kind == "component" and "error" not in found.parts[0]:
        lines.append(f"Use it with --{found.parts[0]['kind']} hf://{pinned}")
    console.result(value, "\n".join(filter(None, lines)))


def _remote_row(part: dict[str, Any]) -> tuple[str, ...]:
    folder, size = part["folder"] or ".", size_text(part["size"])
    if "error" in part:
        return (folder, "cannot be used", "", "", size, part["error"])
    count = f"{part['parameters'] / 1e6:.2f} M parameters"
    return (folder, f"{part['kind']} {_one_line(part['name'])}", f"{part['arch']}, {part['basis']}", count, size,
            _one_line(part["licence"]))  # fmt: skip


def _one_line(text: str) -> str:
    """A text that others wrote, fit for a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)[:120]


def _encoders() -> list[Entry]:
    """One row for each reduction that ours make, then plug-ins."""
    ours = [
        Entry(r.name, "encoder", f"basis {r.basis}, filter {r.filter}, {r.anchor} anchored", "none", licence="none")
        for r in REDUCTIONS.values()
    ]
    return [*ours, *entries("encoder").values()]


def _part(entry: Entry) -> dict[str, Any]:
    """One part. `here`: it can be used now without the network (None: unknown)."""
    row: dict[str, Any] = {
        "name": entry.name,
        "summary": entry.summary,
        "source": entry.source,
        "size": None,
        "licence": entry.licence,
        "here": {"none": True, "yours": False}.get(entry.source),
        "url": entry.url,
    }
    if entry.source == "shipped":
        return row | _shipped(entry.name)
    if entry.source == "released" and entry.kind == "sampler":
        from nsbgan_infer.samplers.biggan_release import release

        facts = release(entry.name)
        return row | {"size": facts.size, "licence": facts.licence, "here": facts.cached, "url": facts.url}
    return row


def _shipped(name: str) -> dict[str, Any]:
    facts = manifest().get("components", {}).get(name)
    file = weights_dir() / str(facts["file"]) if facts else None
    if not facts or file is None or not file.is_file():
        return {"here": False}
    return {"size": file.stat().st_size, "licence": facts.get("licence", "unknown"), "here": True}


def _preset(preset: Preset) -> dict[str, Any]:
    stages = [{"basis": s.basis, "reads": s.reads, "levels": s.levels, "decoder": s.decoder} for s in preset.stages]
    return {
        "name": preset.name,
        "summary": preset.summary,
        "sampler": preset.sampler,
        "stages": stages,
        "paper": preset.paper,
    }


def _row(part: dict[str, Any]) -> tuple[str, ...]:
    here = {True: "here", False: "not here", None: "-"}[part["here"]]
    return (part["name"], part["summary"], WHERE[part["source"]], size_text(part["size"]), here, part["licence"])


def _block(title: str, rows: list[tuple[str, ...]]) -> str:
    return f"{title}\n{table(rows, indent='  ')}"

"""What the shell offers after Tab: names of classes, presets and parts, read from tables and never from weights."""

from __future__ import annotations

import click
from click.shell_completion import CompletionItem


def class_names(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The classes' first names with hyphens, which need no quotes, and `all`."""
    from nsbgan_infer.classes import all_classes

    names = {c.slug: c.wnid for c in all_classes()} | {"all": "every class"}
    return [CompletionItem(n, help=h) for n, h in names.items() if n.startswith(incomplete.lower())]


def preset_names(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The presets."""
    from nsbgan_infer.presets import PRESETS

    return [CompletionItem(p.name, help=p.summary) for p in PRESETS.values() if p.name.startswith(incomplete)]


def decoder_names(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Decoders by name, else files."""
    from nsbgan_infer.registry import entries

    found = entries("decoder").values()
    return _or_files(
        [CompletionItem(e.name, help=e.summary) for e in found if e.name.startswith(incomplete)], incomplete
    )


def sampler_names(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Samplers by name, else files."""
    from nsbgan_infer.registry import entries

    found = entries("sampler").values()
    return _or_files(
        [CompletionItem(e.name, help=e.summary) for e in found if e.name.startswith(incomplete)], incomplete
    )


def published_names(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Weights that ship, else files."""
    from nsbgan_infer.storage.shipped import manifest

    names = [*manifest().get("components", {})]
    return _or_files([CompletionItem(n) for n in names if n.startswith(incomplete)], incomplete)


def _or_files(items: list[CompletionItem], incomplete: str) -> list[CompletionItem]:
    return items or [CompletionItem(incomplete, type="file")]

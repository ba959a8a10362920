"""What can be told about a component without its weights: from its configuration and the header of its file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nsbgan_infer.storage.components import Component, build_component, check_tensors, empty_weights, header_config


def outline_header(header: Mapping[str, Any], label: str) -> Component:
    """The component that a file with this header holds, on the `meta` device, where only the header is at hand.

    Raises CheckpointError or UnknownNameError, which quote `label`.
    """
    with empty_weights():
        component = build_component(header_config(header, Path(label)), where=f"the header of {label}")
    check_tensors(header, component.state_dict(), label=label)
    return component.eval().requires_grad_(False)


def component_facts(component: Component) -> dict[str, Any]:
    """Name, kind, arch, basis, parameters and licence; of a decoder what it reads and its scale, of a sampler what it
    makes, its resolution and its number of classes (None: it draws without classes), of an inverter the same, read
    instead of made, and its sampler.
    """
    info: Any = component.info
    facts = {"name": info.name, "kind": component.kind, "arch": component.arch, "basis": info.basis}
    facts |= {"parameters": sum(p.numel() for p in component.parameters()), "licence": info.licence}
    if component.kind == "decoder":
        return facts | {"reads": info.reads, "scale": info.scale}
    if component.kind == "inverter":
        facts |= {"reads": info.makes, "sampler": info.sampler}
    return facts | {"makes": info.makes, "resolution": info.resolution, "classes": info.classes and len(info.classes)}

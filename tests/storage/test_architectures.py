"""Whatever architecture is registered is found by its name, and only then imported."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass, is_dataclass
from typing import Any

import pytest

from nsbgan_infer.decoders.subband import SubbandConfig
from nsbgan_infer.errors import UnknownNameError, WorkError
from nsbgan_infer.registry import BUILT_IN
from nsbgan_infer.storage import architectures
from nsbgan_infer.storage.architectures import (
    ROOMS,
    Component,
    Trained,
    all_architectures,
    architecture,
    find_architecture,
    part_modules,
)
from nsbgan_infer.storage.components import empty_weights


@pytest.mark.parametrize("arch", all_architectures())
def test_an_architecture_says_where_it_belongs(arch: str) -> None:
    cls = find_architecture(arch)
    room = cls.__module__.rpartition(".")[0]
    assert cls.arch == arch and room in ROOMS and room == f"nsbgan_infer.{cls.kind}s"
    assert is_dataclass(cls.Config) and cls.__doc__
    assert cls.sentence[0].isupper() and cls.sentence.endswith(".")


@pytest.mark.parametrize("arch", all_architectures())
def test_an_architecture_says_how_other_engines_run_it(arch: str) -> None:
    cls = find_architecture(arch)
    with empty_weights():
        component = cls(cls.tiny)
    graph, exported = component.graph(), component.export_graph()
    assert graph is not None and exported is not None
    assert (graph.names == ("low_band",)) == (cls.kind == "decoder")
    for each in (graph, exported):
        assert each.fixed is None or each.fixed in each.names


def test_published_sizes_are_those_of_names_in_the_registry() -> None:
    """Whose weights do not ship: a plan must know the sizes of each."""
    named = [name for cls in all_architectures().values() for name in cls.published]
    wanted = {n for n, e in BUILT_IN["sampler"].items() if e.source in ("yours", "released")}
    assert set(named) == wanted and len(named) == len(wanted)


def test_one_is_found_without_importing_the_others() -> None:
    script = """
import sys
from nsbgan_infer.storage.architectures import find_architecture
print(find_architecture("subband").__name__)
print(*(m for m in sys.modules if m.startswith("nsbgan_infer.samplers.")))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines() == ["SubbandDecoder", ""]


def test_an_unknown_one_names_the_near_one() -> None:
    with pytest.raises(UnknownNameError, match="did you mean unet-w"):
        find_architecture("unet-v")


def test_a_name_is_taken_once() -> None:
    find_architecture("subband")
    with pytest.raises(ValueError, match=r"subband is defined by nsbgan_infer.decoders.subband and by .*test_archit"):

        @architecture
        class Second(Component):
            kind = "decoder"
            arch = "subband"
            Config = SubbandConfig
            tiny = SubbandConfig(blocks=1, channels=8)
            sentence = "It is another one."

    assert find_architecture("subband").__module__ == "nsbgan_infer.decoders.subband"


@dataclass(frozen=True)
class Settings:
    licence: str = "none"
    name: str = "plain"


@dataclass(frozen=True)
class Nameless:
    licence: str = "none"


WHOLE = {"kind": "decoder", "arch": "plain", "Config": Settings, "tiny": Settings(), "sentence": "It is plain."}


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"kind": "decodr"}, "is of the kind 'decodr': use decoder, sampler, inverter"),
        ({"sentence": ""}, "has no `sentence`"),
        ({"tiny": None}, "has no `tiny`"),
        ({"tiny": SubbandConfig()}, "has a `tiny` that is not one of its Config"),
        ({"Config": dict, "tiny": {"a": 1}}, "has a Config that is not a frozen dataclass"),
        ({"Config": Nameless, "tiny": Nameless(), "trained": (Trained("plain", {}),)}, "without the field `name`"),
    ],
)
def test_what_an_architecture_forgot_is_told_where_it_is_defined(said: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        architecture(type("Plain", (Component,), {**WHOLE, **said}))
    assert "plain" not in all_architectures()


def test_a_module_that_cannot_be_imported_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(architectures, "part_modules", lambda: ("nsbgan_infer.decoders.absent",))
    with pytest.raises(WorkError, match=r"nsbgan_infer.decoders.absent, .* cannot be imported \(ModuleNotFoundError"):
        all_architectures()


def test_every_module_of_the_rooms_is_looked_at() -> None:
    assert {"nsbgan_infer.decoders.subband", "nsbgan_infer.samplers.biggan_layouts"} <= set(part_modules())

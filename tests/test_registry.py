"""Names to parts: built-ins, plug-ins that are good, broken or in each other's way, files and folders."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner
from tiny import tiny_sampler

from nsbgan_infer import NsbPipeline, Stage, from_recipe, regenerate, registry
from nsbgan_infer.cli.main import cli
from nsbgan_infer.decoders.base import DecoderInfo
from nsbgan_infer.encoders import WaveletEncoder, encoder_config
from nsbgan_infer.errors import CheckpointError, NsbError, UnknownNameError, UsageError
from nsbgan_infer.registry import (
    BUILT_IN,
    Plugin,
    discover_plugins,
    entries,
    kind_of,
    load_classifier,
    load_decoder,
    load_encoder,
    load_sampler,
    package_licence,
    probe,
    shipped_file,
    stray_points,
)
from nsbgan_infer.samplers.stylegan2 import StyleGAN2, StyleGAN2Config
from nsbgan_infer.storage.components import save_component

MODULE = """
from nsbgan_infer.decoders.base import DecoderInfo


class Doubler:
    info = DecoderInfo("doubler", "pixel", 2, "MIT")

    def __call__(self, low_band):
        return low_band.repeat_interleave(2, 2).repeat_interleave(2, 3)


class Makers:
    make = Doubler


def no_info():
    return object()


def fails():
    raise RuntimeError("out of order")
"""

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Put a distribution with entry points, and modules by name, on the path as pip would."""
    site = tmp_path / "site"
    site.mkdir()
    monkeypatch.syspath_prepend(str(site))
    monkeypatch.delenv("NSBGAN_NO_PLUGINS", raising=False)
    before = set(sys.modules)

    def put(distribution: str, points: dict[str, dict[str, str]], **modules: str) -> None:
        for name, text in modules.items():
            (site / f"{name}.py").write_text(text)
        info = site / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        lines = []
        for kind, table in points.items():
            lines += [f"[nsbgan_infer.{kind}s]", *(f"{k} = {v}" for k, v in table.items())]
        (info / "entry_points.txt").write_text("\n".join(lines) + "\n")

    yield put
    for name in set(sys.modules) - before:
        if str(site) in str(getattr(sys.modules[name], "__file__", "")):
            del sys.modules[name]


def ours(plugins: list[Plugin], *distributions: str) -> list[Plugin]:
    return [p for p in plugins if p.distribution in distributions]


def test_a_plugin_is_listed_without_being_imported_and_used_by_its_name(install: Install) -> None:
    install("doubler-package", {"decoder": {"doubler": "doubler_mod:Doubler"}}, doubler_mod=MODULE)
    assert ours(discover_plugins(), "doubler-package") == [
        Plugin("doubler", "decoder", "doubler_mod:Doubler", "doubler-package")
    ]
    assert entries("decoder")["doubler"].source == "plug-in" and "doubler" not in entries("sampler")
    assert "doubler_mod" not in sys.modules
    decoder = load_decoder("doubler")
    assert decoder.info == DecoderInfo("doubler", "pixel", 2, "MIT")
    assert decoder(torch.zeros(1, 3, 4, 5)).shape == (1, 3, 8, 10)


WEIGHTED = """
import torch
from nsbgan_infer.decoders.base import DecoderInfo


class Weighted(torch.nn.Module):
    info = DecoderInfo("weighted", "pixel", 2, "MIT")

    def __init__(self):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.ones(1))

    def forward(self, low_band):
        return self.gain * low_band.repeat_interleave(2, 2).repeat_interleave(2, 3)
"""


def check(name: str) -> tuple[int, str]:
    """`nsbgan plugins check NAME`: exit code, and all that it says."""
    done = CliRunner().invoke(cli, ["plugins", "check", name], prog_name="nsbgan")
    return done.exit_code, done.output


def test_a_check_sees_a_name_that_recipes_would_not_find(install: Install) -> None:
    points = {"doubler": "doubler_mod:Doubler", "twice": "doubler_mod:Doubler", "bare": "doubler_mod:no_info"}
    install("doubler-package", {"decoder": points}, doubler_mod=MODULE)
    code, said = check("twice")
    assert code == 1 and "BROKEN  name" in said and "`info.name` is 'doubler', registered as 'twice'" in said
    assert "BROKEN  name" not in check("doubler")[1]
    code, said = check("bare")
    assert code == 1 and "`info` is a NoneType, not a DecoderInfo" in said and "see `nsbgan plugins check" not in said


def test_a_group_that_is_none_is_told(install: Install) -> None:
    install("typing-package", {"decoder": {"doubler": "doubler_mod:Doubler"}}, doubler_mod=MODULE)
    (point,) = Path(sys.path[0]).glob("typing_package*/entry_points.txt")
    point.write_text(point.read_text().replace("decoders", "decoder"))
    assert stray_points() == [("nsbgan_infer.decoder", "doubler", "typing-package")]
    said = CliRunner().invoke(cli, ["plugins", "list"], prog_name="nsbgan").output
    assert "typing-package registers doubler in the group nsbgan_infer.decoder, which is none: use" in said


def test_an_architecture_is_no_weights() -> None:
    code, said = check("srresnet")
    assert code == 2 and "srresnet is an architecture, not weights: give the folder of a run" in said


def test_the_recipe_holds_the_weights_and_version_of_a_plugin(install: Install) -> None:
    install("weighty", {"decoder": {"weighted": "weighted_mod:Weighted"}}, weighted_mod=WEIGHTED)
    pipeline = NsbPipeline(tiny_sampler("pixel"), [Stage(None, load_decoder("weighted"))])
    output = pipeline(207, progress=False)
    recipe = output.recipes[0]
    assert recipe.versions["weighty"] == "1.0" and len(recipe.weights["weighted"]) == 64
    older = replace(recipe, versions=recipe.versions | {"weighty": "0.9"})
    assert regenerate(older, pipeline=pipeline).notes == ("weighty was 0.9 then and is 1.0 now",)
    with torch.no_grad():
        pipeline.stages[0].decoder.gain.mul_(2)  # type: ignore[attr-defined]
    with pytest.raises(CheckpointError, match="weighted has SHA-256"):
        regenerate(recipe, pipeline=pipeline)
    assert from_recipe(output.recipes[0], pipeline=pipeline, force=True) is pipeline


def test_an_entry_point_may_name_a_nested_attribute_and_extras(install: Install) -> None:
    install("p", {"decoder": {"nested": "m1:Makers.make", "extra": "m1:Doubler [gpu]"}}, m1=MODULE)
    assert load_decoder("nested").info.name == "doubler"
    assert load_decoder("extra").info.name == "doubler"


ENCODER = """
from dataclasses import dataclass
import torch.nn.functional as F


@dataclass(frozen=True)
class Mean:
    levels: int = 2
    basis = "pixel"
    makes = "bilinear"

    def __call__(self, picture):
        return F.avg_pool2d(picture, 2**self.levels, ceil_mode=True)
"""


def test_a_plug_in_encoder_is_used_and_saved_by_its_name(install: Install) -> None:
    table = {"mean": "mean_mod:Mean", "wavelet": "mean_mod:Mean", "bare": "mean_mod:F"}
    install("mean-package", {"encoder": table}, mean_mod=ENCODER)
    encoder = load_encoder({"basis": "mean", "levels": 1})
    assert encoder(torch.ones(1, 3, 8, 6)).shape == (1, 3, 4, 3)
    assert encoder_config(encoder) == {"basis": "mean", "levels": 1}
    assert load_encoder(encoder_config(encoder)) == encoder and kind_of("mean") == "encoder"
    assert isinstance(load_encoder("wavelet"), WaveletEncoder)
    with pytest.raises(CheckpointError, match="a mean encoder has levels"):
        load_encoder({"basis": "mean", "filter": "box"})
    with pytest.raises(UsageError, match=r"The plug-in encoder 'bare' .* names a frozen dataclass"):
        load_encoder("bare")
    listed = {p.name: probe(p) for p in ours(discover_plugins(), "mean-package")}
    assert listed["mean"].error is None and "is defined by" in str(listed["wavelet"].error)


def test_what_a_reference_names(tmp_path: Path) -> None:
    kinds = {"bicubic": "decoder", "embedded-w-64": "sampler", "pixel": "encoder", "inception-v3": "classifier"}
    for ref, kind in (kinds | dict.fromkeys(("nowhere", "spandrel:x.pth", "x.pth"), "decoder")).items():
        assert kind_of(ref) == kind
    save_component(StyleGAN2(StyleGAN2.tiny), tmp_path / "part")
    assert kind_of(str(tmp_path / "part")) == "sampler"


BROKEN = {
    "gone": ("nowhere_at_all:make", "No module named 'nowhere_at_all'"),
    "syntax": ("bad_syntax:make", "SyntaxError"),
    "raises": ("bad_raises:make", "ValueError: not today"),
    "exits": ("bad_exits:make", "SystemExit"),
    "attribute": ("m2:nothing", "nothing"),
}
BAD_MODULES = {
    "bad_syntax": "def (",
    "bad_raises": "raise ValueError('not today')",
    "bad_exits": "import sys\nsys.exit(3)",
    "m2": MODULE,
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_plugin_is_listed_with_its_error_and_harms_nobody(install: Install, name: str) -> None:
    target, message = BROKEN[name]
    install("broken", {"decoder": {name: target, "works": "m2:Doubler"}}, **BAD_MODULES)
    listed = {p.name: probe(p) for p in ours(discover_plugins(), "broken")}
    assert message in str(listed[name].error) and listed["works"].error is None
    with pytest.raises(UsageError, match=rf"The plug-in decoder '{name}' \(from broken\) cannot be used") as caught:
        load_decoder(name)
    assert message in str(caught.value)
    assert load_decoder("works").info.name == "doubler"
    assert load_decoder("bicubic").info.name == "bicubic"


def test_a_plugin_that_fails_when_made_or_has_no_info(install: Install) -> None:
    table = {"fails": "m3:fails", "bare": "m3:no_info"}
    install("p", {"decoder": table, "sampler": table}, m3=MODULE)
    for load in (load_decoder, load_sampler):
        with pytest.raises(UsageError, match="RuntimeError: out of order"):
            load("fails")
        with pytest.raises(UsageError, match="has no `info` of type"):
            load("bare")


@pytest.mark.parametrize(
    ("stated", "licence"),
    [
        ("License-Expression: MIT", "MIT"),
        ("License: BSD", "BSD"),
        ("Classifier: License :: OSI Approved :: Apache Software License", "Apache Software License"),
        ("License: " + "all the words of it " * 50, "unknown"),
        ("Summary: says nothing", "unknown"),
    ],
)
def test_the_licence_of_a_plugin_is_what_its_package_states(
    install: Install, tmp_path: Path, stated: str, licence: str
) -> None:
    install("stated", {"decoder": {"stated-decoder": "m7:Doubler"}})
    with (tmp_path / "site/stated-1.0.dist-info/METADATA").open("a") as file:
        file.write(f"{stated}\n")
    assert entries("decoder")["stated-decoder"].licence == licence
    assert package_licence("no-such-package-anywhere") == "unknown"


def test_names_that_are_taken_stay_with_their_owner(install: Install) -> None:
    install("aaa", {"decoder": {"mine": "m4:Doubler", "bicubic": "m4:Doubler"}}, m4=MODULE)
    install("zzz", {"decoder": {"mine": "m4:no_info"}})
    plugins = {(p.name, p.distribution): p for p in ours(discover_plugins(), "aaa", "zzz")}
    assert plugins["mine", "aaa"].error is None
    assert plugins["mine", "zzz"].error == "the name mine is already taken by aaa"
    assert plugins["bicubic", "aaa"].error == "the name bicubic belongs to a built-in decoder"
    assert probe(plugins["mine", "zzz"]) == plugins["mine", "zzz"]
    assert load_decoder("mine").info.name == "doubler"
    assert load_decoder("bicubic").info.name == "bicubic"


def test_a_package_found_twice_on_the_path_is_one(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("twice", {"decoder": {"again": "m5:Doubler"}}, m5=MODULE)
    other = tmp_path / "other"
    other.symlink_to(tmp_path / "site")
    monkeypatch.syspath_prepend(str(other))
    assert [p.error for p in ours(discover_plugins(), "twice")] == [None]


def test_plugins_can_be_turned_off(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    install("p", {"decoder": {"doubler": "m6:Doubler"}}, m6=MODULE)
    monkeypatch.setenv("NSBGAN_NO_PLUGINS", "1")
    assert discover_plugins() == [] and "doubler" not in entries("decoder")
    with pytest.raises(UnknownNameError, match="Unknown decoder 'doubler'"):
        load_decoder("doubler")
    assert "m6" not in sys.modules


@pytest.mark.parametrize("kind", BUILT_IN)
def test_built_in_names_are_plain_and_their_makers_exist(kind: registry.Kind) -> None:
    from importlib.util import find_spec

    for name, entry in BUILT_IN[kind].items():
        assert name == entry.name and entry.kind == kind and entry.summary
        if entry.load:
            module, _, attribute = entry.load.partition(":")
            spec = find_spec(module)
            assert spec and spec.origin, entry.load
            assert f"def {attribute}(" in Path(spec.origin).read_text(encoding="utf-8"), entry.load


@pytest.mark.parametrize("name", ["iwt", "bicubic", "lanczos"])
def test_decoders_without_weights_load_by_name(name: str) -> None:
    assert load_decoder(name).info.name == name


def test_unknown_names_suggest_near_ones() -> None:
    with pytest.raises(UnknownNameError, match=r"Unknown decoder 'bicubik': did you mean bicubic\?"):
        load_decoder("bicubik")
    with pytest.raises(UnknownNameError, match=r"Unknown sampler 'biggan-deep-265': did you mean biggan-deep-256"):
        load_sampler("biggan-deep-265")
    with pytest.raises(UnknownNameError, match="Unknown classifier 'inception'"):
        load_classifier("inception")


@pytest.mark.parametrize(
    "ref", ["no/such/folder", "missing.safetensors", "x" * 5000 + "/y", "nul\0byte/x", "", "~nobody-here/x", "/"]
)
def test_paths_that_are_not_there_give_one_sentence(ref: str) -> None:
    for load in (load_decoder, load_sampler):
        with pytest.raises(NsbError):
            load(ref)


def test_a_folder_and_a_file_load_by_path_and_by_kind(tmp_path: Path) -> None:
    component = StyleGAN2(StyleGAN2Config(channels=(4,), style_dim=4, mapping_layers=1))
    save_component(component, tmp_path / "part")
    save_component(component, tmp_path / "part.safetensors")
    for path in (tmp_path / "part", tmp_path / "part.safetensors"):
        assert load_sampler(str(path)).info.resolution == 4
        with pytest.raises(CheckpointError, match="is a sampler, but a decoder is wanted"):
            load_decoder(str(path))


def test_samplers_without_weights_say_how_to_get_them() -> None:
    with pytest.raises(CheckpointError, match="nsbgan convert FILE FOLDER") as caught:
        load_sampler("stylegan2-256")
    assert "nsbgan train" not in str(caught.value)
    with pytest.raises(CheckpointError, match="nsbgan train sampler"):
        load_sampler("learned-w-64")


def test_the_manifest_cannot_point_out_of_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for bad in ("../secret", "/etc/passwd", "a/b"):
        monkeypatch.setattr(registry, "manifest", lambda bad=bad: {"components": {"resnet-w": {"file": bad}}})
        with pytest.raises(CheckpointError, match="not a plain file name"):
            shipped_file("resnet-w")
    monkeypatch.setattr(registry, "manifest", dict)
    with pytest.raises(CheckpointError, match="No weights of resnet-w ship with this version"):
        shipped_file("resnet-w")

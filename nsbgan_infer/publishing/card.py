"""Model cards: a README.md with YAML front matter, written from what is known and from nothing else.

Configuration and header of the weights, the manifest's row for weights that ship, settings and log of a run folder, a
report of `nsbgan evaluate`. What is not known is said to be unknown.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from nsbgan_infer.classes import NUM_CLASSES, find_class
from nsbgan_infer.presets import PRESETS
from nsbgan_infer.pretrained import WEIGHTS
from nsbgan_infer.publishing.component_facts import component_facts
from nsbgan_infer.publishing.subject import Subject
from nsbgan_infer.publishing.training_record import read_run
from nsbgan_infer.registry import BUILT_IN
from nsbgan_infer.storage.components import read_header
from nsbgan_infer.storage.files import sha256_of
from nsbgan_infer.storage.shipped import manifest

PAPER = "[not-so-big-GAN](https://arxiv.org/abs/2009.04433)"
TAKES = {
    "wavelet": "a gain-free wavelet low band",
    "gaussian": "a small picture made by a Gaussian filter (the paper's pixel encoder)",
    "bicubic": "an ordinary small picture (bicubic reduction)",
    "bilinear": "an ordinary small picture (bilinear reduction)",
}
MEASURES = (  # name of a figure -> what it is; the first that matches
    (r"(\w+)_pairs_psnr_y", "Y-PSNR in dB on the usual x4 pairs of {0} (`nsbgan evaluate decoder --pairs`)"),
    (r"(\w+)_camera_psnr_y", "Y-PSNR in dB on worn {0} (`nsbgan evaluate decoder --degrade camera`)"),
    (r"(\w+)_camera_feature_distance", "distance of EfficientNet-Lite2's features to the originals' there"),
    (r"(\w+)_psnr_y", "Y-PSNR in dB, enlarged x4 from the low band, mean over {0} (`nsbgan evaluate decoder`)"),
    (r"psnr_y", "Y-PSNR in dB, enlarged x4 from the low band (`nsbgan evaluate decoder`)"),
    (r"baseline_psnr_y", "the same of plain interpolation"),
    (r"ssim", "structural similarity of luma"),
    (r"mse", "mean squared error of RGB in [0, 1]"),
    (r"fd_images", "number of pictures behind the Frechet distances"),
    (r"share_(\w+)_imagenet", "the same, pictures brought to ImageNet's mean and deviation for EfficientNet-{0}"),
    (r"share_(\w+)", "share of pictures that EfficientNet-{0} gives to the class asked for"),
    (r"real_share_(\w+)", "the same of real pictures, decoded in the same way"),
    (r"fd_(\w+)", "Frechet distance on EfficientNet-{0}'s features (this is not FID)"),
    (r"vector_error", "mean squared error of a drawn picture's vector, over its variance around its class's mean"),
    (r"picture_error", "L1 distance of the sample drawn from the guess to the true one, low bands in [0, 1]"),
    (r"n|samples", "number of pictures"),
    (r"truncation", "of the samples"),
    (r"resolution", "side of the samples in pixels"),
    (r"decoder", "that the samples were decoded by"),
    (r"reference", "the real pictures"),
)
HUB_LICENCES = ("apache-2.0", "mit", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
                "cc-by-nc-sa-4.0")  # fmt: skip
UNSTATED = ("", "none", "unknown")
TASKS = {"decoder": "image-to-image", "inverter": "image-feature-extraction"}


def make_card(
    subject: Subject,
    *,
    ref: str,
    sheet: tuple[str, str] | None = None,
    measured: Mapping[str, Any] | None = None,
) -> str:
    """The card of a subject as Markdown.

    `ref` is what its commands load (a name, a folder, `hf://owner/name`, for a pipeline `owner/name`), `sheet` the file
    name of a picture beside the card and what it shows, `measured` a report of `nsbgan evaluate ... --json`.
    """
    blocks = [
        front_matter(subject),
        f"# {plain(subject.name)}",
        _what(subject),
        _facts(subject),
        *([f"![{sheet[1]}]({sheet[0]})\n\n*{sheet[1]}*"] if sheet else []),
        "## How to use it",
        _usage(subject, ref),
        "## Data",
        _data(subject),
        "## Training",
        "\n\n".join(_training(subject)),
        "## Measured",
        _measured({**subject.facts.get("measured", {}), **(measured or {})}),
        "## Licence",
        _licence_text(subject),
    ]
    return "\n\n".join(blocks) + "\n"


def licence_of(subject: Subject) -> str:
    """The licence of the weights as their maker states it (of a pipeline: of all its parts), or ``."""
    stated = [str(subject.facts.get("licence") or component_facts(c)["licence"]) for c in subject.parts.values()]
    known = dict.fromkeys(plain(s) for s in stated if s not in UNSTATED)
    return "; ".join(known)


def front_matter(subject: Subject) -> str:
    """The YAML block that the Hub reads. Every text in it is a JSON string, which is YAML too."""
    licence = licence_of(subject)
    lines = [f"license: {licence.lower()}" if licence.lower() in HUB_LICENCES else "license: other"]
    if not licence:
        lines = ["license: unknown"]
    elif lines == ["license: other"]:
        slug = re.sub(r"[^a-z0-9.]+", "-", licence.split("(")[0].lower()).strip("-.")
        lines.append(f"license_name: {json.dumps(slug or 'other')}")
    task = TASKS.get(subject.kind, "unconditional-image-generation")
    lines += ["library_name: nsbgan_infer", f"pipeline_tag: {task}", "tags:"]
    return "\n".join(["---", *lines, *(f"- {json.dumps(t)}" for t in _tags(subject)), "---"])


def _tags(subject: Subject) -> list[str]:
    facts = [component_facts(c) for c in subject.parts.values()]
    tags = ["not-so-big-gan", "nsbgan", subject.kind, *(f["arch"] for f in facts), *(f["basis"] for f in facts)]
    tags.append({"decoder": "super-resolution", "inverter": "gan-inversion"}.get(subject.kind, "gan"))
    if subject.kind not in TASKS and _a_class(subject) is not None:
        tags.append("class-conditional")  # the Hub's task for these is still called unconditional
    return list(dict.fromkeys(map(str, tags)))


def _what(subject: Subject) -> str:
    if subject.kind == "pipeline":
        listed = [f"`{folder}` ({plain(component_facts(c)['name'])})" for folder, c in sorted(subject.parts.items())]
        parts = ", ".join(reversed(listed))
        return f"A pipeline of nsbgan_infer, after {PAPER}: {parts}; `model_index.json` says in which order."
    part = subject.parts[""]
    facts = component_facts(part)
    entry = BUILT_IN[subject.kind].get(subject.name) if subject.facts else None
    named = f": {entry.summary}" if entry else ""
    if subject.kind == "decoder":
        does = f"a decoder{named}. It enlarges {TAKES[str(facts['reads'])]} {facts['scale']} times."
    elif subject.kind == "inverter":
        does = f"an inverter{named}. It guesses what {plain(facts['sampler'])} drew a {facts['resolution']} x "
        does += f"{facts['resolution']} sample from."
    else:
        emits = "low bands" if facts["basis"] == "wavelet" else "pictures"
        kind = "ImageNet classes" if _named(subject) else "classes"
        count = f" of {facts['classes']} {kind}" if facts["classes"] else ""
        does = f"a sampler{named}. It draws {facts['resolution']} x {facts['resolution']} {emits}{count} from noise."
    return f"For nsbgan_infer, after {PAPER}: {does} {part.sentence}".rstrip()


def _facts(subject: Subject) -> str:
    rows = ["| part | kind | arch | reads or makes | parameters | size | licence |", "|---|---|---|---|---|---|---|"]
    sums = []
    for folder, component in subject.parts.items():
        f = component_facts(component)
        file = weights_file(subject, folder)
        licence = subject.facts.get("licence") or f["licence"]
        made = f.get("reads") or f["makes"]
        cells = (f["name"], f["kind"], f["arch"], made, f"{f['parameters']:,}", f"{file.stat().st_size:,} bytes")
        rows.append(f"| {' | '.join(plain(c) for c in (*cells, licence))} |")
        sums.append(f"SHA-256 of `{folder}{'/' * bool(folder)}{WEIGHTS}`: `{sha256_of(file)}`")
    return "\n".join(rows) + "\n\n" + "  \n".join(sums)


def weights_file(subject: Subject, folder: str) -> Path:
    """The file with the weights of one part."""
    file = subject.parts[folder].weights_file
    assert file is not None  # an outlined component has one
    return file


def _usage(subject: Subject, ref: str) -> str:
    class_id = _a_class(subject)
    chosen = "" if class_id is None else f" --class {class_id}"
    called = "" if class_id is None else json.dumps(find_class(class_id).name) if _named(subject) else str(class_id)
    typed = shlex.quote(ref)
    if subject.kind == "inverter":
        return _usage_of_inverter(subject, ref)
    if subject.kind == "pipeline":
        options, arguments = f"--pipeline {typed}", json.dumps(ref)
    else:
        preset = _preset_for(subject)
        options = f"--preset {preset} --{subject.kind} {typed}"
        arguments = f'"{preset}", {subject.kind}={json.dumps(ref)}'
    commands = [f"nsbgan generate{chosen} {options}"]
    if subject.kind == "decoder":
        commands.append(f"nsbgan upscale photo.jpg --decoder {typed} --out large.png")
    python = [
        "from nsbgan_infer import NsbPipeline",
        "",
        f"pipeline = NsbPipeline.from_pretrained({arguments})",
        f'pipeline({called}).images[0].save("picture.png")',
    ]
    return "\n".join(["```", *commands, "```", "", "```python", *python, "```"])


def _usage_of_inverter(subject: Subject, ref: str) -> str:
    sampler = str(component_facts(subject.parts[""])["sampler"])
    preset = next((p.name for p in PRESETS.values() if p.sampler == sampler), "embedded")
    commands = [
        f"nsbgan invert photo.jpg --preset {preset} --inverter {shlex.quote(ref)} --out latents.safetensors",
        "nsbgan generate --latents latents.safetensors",
    ]
    python = [
        "from nsbgan_infer import NsbPipeline, invert",
        "",
        f'pipeline = NsbPipeline.from_pretrained("{preset}")',
        f'found = invert("photo.jpg", pipeline, inverter={json.dumps(ref)})',
        'pipeline(latents=found.latents).images[0].save("picture.png")',
    ]
    return "\n".join(["```", *commands, "```", "", "```python", *python, "```"])


def _a_class(subject: Subject) -> int | None:
    """A class that can be asked for: golden retriever if it is there; None for an unconditional sampler."""
    drawn: Sequence[int] | None = range(NUM_CLASSES)
    for component in subject.parts.values():
        if component.kind == "sampler":
            info: Any = component.info
            drawn = info.classes
    return None if drawn is None else 207 if 207 in drawn else drawn[0]


def _named(subject: Subject) -> bool:
    """Whether the classes of its sampler are ImageNet's."""
    infos: list[Any] = [c.info for c in subject.parts.values() if c.kind == "sampler"]
    return all(info.labels == "imagenet" for info in infos)


def _preset_for(subject: Subject) -> str:
    """A preset into which a sampler or decoder fits."""
    facts = component_facts(subject.parts[""])
    if subject.kind == "decoder":
        if facts["reads"] in ("wavelet", "bicubic"):
            return "embedded" if facts["reads"] == "wavelet" else "pretrained-128"
        return "embedded-p" if "embedded-p-64" in manifest().get("components", {}) else "pretrained-128"
    if facts["arch"] == "stylegan2":
        return "stylegan2-256-64"
    sized = {128: "pretrained-128-64", 256: "pretrained-256-128", 512: "biggan-512"}
    return sized.get(facts["resolution"], "embedded") if facts["basis"] == "pixel" else "embedded"


def _headers(subject: Subject, key: str) -> list[str]:
    """What the manifest's row, or the headers of the weights, say under `key`."""
    if subject.facts.get(key):
        return [plain(subject.facts[key])]
    found = [read_header(weights_file(subject, f)).get("__metadata__") or {} for f in subject.parts]
    return list(dict.fromkeys(plain(h[key]) for h in found if h.get(key)))


def _data(subject: Subject) -> str:
    stated = _headers(subject, "trained_on")
    if stated:
        return f"Trained on {'; '.join(stated)}."
    run = read_run(subject.source)
    names = ", ".join(f"`{plain(n)}`" for n in run.data) if run else ""
    return f"Trained on {names}." if names else "Not stated by its maker."


def _training(subject: Subject) -> Iterator[str]:
    run, recipe = read_run(subject.source), _headers(subject, "recipe")
    if recipe:
        yield f"Recipe: {'; '.join(recipe)}."
    if logged := _headers(subject, "log"):
        yield f"Log: {'; '.join(logged)}."
    if run:
        yield f"Started by\n\n```\n{plain(run.command)}\n```"
        settings = run.settings.replace("```", "")
        yield f"where settings.toml is\n\n```toml\n{settings}\n```"
    if run and run.log:
        yield _log_text(run.log)
    if not recipe and not run:
        yield "Not stated by its maker."


def _log_text(log: Mapping[str, Any]) -> str:
    first, last = log["first"], log["last"]
    rows = [f"| logged | step {first['step']:.0f} | step {last['step']:.0f} |", "|---|---|---|"]
    rows += [f"| {plain(k)} | {first[k]:.5g} | {last[k]:.5g} |" for k in last if k in first and k != "step"]
    return f"{log['steps']:,} steps in {log['hours']:g} hours.\n\n" + "\n".join(rows)


def _measured(figures: Mapping[str, Any]) -> str:
    rows = [f"| `{plain(k)}` | {plain(v)} | {_meaning(str(k))} |" for k, v in figures.items() if v is not None]
    if not rows:
        return "Not measured yet: `nsbgan evaluate decoder --decoder REF --images SRC` measures decoders."
    return "\n".join(["| figure | value | what |", "|---|---|---|", *rows])


def _meaning(name: str) -> str:
    for pattern, text in MEASURES:
        if found := re.fullmatch(pattern, name):
            return text.format(*(str(g or "").replace("_", " ") for g in found.groups()))
    return ""


def _licence_text(subject: Subject) -> str:
    stated = licence_of(subject)
    return f"Of the weights: {stated}." if stated else "The maker of the weights has not stated one: ask before use."


def plain(value: object) -> str:
    """A text of others as one line of Markdown: nothing in it can open a tag, a table cell or a code block."""
    text = " ".join(str(value).split())[:600]
    return "".join(c if c.isprintable() else "?" for c in text).translate(str.maketrans("|<`", "/(´"))

"""From the options of a command to a loaded pipeline, saying what was chosen and where the weights lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nsbgan_infer.cli.options import Choice, Images, Machine
from nsbgan_infer.cli.output import Console
from nsbgan_infer.errors import UsageError
from nsbgan_infer.presets import PRESETS, default_preset, find_preset

if TYPE_CHECKING:
    from nsbgan_infer.pipeline import NsbPipeline


def go_offline() -> None:
    """Refuse the network for the rest of this process."""
    from nsbgan_infer.storage.hub import set_offline

    set_offline()


def check_choice(choice: Choice, images: Images) -> None:
    """What can be told from the options alone, before anything is imported or fetched. Raises UsageError."""
    from nsbgan_infer.classes import parse_classes

    if choice.preset and choice.pipeline:
        raise UsageError("Give --preset or --pipeline, not both.")
    if choice.sampler and not (choice.preset or choice.pipeline):
        raise UsageError(
            "--sampler replaces the sampler of a pipeline: name that too, for example --preset embedded for a "
            "64 x 64 sampler."
        )
    if choice.preset:
        find_preset(choice.preset)
    parse_classes(images.classes)
    by_class = PRESETS.get(choice.preset or "embedded", PRESETS["embedded"]).by_class
    if by_class and not images.classes and not (choice.sampler or choice.pipeline):
        raise UsageError("Which class? Give --class with an id, a name or a range, for example --class 207.")
    if images.truncation is not None and not 0 < images.truncation <= 1:
        raise UsageError(f"Truncation {images.truncation:g} is out of range: use a number above 0 and up to 1.")


def choose(choice: Choice, console: Console, *, fetch: bool) -> tuple[str, str]:
    """The pipeline's name or reference, and why it (empty where the user named it). Notes a choice of ours."""
    if choice.offline:
        go_offline()
    named = choice.preset or choice.pipeline
    if named:
        return named, ""
    name, reason = default_preset(fetch=fetch)
    console.note(f"Using the preset {name}: {reason}.")
    return name, reason


def load(ref: str, choice: Choice, machine: Machine, console: Console) -> NsbPipeline:
    """The pipeline on its device, after a note that says which file each part came from."""
    from nsbgan_infer.devices import pick_device, pick_dtype
    from nsbgan_infer.pipeline import NsbPipeline
    from nsbgan_infer.storage.architectures import Component

    device = pick_device(machine.device)
    dtype = pick_dtype(machine.dtype, device)
    pipeline = NsbPipeline.from_pretrained(ref, sampler=choice.sampler, decoder=choice.decoder)
    parts = {pipeline.sampler.info.name: pipeline.sampler, **{s.decoder.info.name: s.decoder for s in pipeline.stages}}
    files = {name: getattr(part, "weights_file", None) for name, part in parts.items()}
    for name, file in files.items():
        if file:
            console.note(f"Weights of {name}: {file}")
    for caveat in {p.caveat(): None for p in parts.values() if isinstance(p, Component)}:
        if caveat:
            console.warn(caveat)
    return pipeline.to(device, dtype)

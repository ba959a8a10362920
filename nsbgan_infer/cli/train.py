"""`nsbgan train`: decoders, UNets and samplers, each from a preset with settings laid over it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from nsbgan_infer.cli.complete import decoder_names, sampler_names
from nsbgan_infer.cli.groups import Group
from nsbgan_infer.cli.options import EXISTING, FOLDER, Decorator, bundled, console_options
from nsbgan_infer.cli.output import Console
from nsbgan_infer.errors import UsageError, unknown_name

PRESETS = ("paper", "authors", "small", "tiny")
LOSSES = ("hinge", "rpgan", "ragan-sgan", "ragan-hinge", "ragan-ls", "lsgan", "wgan-gp")


class Trainable(click.ParamType[str]):
    """The name of a decoder that can be trained. The architectures offer the names, and are asked only when one is
    given, since that imports them."""

    name = "trainable"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The name itself. Raises UnknownNameError with the near one."""
        from nsbgan_infer.storage.architectures import trained_networks

        names = trained_networks()
        if value not in names:
            raise unknown_name("decoder to train", str(value), names)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """What begins so."""
        from nsbgan_infer.storage.architectures import trained_networks

        return [CompletionItem(n) for n in trained_networks() if n.startswith(incomplete)]


@dataclass(frozen=True)
class Run:
    """What every trainer receives: preset, run folder, settings over the preset, and whether to resume."""

    preset: str
    out: Path
    steps: int | None
    seed: int | None
    device: str | None
    precision: str | None
    config: Path | None
    given: tuple[str, ...]
    licence: str | None
    resume: bool

    def overrides(self, console: Console, *path: str, **own: Any) -> dict[str, Any]:
        """The TOML file's settings, over them those of --set, over these the other options of the command line.

        `path` is the table that holds `loop` and `licence` in the trainer's settings; `own` belongs there too.
        """
        from nsbgan_infer.training.overrides import parse_overrides, read_overrides

        loop = {"steps": self.steps, "seed": self.seed, "device": self.device, "precision": self.precision}
        given: dict[str, Any] = {k: v for k, v in {"licence": self.licence, **own}.items() if v is not None}
        given["loop"] = {k: v for k, v in loop.items() if v is not None} | ({"quiet": True} if console.quiet else {})
        for key in reversed(path):
            given = {key: given}
        file = read_overrides(self.config) if self.config else {}
        return merged(merged(file, parse_overrides(self.given)), given)

    def check(self) -> None:
        """Raise UsageError if the folder holds a run and --resume is missing."""
        if not self.resume and (self.out / "checkpoint.pt").exists():
            raise UsageError(f"{self.out} holds a run: add --resume to resume it, or choose another folder.")


def check_decoder_name(name: str | None) -> dict[str, str]:
    """What --name adds to the settings. Raises UsageError for the name of a decoder that is built in."""
    from nsbgan_infer.registry import BUILT_IN

    if name in BUILT_IN["decoder"]:
        raise UsageError(f"{name} is the name of a built-in decoder: give yours another --name.")
    return {"name": name} if name else {}


def run_options(presets: Sequence[str] = PRESETS) -> Decorator:
    """The options of a run, with the presets that its trainer has."""
    preset = click.option("--preset", type=click.Choice(presets), default="small", help="Where settings start from.")
    return bundled("run", Run, [preset, *OPTIONS], {name: name for name in ("preset", *NAMES)})


OPTIONS: list[Decorator] = [
    click.option("-o", "--out", type=FOLDER, required=True, help="The run folder; it can be used as a component."),
    click.option("--steps", type=click.IntRange(min=1), help="Length of the run. Default: the preset's."),
    click.option("--seed", type=click.IntRange(min=0), help="Default: 0."),
    click.option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps. Default: auto."),
    click.option("--precision", type=click.Choice(["fp32", "bf16"]), help="Default: the preset's."),
    click.option("--config", type=EXISTING, metavar="TOML", help="A file with settings to lay over the preset."),
    click.option("--set", "given", multiple=True, metavar="NAME=VALUE", help="One such setting. Repeat for more."),
    click.option("--licence", metavar="TEXT", help="The licence of the weights, kept with them."),
    click.option("--resume", is_flag=True, help="Resume the run in --out, if there is one."),
]
NAMES = ("out", "steps", "seed", "device", "precision", "config", "given", "licence", "resume")
data_option = click.option(
    "--data", multiple=True, required=True, metavar="SRC", help="A folder, ZIP or tar of pictures. Repeat for more."
)


def _note_data(data: Sequence[str], console: Console) -> None:
    """Say what of the pictures will be read, and what is left out (of several processes only the first tells)."""
    from nsbgan_infer.datasets import open_source
    from nsbgan_infer.datasets.description import read_text

    source = open_source(list(data))
    if os.environ.get("RANK", "0") == "0":
        console.note(read_text(len(source), source.classes, source.left_out))


@click.group("train", cls=Group)
def command() -> None:
    """Train a decoder, a sampler or an inverter (extra `train`).

    On several GPUs start it by `accelerate launch -m nsbgan_infer`.

    A run can be stopped at any moment and resumed with --resume. Its folder holds the weights as a component (use
    it with --decoder or --sampler), settings.json, log.jsonl, TensorBoard files and sheets of pictures.
    """


@command.command("decoder")
@click.option("--arch", type=Trainable(), metavar="NAME", default="subband-w", help="What to train, see above.")
@data_option
@click.option(
    "--start",
    metavar="NAME|PATH",
    shell_complete=decoder_names,
    help="The decoder to begin with, by name or folder; needed by the adversarial ones.",
)
@click.option("--vgg", type=EXISTING, help="VGG-19's weights, for the paper's perceptual distance.")
@click.option("--name", metavar="NAME", help="Of the decoder. Default: the run folder's.")
@run_options()
@console_options
def decoder_command(
    arch: str, data: tuple[str, ...], start: str | None, vgg: Path | None, name: str | None, run: Run, console: Console
) -> None:
    """Train a decoder.

    NAME is one of resnet-w, resnet-p, subband-w, subband-w-fast, subband-w-tiny, photo, photo-fast and rrdb (ESRGAN's
    generator), which learn from the L1 distance; photo and photo-fast can begin with the body of subband-w or
    subband-w-fast (--start).

    Or it is a decoder of the adversarial stage, which begins with --start: esrgan-w (with a trained resnet-w), esrgan-p
    (resnet-p), subband-w-sharp, photo-sharp and rrdb-sharp. photo-sharp also learns to undo blur, noise and JPEG.
    """
    run.check()
    named = check_decoder_name(name)
    from nsbgan_infer.registry import component_path
    from nsbgan_infer.storage.architectures import second_stages
    from nsbgan_infer.training.decoders.adversarial import train_adversarial
    from nsbgan_infer.training.decoders.l1 import train_decoder
    from nsbgan_infer.training.decoders.presets import adversarial_settings, decoder_settings

    begin = component_path(start, "decoder") if start is not None else None
    if first_stage := second_stages().get(arch):
        if begin is None:
            raise UsageError(f"{arch} begins with a trained {first_stage}: give its folder, or its name, with --start.")
        settings = adversarial_settings(
            run.preset,
            arch=first_stage,
            start=begin,
            data=data,
            out=run.out,
            perceptual_file=str(vgg or ""),
            overrides=run.overrides(console, "decoder", **named),
        )
        _note_data(data, console)
        _report(run, console, lambda: train_adversarial(settings))
        return
    if vgg:
        raise UsageError(f"--vgg is for the adversarial decoders, {arch} learns from the L1 distance.")
    first = decoder_settings(
        run.preset,
        arch=arch,
        data=data,
        out=run.out,
        overrides=run.overrides(console, start=str(begin) if begin else None, **named),
    )
    _note_data(data, console)
    _report(run, console, lambda: train_decoder(first))


@command.command("unet")
@click.option("--arch", type=click.Choice(["unet-w", "unet-p"]), default="unet-w", help="What to train.")
@click.option("--level", type=click.IntRange(1, 2), required=True, help="1: the first doubling, 2: the second.")
@click.option("--level1", type=EXISTING, help="For level 2: the trained level 1; the saved decoder holds both.")
@click.option("--name", metavar="NAME", help="Of the decoder. Default: the run folder's.")
@data_option
@run_options()
@console_options
def unet_command(
    arch: str,
    level: int,
    level1: Path | None,
    name: str | None,
    data: tuple[str, ...],
    run: Run,
    console: Console,
) -> None:
    """Train one of the two networks of a UNet decoder; the two can be trained at the same time."""
    run.check()
    named = check_decoder_name(name)
    from nsbgan_infer.training.decoders.unet import train_unet
    from nsbgan_infer.training.decoders.unet_presets import unet_settings

    settings = unet_settings(
        run.preset,
        arch=arch,
        level=level,
        data=data,
        out=run.out,
        level1=str(level1 or ""),
        overrides=run.overrides(console, **named),
    )
    _note_data(data, console)
    _report(run, console, lambda: train_unet(settings))


@command.command("sampler")
@click.option(
    "--form",
    type=click.Choice(["lean", "biggan", "biggan-deep", "r3gan", "progan"]),
    default="lean",
    help="lean: small data, small compute (the one that ships); biggan and biggan-deep: the paper's; "
    "r3gan and progan: see below.",
)
@click.option("--data", type=EXISTING, required=True, metavar="SET", help="A folder of `nsbgan data encode`.")
@click.option("--name", metavar="NAME", help="Of the sampler. Default: the run folder's.")
@click.option("--start", metavar="NAME|PATH", help="The lean sampler to begin with, by name or folder.")
@click.option(
    "--loss", type=click.Choice(LOSSES), help="Of all forms but lean; gradient penalties are the settings r1 and r2."
)
@run_options((*PRESETS, "baseline", "paper64"))
@console_options
def sampler_command(
    form: str, data: Path, name: str | None, start: str | None, loss: str | None, run: Run, console: Console
) -> None:
    """Train a sampler on low bands (basis wavelet) or small pictures (basis pixel), as the set was encoded.

    The lean form has the presets small and tiny; baseline is the paper's BigGAN-deep at 256 x 256. r3gan is a
    relativistic GAN with two gradient penalties and no normalisation (presets paper64, small and tiny). progan grows
    from 4 x 4, stage by stage (presets paper, small and tiny).
    """
    run.check()
    from nsbgan_infer.registry import component_path
    from nsbgan_infer.training.samplers.presets import sampler_settings
    from nsbgan_infer.training.samplers.trainers import train_any_sampler

    settings = sampler_settings(
        run.preset,
        form=form,
        data=str(data),
        out=run.out,
        name=name or "",
        start=str(component_path(start, "sampler")) if start else "",
        loss=loss or "",
        overrides=run.overrides(console),
    )
    _report(run, console, lambda: train_any_sampler(settings))


@command.command("inverter")
@click.option("--sampler", metavar="NAME|PATH", shell_complete=sampler_names, help="The frozen sampler.")
@click.option("--joint", is_flag=True, help="Train a sampler and its inverter together instead, on --data (BigBiGAN).")
@click.option("--data", type=EXISTING, metavar="SET", help="For --joint: a folder of `nsbgan data encode`.")
@click.option("--name", metavar="NAME", help="Of the inverter. Default: the run folder's.")
@run_options(("small", "tiny"))
@console_options
def inverter_command(
    sampler: str | None, joint: bool, data: Path | None, name: str | None, run: Run, console: Console
) -> None:
    """Train an inverter: from a sample back to what its sampler drew it from.

    The sampler stays as it is, and no pictures are needed: it draws them. With --joint both learn from the pictures of
    --data; the sampler is then in the folder `sampler` of the run's.
    """
    if joint != (data is not None) or joint == (sampler is not None):
        raise UsageError("Give --sampler NAME, or --joint with --data SET for a new sampler and its inverter.")
    run.check()
    overrides = run.overrides(console, **({"name": name} if name else {}))
    if joint:
        from nsbgan_infer.training.inverters.joint import joint_settings, train_joint

        both = joint_settings(run.preset, data=str(data), out=run.out, overrides=overrides)
        _report(run, console, lambda: train_joint(both))
        return
    from nsbgan_infer.training.inverters.regression import inverter_settings, train_inverter

    settings = inverter_settings(run.preset, sampler=str(sampler), out=run.out, overrides=overrides)
    _report(run, console, lambda: train_inverter(settings))


def _report(run: Run, console: Console, work: Callable[[], Any]) -> None:
    """Train, and tell where the result lies (of several processes only the first tells)."""
    from nsbgan_infer.training.run_folder import CHECKPOINT

    try:
        with console.resumable(run.out / CHECKPOINT):
            component = work()
    except KeyboardInterrupt:
        if not (run.out / CHECKPOINT).exists():
            console.note("Stopped before the first step: there is nothing to resume.")
        raise
    if os.environ.get("RANK", "0") != "0":
        return
    value = {"out": str(run.out), "kind": component.kind, "arch": component.arch, "name": component.info.name}
    if caveat := component.caveat():
        console.warn(caveat)
    use = f"--{component.kind} {run.out}"
    console.result(value, f"{run.out}  use it with {use}")


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables, `over` on top of `under`."""
    both = dict(under)
    for key, value in over.items():
        present = both.get(key)
        nested = isinstance(present, Mapping) and isinstance(value, Mapping)
        both[key] = merged(present, value) if nested else value  # type: ignore[arg-type]
    return both

"""Options that several commands share, as decorators that hand over one small dataclass each."""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from nsbgan_infer.cli.complete import class_names, decoder_names, preset_names, sampler_names
from nsbgan_infer.cli.output import Console
from nsbgan_infer.errors import UsageError

if TYPE_CHECKING:
    from nsbgan_infer.images import Format
    from nsbgan_infer.latents import TruncationMode
    from nsbgan_infer.pipeline import Drawing

Command: TypeAlias = Callable[..., Any]
Decorator: TypeAlias = Callable[[Command], Command]

FOLDER = click.Path(file_okay=False, path_type=Path)
FILE_OR_FOLDER = click.Path(path_type=Path)
EXISTING = click.Path(exists=True, path_type=Path)


@dataclass(frozen=True)
class Choice:
    """Which pipeline: at most one of `preset` and `pipeline`, and parts that replace its own."""

    preset: str | None
    pipeline: str | None
    sampler: str | None
    decoder: str | None
    offline: bool


@dataclass(frozen=True)
class Images:
    """Which images: classes as they were typed, seeds, truncation and size."""

    classes: tuple[str, ...]
    per_class: int
    seed: int
    truncation: float | None
    truncation_mode: TruncationMode | None
    resolution: int | None

    def drawing(self) -> Drawing:
        """The part of the options that decides, beside class and seed, what is drawn."""
        from nsbgan_infer.pipeline import Drawing

        return Drawing(self.truncation, self.truncation_mode, self.resolution)


@dataclass(frozen=True)
class Machine:
    """Where and how the work runs."""

    device: str
    dtype: str
    batch_size: int
    engine: str = "auto"


@dataclass(frozen=True)
class Files:
    """What is written, and where."""

    out: Path
    fmt: Format
    grid: bool
    recipe: bool
    save_steps: bool


def bundled(name: str, kind: type[Any], options: list[Decorator], fields: dict[str, str]) -> Decorator:
    """A decorator that adds `options` and hands them to the command as one `kind`, under `name`."""

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def wrapper(*args: Any, **values: Any) -> Any:
            values[name] = kind(**{field: values.pop(option) for field, option in fields.items()})
            return command(*args, **values)

        decorated: Command = wrapper
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


class WithClasses(click.Command):
    """A command that takes classes by --class, and says so to whoever writes them bare."""

    allow_extra_args = True

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does; words without an option end in the command to type."""
        left = super().parse_args(ctx, args)
        if ctx.args and not ctx.resilient_parsing:
            each = ctx.args if all(word[:1].isdigit() for word in ctx.args) else [" ".join(ctx.args)]
            right = " ".join(f"--class {shlex.quote(word)}" for word in each)
            raise UsageError(f"'{' '.join(ctx.args)}' stands without an option: a class is given by {right}.")
        return left


console_options = bundled(
    "console",
    Console,
    [
        click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output, nothing else."),
        click.option("-q", "--quiet", is_flag=True, help="No notes and no progress bars."),
    ],
    {"json": "as_json", "quiet": "quiet"},
)

choice_options = bundled(
    "choice",
    Choice,
    [
        click.option(
            "--preset",
            metavar="NAME",
            shell_complete=preset_names,
            help="A named pipeline (see `nsbgan models`). Without it: pretrained-256-128 where BigGAN's weights are "
            "cached or can be fetched, else embedded.",
        ),
        click.option("--pipeline", metavar="REF", help="A pipeline's folder or Hub id (owner/name) instead."),
        click.option(
            "--sampler",
            metavar="REF",
            shell_complete=sampler_names,
            help="Replace the sampler: a name, folder, .safetensors file or hf://owner/repo.",
        ),
        click.option(
            "--decoder",
            metavar="REF",
            shell_complete=decoder_names,
            help="Replace the decoder of every stage: as --sampler, or spandrel:FILE. Encoders follow its basis.",
        ),
        click.option("--offline", is_flag=True, help="Never use the network."),
    ],
    {"preset": "preset", "pipeline": "pipeline", "sampler": "sampler", "decoder": "decoder", "offline": "offline"},
)

image_options = bundled(
    "images",
    Images,
    [
        click.option(
            "-c",
            "--class",
            "classes",
            multiple=True,
            metavar="CLASS",
            shell_complete=class_names,
            help="An id (207), a WordNet id, a name ('golden retriever'), a range (200-210) or all. Repeat for more.",
        ),
        click.option("-n", "--per-class", type=click.IntRange(min=1), default=1, help="Images of each class."),
        click.option(
            "--seed", type=click.IntRange(0, 2**32 - 1), default=0, help="Image j of each class has seed SEED + j."
        ),
        click.option(
            "--truncation",
            type=float,
            metavar="T",
            help="Above 0 and up to 1: less is cleaner, more is varied. Default: what the sampler's weights expect.",
        ),
        click.option(
            "--truncation-mode",
            type=click.Choice(["scale", "resample", "std"]),
            help="How z is truncated. Default: as the sampler's weights expect.",
        ),
        click.option(
            "--res", type=click.IntRange(min=1), metavar="SIDE", help="Stop after the stage that makes this size."
        ),
    ],
    {
        "classes": "classes",
        "per_class": "per_class",
        "seed": "seed",
        "truncation": "truncation",
        "truncation_mode": "truncation_mode",
        "resolution": "res",
    },
)

machine_options = bundled(
    "machine",
    Machine,
    [
        click.option("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:N or mps."),
        click.option("--dtype", type=click.Choice(["auto", "fp32", "bf16"]), default="auto", help="auto is fp32."),
        click.option("--batch-size", type=click.IntRange(min=1), default=1, help="Images made together."),
        click.option(
            "--engine",
            type=click.Choice(["auto", "eager", "compile", "openvino"]),
            default="auto",
            help="What runs the networks. auto: on a CPU with OpenVINO what is through first, compiling included "
            "(compiled networks are kept for the next run); torch.compile in bf16 on CUDA for many images; else plain "
            "torch.",
        ),
    ],
    {"device": "device", "dtype": "dtype", "batch_size": "batch_size", "engine": "engine"},
)

file_options = bundled(
    "files",
    Files,
    [
        click.option(
            "-o",
            "--out",
            type=FOLDER,
            default=Path("out"),
            help="Folder for the pictures; a file of the same name is replaced.",
        ),
        click.option("--format", "fmt", type=click.Choice(["png", "webp", "jpeg"]), default="png", help="File format."),
        click.option("--grid", is_flag=True, help="Also write grid.png (or .webp, .jpg), a row for each class."),
        click.option(
            "--recipe/--no-recipe", default=True, help="Store in each picture everything needed to make it again."
        ),
        click.option("--save-steps", is_flag=True, help="Also write every intermediate: sample, low bands, decoded."),
    ],
    {"out": "out", "fmt": "fmt", "grid": "grid", "recipe": "recipe", "save_steps": "save_steps"},
)

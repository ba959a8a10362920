"""The command `nsbgan`: a table of sub-commands, each imported when it is used, and errors turned into exit codes.

0: done. 2: something was wrong before work started. 1: something failed during it. 130: stopped by Ctrl-C, 143: by
SIGTERM. Errors are one sentence on standard error; `NSBGAN_DEBUG=1` adds the traceback.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import click

from nsbgan_infer.cli.groups import Group
from nsbgan_infer.errors import NsbError, unknown_name

# sub-command -> module of nsbgan_infer.cli that holds it as `command`; such a module imports nothing heavy at its top
COMMANDS = {
    "generate": "generate",
    "upscale": "upscale",
    "regenerate": "regenerate",
    "invert": "invert",
    "classes": "classes",
    "models": "models",
    "plan": "plan",
    "inspect": "inspect",
    "convert": "convert",
    "interpolate": "interpolate",
    "train": "train",
    "data": "data",
    "plugins": "plugins",
    "demo": "demo",
    "serve": "serve",
    "evaluate": "evaluate",
    "reproduce": "reproduce",
    "bench": "bench",
    "export": "export",
    "card": "card",
    "push": "push",
    "doctor": "doctor",
    "completion": "completion",
}

SECTIONS = {  # of the help; a command that is in none comes last
    "Make pictures": ("generate", "upscale", "regenerate", "invert"),
    "Serve": ("demo", "serve"),
    "Find out": ("classes", "models", "plan", "inspect", "doctor"),
    "Train": ("data", "train", "interpolate"),
    "Measure": ("evaluate", "reproduce", "bench"),
    "Exchange": ("convert", "export", "card", "push", "plugins"),
}


class Terminated(KeyboardInterrupt):
    """SIGTERM came: what Ctrl-C cleans up and leaves to be resumed, this does too."""


class LazyGroup(Group):
    """A group whose commands are imported on use and whose errors are one sentence and an exit code."""

    sections = SECTIONS
    rest = "More"

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = import_module(f"nsbgan_infer.cli.{COMMANDS[cmd_name]}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        unknown = args and args[0] not in COMMANDS and not args[0].startswith("-")
        if unknown and not ctx.resilient_parsing:  # a shell that completes wants no errors
            raise unknown_name("command", args[0], COMMANDS, hint="See `nsbgan -h`.")
        return super().resolve_command(ctx, args)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        def work() -> Any:
            return super(LazyGroup, self).main(
                args=args,
                prog_name=prog_name,
                complete_var=complete_var,
                standalone_mode=False,
                windows_expand_args=windows_expand_args,
                **extra,
            )

        if not standalone_mode:
            return work()
        sys.exit(exit_code(work))


def exit_code(work: Callable[[], Any]) -> int:
    """Run `work`; say what went wrong on standard error in one sentence and return the exit code."""
    _replace_closed_streams()
    try:
        result = work()
        sys.stdout.flush()  # a full disk is told of here, not while Python ends
    except (click.Abort, KeyboardInterrupt) as error:  # click makes the one of the other
        return 143 if isinstance(error, Terminated) or isinstance(error.__cause__, Terminated) else 130
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)  # a group without a sub-command: its help is the answer
        return error.exit_code
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "nsbgan"
        return _failed(error, f"{error.format_message()} See `{command} -h`.", error.exit_code)
    except click.ClickException as error:
        return _failed(error, error.format_message(), error.exit_code)
    except NsbError as error:
        return _failed(error, str(error), error.exit_code)
    except OSError as error:
        return _failed(error, _refused_by_the_system(error), 1)
    except Exception as error:
        return _failed(error, _unexpected(error), 1)
    return result if isinstance(result, int) else 0  # click returns the code of ctx.exit()


def _failed(error: Exception, sentence: str, code: int) -> int:
    if os.environ.get("NSBGAN_DEBUG") == "1":
        traceback.print_exception(error)
    click.echo(f"nsbgan: error: {' '.join(sentence.split())}", err=True)
    return code


def _replace_closed_streams() -> None:
    """Streams that were closed before the program began (`>&-`) go nowhere; Python has None in their place."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123 - until the process ends


def _take_standard_numbers() -> None:
    """Let no file have the number of a closed stream: what a library in C complains of would be written into it."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        os.set_inheritable(number, True)
    os.close(number)


def _refused_by_the_system(error: OSError) -> str:
    """A disk that is full, a folder that cannot be written, no place for temporary files: what to look at."""
    if isinstance(error, BrokenPipeError):
        _silence_stdout()
        return "Whoever read the output has stopped: the rest was not written."
    what = error.strerror or str(error)
    if error.errno == errno.ENOSPC:
        _silence_stdout()
        where = error.filename or "the disk, or where the output goes, is full"
        return f"{what} ({where}): make room and run the command again."
    if "temporary directory" in str(error):
        return f"{error}: set TMPDIR to a folder that can be written."
    where = f" ({error.filename})" if error.filename else ""
    return f"The system refused: {what}{where}. Check that file or folder, and run the command again."


def _silence_stdout() -> None:
    """Let Python end without writing what is still waiting to be written."""
    sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 - until the process ends


def _unexpected(error: Exception) -> str:
    if "torch" in sys.modules:
        from nsbgan_infer.decoders.tiling import is_out_of_memory

        if is_out_of_memory(error):
            return "Memory ran out: use a smaller --batch-size, a smaller --res or another device."
    return f"Unexpected {type(error).__name__}: {error} (NSBGAN_DEBUG=1 shows where; please report it)."


def _print_version(ctx: click.Context, _option: click.Parameter, value: bool) -> None:
    if not value or ctx.resilient_parsing:
        return
    from nsbgan_infer.cli.output import versions

    click.echo("\n".join(f"{name} {version}" for name, version in versions().items()))
    ctx.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "show_default": True, "max_content_width": 100},
    epilog="Environment: NSBGAN_CACHE (where fetched weights are kept), NSBGAN_OFFLINE=1 (never use the network), "
    "NSBGAN_FID_INCEPTION (the file of FID's Inception weights), NSBGAN_NO_PLUGINS=1 (ignore plug-ins), "
    "NSBGAN_DEBUG=1 (tracebacks).",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the versions of the parts and exit.",
)
def cli() -> None:
    """Class-conditional 512 x 512 pictures on small compute.

    A class id becomes a latent, a sampler turns it into a small picture, an encoder may shrink it to a low band, a
    decoder turns the low band into the big picture.
    """


def _terminate(_number: int, _frame: object) -> None:
    raise Terminated


def run() -> None:
    """The console script."""
    from nsbgan_infer.cli.heap import keep_heap

    _take_standard_numbers()
    keep_heap()
    signal.signal(signal.SIGTERM, _terminate)
    cli.main(prog_name="nsbgan")

"""`nsbgan completion`: the script that teaches a shell to complete commands, options and names (click's own)."""

from __future__ import annotations

import click

from nsbgan_infer.errors import WorkError

VARIABLE = "_NSBGAN_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print a script that completes commands, options, classes, presets and decoders after Tab.

    bash: `nsbgan completion bash > ~/.nsbgan.bash`, and `. ~/.nsbgan.bash` in ~/.bashrc

    zsh: `nsbgan completion zsh > ~/.nsbgan.zsh`, and `. ~/.nsbgan.zsh` in ~/.zshrc, after compinit

    fish: `nsbgan completion fish > ~/.config/fish/completions/nsbgan.fish`
    """
    from click.shell_completion import get_completion_class

    from nsbgan_infer.cli.main import cli

    kind = get_completion_class(shell)
    if kind is None:
        raise WorkError(f"This version of click has no completion for {shell}: update it.")
    try:
        click.echo(kind(cli, {}, "nsbgan", VARIABLE).source())
    except RuntimeError as error:  # click looks for bash itself, to warn of old ones
        raise WorkError(f"The script for {shell} cannot be made: {error}.") from error

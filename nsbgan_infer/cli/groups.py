"""How a group of commands lists them: in sections, each command with the whole first sentence of its help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import click

WHOLE = 300  # characters: no first sentence is cut


class Group(click.Group):
    """A group that lists its commands under `sections`; those that stand in none come last, under `rest`."""

    sections: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    rest: ClassVar[str] = "Commands"

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the lists; called by click."""
        names = self.list_commands(ctx)
        width = max(map(len, names))
        listed = {name for section in self.sections.values() for name in section}
        for title, section in {**self.sections, self.rest: [n for n in names if n not in listed]}.items():
            commands = {name: self.get_command(ctx, name) for name in section}
            rows = [(n.ljust(width), c.get_short_help_str(WHOLE)) for n, c in commands.items() if c and not c.hidden]
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)

"""Layout of the help texts: commands grouped by panel, examples at the end, plain text."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

# Panels, in the order in which `shipyard --help` prints them. A command names its panel as `rich_help_panel`.
RESULTS, DATA, OWN, STORES = "Results", "Data sets", "Your own images", "Features"
HELP = "When something is wrong"


class PanelGroup(TyperGroup):
    """A command group that lists its commands by panel in plain text.

    Typer supports panels only in its rich mode, which draws boxes around them and breaks the lines of examples. Plain
    text can be searched and copied.
    """

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write one section for each panel."""
        commands = [(name, self.get_command(ctx, name)) for name in self.list_commands(ctx)]
        limit = formatter.width - 6 - max(len(name) for name, _ in commands)

        for panel in (RESULTS, DATA, OWN, STORES, HELP):
            rows = [
                (name, command.get_short_help_str(limit))
                for name, command in commands
                if command is not None and getattr(command, "rich_help_panel", None) == panel
            ]
            if rows:
                with formatter.section(panel):
                    formatter.write_dl(rows)


def examples(*lines: str) -> str:
    """Return the end of a command's help: example command lines, which can be pasted into a shell."""
    title = "Example:" if len(lines) == 1 else "Examples:"
    return "\b\n" + "\n".join([title, *(f"  {line}" for line in lines)])

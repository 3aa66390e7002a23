"""How the command line presents itself: help as a table of contents, with examples, in plain text."""

from __future__ import annotations

from typing import Any

from typer.core import TyperGroup

# In the order in which a person meets them; each command names its own as `rich_help_panel`.
RESULTS, DATA, OWN, STORES = "Results", "Data sets", "Your own images", "Features"
HELP = "When something is wrong"


class Contents(TyperGroup):
    """A group whose help lists its commands by panel; typer itself does so in boxes alone."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write a section a panel."""
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
    """The end of a command's help: one or more lines that can be pasted into a shell."""
    return "\b\n" + "\n".join(["Example:" if len(lines) == 1 else "Examples:", *(f"  {line}" for line in lines)])

"""The one error that a user can cause and can mend."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


class InputError(Exception):
    """Input that cannot be used: the text says the value, the rule, the alternatives and the fix.

    Stages and the command line print it without a traceback; anything else that escapes is a bug.
    """


def raise_all(problems: Sequence[str], heading: str) -> None:
    """Raise one `InputError` that lists every problem at once; do nothing when there is none."""
    if problems:
        raise gathered(problems, heading)


def gathered(problems: Sequence[str], heading: str) -> InputError:
    """One error that lists every problem."""
    lines = "\n".join(f"  - {problem}" for problem in problems)
    return InputError(f"{heading} ({len(problems)} problem{'s' * (len(problems) > 1)}):\n{lines}")


class Problems:
    """What is wrong with something, kept until all of it is known."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def attempt(self, step: Callable[[], T]) -> T | None:
        """What the step returns; None where it raises an `InputError`, whose text is kept."""
        try:
            return step()
        except InputError as error:
            self.found.append(str(error).replace("\n", "\n    "))
            return None


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known names there are, the likeliest first: `did you mean 'coop'? known: ...`."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(known) or 'none'}"


def shown(path: str) -> str:
    """A path on one line: as it is, or quoted with escapes where it holds a line break or another control."""
    return path if path.isprintable() else repr(path)

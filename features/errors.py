"""The one error that a user can cause and can mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence


class InputError(Exception):
    """Input that cannot be used: the text says the value, the rule, the alternatives and the fix.

    Stages and the command line print it without a traceback; anything else that escapes is a bug.
    """


def raise_all(problems: Sequence[str], heading: str) -> None:
    """Raise one `InputError` that lists every problem at once; do nothing when there is none."""
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise InputError(f"{heading} ({len(problems)} problem{'s' * (len(problems) > 1)}):\n{lines}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known names there are, the likeliest first: `did you mean 'coop'? known: ...`."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(known) or 'none'}"


def shown(path: str) -> str:
    """A path on one line: as it is, or quoted with escapes where it holds a line break or another control."""
    return path if path.isprintable() else repr(path)

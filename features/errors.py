"""The exception for errors that a user can cause and fix."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

T = TypeVar("T")


class InputError(Exception):
    """Unusable input: a file, a setting or an argument.

    The message gives the value, the rule, the alternatives and the fix. Stages and the command line print it without
    a traceback. Any other exception that reaches the user is a bug.
    """


def raise_all(problems: Sequence[str], heading: str) -> None:
    """Raise one `InputError` that lists every problem; do nothing if there is none."""
    if problems:
        raise combined_error(problems, heading)


def combined_error(problems: Sequence[str], heading: str) -> InputError:
    """Return one error that lists every problem below a heading."""
    lines = "\n".join(f"  - {problem}" for problem in problems)
    return InputError(f"{heading} ({len(problems)} problem{'s' * (len(problems) > 1)}):\n{lines}")


class Problems:
    """A collection of error messages, so that all of them can be reported together.

    Attributes:
        messages: The texts in the order in which they were added.
    """

    def __init__(self) -> None:
        self.messages: list[str] = []

    def attempt(self, step: Callable[[], T]) -> T | None:
        """Return the result of `step`; keep the message and return None if it raises an `InputError`."""
        try:
            return step()
        except InputError as error:
            # Indented, because `combined_error` shows each message as one item of a list.
            self.messages.append(str(error).replace("\n", "\n    "))
            return None


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint with all known names, such as `did you mean 'coop'? known: cocoop, coop`."""
    known = sorted(known)
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return f"{hint}known: {', '.join(known) or 'none'}"


def shown(path: str) -> str:
    """Return a path as one line: unchanged, or quoted with escapes if it holds a line break or a control character."""
    return path if path.isprintable() else repr(path)


def are(count: int, singular: str = "is", plural: str = "are") -> str:
    """Return the verb that goes with a count."""
    return singular if count == 1 else plural


def counted(count: int, noun: str) -> str:
    """Return a count with its noun: `1 class`, `2 classes`, `1,000 images`."""
    plural = noun if count == 1 else noun + ("es" if noun.endswith("s") else "s")
    return f"{count:,} {plural}"

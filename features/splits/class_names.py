"""Understand a list of class names as people paste it: from a mail, a spreadsheet or a numbered list."""

from __future__ import annotations

import ast
import csv
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase

from features.errors import InputError
from features.formats.plain_text import decoded
from features.splits.image_files import examples
from features.splits.own_images import MARKS, nfc

# "- kestrel", "1. kestrel", "(2) kestrel", "- [ ] kestrel", and "> kestrel" of a quoted mail; not "3.5 inch disk"
SIGNS = r"(?:[-+*•◦‣▪●○–—·→>]\s+|\[[ xX]?\]\s+|[☐☑☒✓✔]\s*)"
NUMBER = r"\(?\d+[.):](?!\d)\s*"
BULLET = re.compile(rf"\s*(?:{SIGNS}+(?:{NUMBER})?|{NUMBER}{SIGNS}?)")
LETTER = re.compile(r"\s*\(?([a-zA-Z])[.)]\s+")  # "a) kestrel", but not "F. tinnunculus"
QUOTES = ('""', "''", "“”", "„“", "‘’", "«»", "``")
PARENTHESES = re.compile(r"\([^()]*\)")  # "great tit (Parus major, Linnaeus)" is one name
BRACKETS = ("()", "[]", "{}")
LIST = re.compile(r"[\[({][^\[({})\]]*[,;\t][^\[({})\]]*[\])}]")  # "[owl, wren]"
HIDDEN = "\ue000"  # in place of a comma that separates nothing
SEPARATORS = (",", ";", "\t")
SHOWN = {",": "commas", ";": "semicolons", "\t": "tabs"}
HEADERS = frozenset({"class", "class name", "classes", "class_name", "label", "labels", "name", "names", "species"})
HINT = "use a UTF-8 text file with one class name per line"


@dataclass(frozen=True)
class NamesList:
    """Class names, and lines that say how they were understood if they were not simply one per line."""

    names: tuple[str, ...]
    notes: tuple[str, ...]


def read_names(given: Path) -> NamesList:
    """Return the names of a file, or those in the text itself if it has commas and is not a file.

    Raises:
        InputError: There is no such file, or it is not UTF-8, or its lines may mean several things.
    """
    if str(given) in ("", "."):
        raise InputError("--unseen is empty; give a file with one class name per line, or names separated by commas")
    if not given.exists() and any(separator in str(given) for separator in (*SEPARATORS, "\n")):
        return understand(str(given), "--unseen")
    try:
        text, note = decoded(given.read_bytes())
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(
            f"--unseen {given} cannot be read: {reason}; {HINT}, or names separated by commas ('{given},' for a "
            "single one)"
        ) from error
    found = understand(text, str(given))
    return NamesList(found.names, (*found.notes, *([f"{given}: {note}"] if note else [])))


def understand(text: str, where: str) -> NamesList:
    """Return the names in a text; empty lines and lines that start with `#` are ignored.

    Raises:
        InputError: The lines have several columns, and no heading says which has the names; or a name is cut in the
            middle of a bracket, or would be a comment in a file of names.
    """
    lines = _lines(MARKS.sub("", text))
    notes = []

    if len(lines) > 1 and [line for line in lines if line.endswith(":")] == lines[:1]:
        notes.append(f"the first line, {lines[0]!r}, is read as a heading")
        lines = lines[1:]

    if bullet := _bullets(lines, where):
        lines = [bullet.sub("", line, count=1) for line in lines]
        notes.append("numbers and bullets before the names are left out")

    bare = [PARENTHESES.sub("", line) for line in lines]
    separator = next((one for one in SEPARATORS if lines and all(one in line for line in bare)), None)
    if separator is not None:
        rows = _cells(lines, separator)
        headings = [i for i, cell in enumerate(rows[0]) if cell.strip().casefold() in HEADERS]
        if len(lines) == 1:
            lines = rows[0]
            notes.append(f"the line is read as names with {SHOWN[separator]} between")
        elif len(headings) == 1:
            lines = [row[headings[0]] for row in rows if headings[0] < len(row)]
        else:
            raise InputError(
                f"{where} looks like a table ({examples(lines)}): keep the column of names alone, one name per line"
            )

    if len(lines) > 1 and lines[0].strip().casefold() in HEADERS:
        notes.append(f"the first line, {lines[0].strip()!r}, is read as a heading")
        lines = lines[1:]
    names = [*filter(None, map(_clean, lines))]
    _refuse_odd(names, where)
    if not names:
        notes.append("there are no names in it")
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        notes.append(f"names that are listed again are left out ({examples(repeated)})")
    if notes:
        notes = [f"{where}: {'; '.join(notes)}"]
    return NamesList(tuple(dict.fromkeys(names)), tuple(notes))


def _lines(text: str) -> list[str]:
    """Return the lines that hold names, or the elements of a list."""
    lines = _list(text) or [
        line.strip(" \t\r,;") for line in text.splitlines() if line.strip(" \t,;") and line.lstrip()[0] != "#"
    ]
    return [lines[0][1:-1]] if len(lines) == 1 and LIST.fullmatch(lines[0]) else lines


def _cells(lines: Sequence[str], separator: str) -> list[list[str]]:
    """Return the cells of lines; a separator within parentheses separates nothing."""
    hidden = (PARENTHESES.sub(lambda part: part[0].replace(separator, HIDDEN), line) for line in lines)
    rows = csv.reader(hidden, delimiter=separator, skipinitialspace=True)
    return [[cell.replace(HIDDEN, separator) for cell in row] for row in rows]


def _refuse_odd(names: Sequence[str], where: str) -> None:
    """Raise an `InputError` for names that were cut within brackets, or would be comments in a file of names."""
    odd = [
        name for name in names if name[0] == "#" or any(name.count(one[0]) != name.count(one[1]) for one in BRACKETS)
    ]
    if odd:
        raise InputError(
            f"{where}: {examples(odd)} cannot be {'a name' if len(odd) == 1 else 'names'} (a bracket is not closed, or "
            f"it begins with '#'): {HINT}"
        )


def _bullets(lines: Sequence[str], where: str) -> re.Pattern[str] | None:
    """Return what stands before each name, or None.

    Raises:
        InputError: Some lines have a bullet or a number before them and some have none, as in a whole mail.
    """
    letters = [match[1].lower() for line in lines if (match := LETTER.match(line))]
    if lines and letters == [*ascii_lowercase[: len(lines)]]:
        return LETTER
    marked = [line for line in lines if BULLET.match(line)]
    if marked and len(marked) < len(lines):
        others = [line for line in lines if not BULLET.match(line)]
        raise InputError(
            f"{where}: some lines have a number or a bullet before them ({examples(marked)}), others do not "
            f"({examples(others)}): keep the names alone, one per line"
        )
    return BULLET if marked else None


def _list(text: str) -> list[str]:
    """Return the texts of a list as JSON and Python write it; none if it is no such list."""
    try:
        value = ast.literal_eval(text.strip()) if text.lstrip().startswith("[") else []
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    known = isinstance(value, list) and all(isinstance(one, str | int | float) for one in value)
    return [*map(str, value)] if known else []


def _clean(name: str) -> str:
    """Return a name without quotes around it, and with simple spaces in place of those of mails and web pages."""
    plain = " ".join(name.split())
    if len(plain) > 1 and plain[0] + plain[-1] in QUOTES:
        plain = plain[1:-1]
    return nfc(plain.strip('"“”'))

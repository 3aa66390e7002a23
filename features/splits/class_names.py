"""Understand a list of class names as people paste it: from a mail, a spreadsheet or a numbered list."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path

from features.errors import InputError
from features.splits.image_files import examples
from features.splits.own_images import nfc

BULLET = re.compile(r"\s*(?:[-*•–·]\s+|\(?\d+[.):]\s*)")  # "- kestrel", "1. kestrel", "2) kestrel"
HEADERS = frozenset({"class", "class name", "classes", "class_name", "label", "labels", "name", "names", "species"})
HINT = "use a UTF-8 text file with one class name per line"


@dataclass(frozen=True)
class NamesList:
    """Class names, and lines that say how they were understood if they were not simply one per line."""

    names: tuple[str, ...]
    notes: tuple[str, ...]


def read_names(given: Path) -> NamesList:
    """Return the names of a file, or those in the text itself if it has commas and is no file.

    Raises:
        InputError: There is no such file, or it is not UTF-8, or its lines may mean several things.
    """
    if str(given) in ("", "."):
        raise InputError("--unseen is empty; give a file with one class name per line, or names with commas between")
    if not given.exists() and "," in str(given):
        return understand(str(given), "--unseen")
    try:
        text = given.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"--unseen {given} cannot be read: {reason}; {HINT}, or names with commas between") from error
    return understand(text, str(given))


def understand(text: str, where: str) -> NamesList:
    """Return the names in a text; empty lines and lines that start with `#` are ignored.

    Raises:
        InputError: Several lines have commas, so they may be a table.
    """
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    notes = []

    if lines and all(BULLET.match(line) for line in lines):
        lines = [BULLET.sub("", line, count=1) for line in lines]
        notes.append("numbers and bullets before the names are left out")

    with_commas = [line for line in lines if "," in line]
    if len(lines) == 1 and with_commas:
        lines = [name.strip() for name in next(csv.reader(lines, skipinitialspace=True))]
        notes.append("the line is read as names with commas between")
    elif len(with_commas) > 1 and len(with_commas) == len(lines):
        raise InputError(
            f"{where} looks like a table ({examples(lines)}): keep the column of names alone, one name per line"
        )

    if len(lines) > 1 and lines[0].casefold() in HEADERS:
        notes.append(f"the first line, {lines[0]!r}, is read as a heading")
        lines = lines[1:]
    names = tuple(nfc(line.strip().strip('"“”').strip()) for line in lines)
    names = tuple(name for name in names if name)
    if not names:
        notes.append("there are no names in it")
    if notes:
        notes = [f"{where}: {'; '.join(notes)}"]
    return NamesList(names, tuple(notes))

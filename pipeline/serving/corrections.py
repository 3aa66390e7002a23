"""Images that a user labelled in the browser, as a table that `shipyard task new` reads."""

from __future__ import annotations

import csv
import hashlib
import io
import re
from pathlib import Path
from threading import Lock

from PIL import Image

from features.errors import InputError, shown
from features.formats.csv_cells import SIGNS, guarded, read_rows, write_rows
from features.formats.files import atomic_file

TABLE = "labels.csv"
HEADER = ["path", "label"]
LONGEST = 200  # characters of a label
SAVED_NAME = re.compile(r"[0-9a-f]{32}(\.\w+)?")  # of an image in the folder


class Corrections:
    """A folder with `labels.csv` (columns path and label) and the images beside it, named by their sha256."""

    def __init__(self, folder: Path) -> None:
        """Take the folder; it is made when the first image is saved."""
        self.folder = folder
        self._lock = Lock()

    @property
    def table(self) -> Path:
        """Path of the table."""
        return self.folder / TABLE

    def check(self) -> None:
        """Check that the folder, if it exists, holds what `save` wrote and nothing else: it writes the table anew.

        Raises:
            InputError: it is not a folder, or has files that `shipyard serve` did not write.
        """
        advice = "use another folder for --labels, or a new one"
        try:
            names = {entry.name for entry in self.folder.iterdir()}
        except FileNotFoundError:
            return
        except OSError as error:
            raise InputError(f"{self.folder}: {error.strerror}; {advice}") from error

        # Hidden files are those of a file manager, or of a `save` that was killed.
        others = sorted(name for name in names - {TABLE} if not name.startswith(".") and not SAVED_NAME.fullmatch(name))
        if others:
            raise InputError(
                f"{self.folder} has files that `shipyard serve` did not write, such as {shown(others[0])}; {advice}"
            )
        if TABLE in names and not self._is_own_table():
            raise InputError(f"{self.table} was not written by `shipyard serve`; {advice}")

    def _is_own_table(self) -> bool:
        try:
            with self.table.open(newline="", encoding="utf-8") as file:
                header, *rows = csv.reader(file)
        except (OSError, ValueError, csv.Error):  # a folder, not UTF-8, or empty
            return False
        return header == HEADER and all(len(row) == len(HEADER) and SAVED_NAME.fullmatch(row[0]) for row in rows)

    def save(self, image: bytes, label: str) -> int:
        """Save an image with its label, in place of an earlier label of the same bytes; return the number of images.

        Args:
            image: bytes of an image file that can be decoded.
            label: name of a class, known or new.

        Raises:
            InputError: the label is empty, too long, or begins with a sign that a spreadsheet evaluates.
        """
        label = _checked(label)
        name = hashlib.sha256(image).hexdigest()[:32] + _suffix(image)

        with self._lock:
            labels = {row["path"]: row["label"] for row in read_rows(self.table)} if self.table.is_file() else {}
            labels[name] = label
            # The image first: an interruption leaves an image without a row, and never a row without an image.
            with atomic_file(self.folder / name) as part:
                part.write_bytes(image)
            with atomic_file(self.table) as part, part.open("w", encoding="utf-8", newline="") as file:
                write_rows(file, [HEADER, *labels.items()])
            return len(labels)


def _checked(label: str) -> str:
    label = " ".join(label.split())
    if not label or len(label) > LONGEST or guarded(label) != label or not label.isprintable():
        raise InputError(
            f"invalid label {label[:LONGEST]!r}: expected 1 to {LONGEST} printable characters; neither the label nor a "
            f"part of it after a semicolon may begin with {' '.join(sign for sign in SIGNS if sign.isprintable())}"
        )
    return label


def _suffix(image: bytes) -> str:
    """Return the usual suffix of an image's format, which is taken from its bytes; empty if it is unknown."""
    try:
        with Image.open(io.BytesIO(image)) as opened:
            kind = str(opened.format)
    except OSError:
        return ""  # `task new` judges such a file by its bytes, too
    return {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif", "JPEG2000": ".jp2"}.get(kind, f".{kind.lower()}")

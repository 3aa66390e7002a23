"""A data set of imported features (`shipyard features import`), which has no images to read."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from features.datasets.base import Listing, Reader
from features.errors import InputError


class Imported(Reader):
    """Options of `reader: imported`; there are none."""

    path: str = ""

    layout: ClassVar[str] = "nothing; `shipyard features import` writes the index and the features"
    source: ClassVar[str] = "a file of features"

    def folder(self, root: Path) -> Path:  # noqa: ARG002 (the contract has it)
        """Raise an error, which ends stages `index` and `extract`: they cannot compute imported features again.

        Raises:
            InputError: Always; the message explains how to continue.
        """
        raise InputError(
            "these features were imported and cannot be computed from images. If only the project's code has changed, "
            "keep them: `dvc commit --force index@<data set> extract@<data set>`. If they are missing, run `dvc pull`, "
            "or import the file again: `shipyard features import`"
        )

    def read(self, root: Path) -> Listing:
        """Raise the error of `folder`."""
        raise InputError(f"{self.folder(root)}")

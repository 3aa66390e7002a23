"""A data set whose features came from a file (`shipyard features import`): there are no images to read."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from features.datasets.base import Listing, Reader
from features.errors import InputError


class Imported(Reader):
    """Options of `reader: imported`: none."""

    path: str = ""

    layout: ClassVar[str] = "nothing: `shipyard features import` has written the index and the features"
    source: ClassVar[str] = "a file of features"

    def folder(self, root: Path) -> Path:  # noqa: ARG002 (the contract's)
        """Nothing can be made anew here, so stages `index` and `extract` end.

        Raises:
            InputError: always; says how to go on.
        """
        raise InputError(
            "these features were imported and cannot be made from images. If only the project's code has changed, keep "
            "them: `dvc commit --force index@<data set> extract@<data set>`; if they are not there, `dvc pull`, or "
            "import the file again: `shipyard features import`"
        )

    def read(self, root: Path) -> Listing:
        """As `folder`."""
        raise InputError(f"{self.folder(root)}")

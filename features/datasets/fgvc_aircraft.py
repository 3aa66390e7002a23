"""FGVC Aircraft, 100 variants with the official split: 3,334 / 3,333 / 3,333 images (CoOp, appendix, Table 5)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

from features.datasets.base import SPLITS, Archive, Counts, Listing, Origin, Published, Rows, Templates
from features.errors import InputError, Problems
from features.splits.listed import listing_of


class FgvcAircraft(Published):
    """Options of `reader: fgvc_aircraft`."""

    path: str = "fgvc_aircraft"

    layout: ClassVar[str] = (
        "images/0034309.jpg ..., variants.txt and images_variant_train.txt, _val and _test beside them"
    )
    source: ClassVar[str] = "`shipyard data get fgvc_aircraft` fetches it"
    images: ClassVar[tuple[str, ...]] = ("images", "data/images")  # the second: the unpacked archive
    templates: Templates = ("a photo of a {}, a type of aircraft.",)
    archives: ClassVar[tuple[Archive, ...]] = (
        # Address: torchvision.datasets.FGVCAircraft. sha256: that of the file as sent, 2,753,340,328 bytes, as several
        # projects record it. tensorflow_datasets has that of the tar inside, because its client unpacks the gzip.
        Archive(
            "https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/archives/fgvc-aircraft-2013b.tar.gz",
            creates="data",
            inside="fgvc-aircraft-2013b/data",
            checksum="sha256:e4e323d410e29f0370c81eabdcbb0e2b813acea1de22891b70b58ff41bfc9834",
        ),
    )
    origin: ClassVar[Origin] = Origin(
        title="FGVC Aircraft",
        licence="non-commercial research",
        home="https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft",
        citation="Maji, Rahtu, Kannala, Blaschko, Vedaldi: Fine-grained visual classification of aircraft, 2013",
        counts=Counts(train=3334, val=3333, test=3333, classes=100),
    )

    def read(self, root: Path) -> Listing:
        """List the official split; see `Reader.read`."""
        folder = self.folder(root)
        problems = Problems()
        files = {part: folder.parent / f"images_variant_{part}.txt" for part in SPLITS}
        lines = {part: problems.attempt(partial(_lines, file)) or [] for part, file in files.items()}
        classes = problems.attempt(lambda: _lines(folder.parent / "variants.txt"))

        # If variants.txt cannot be read, the lists give the names, so that other faults are reported too.
        if classes is None:
            classes = sorted({line.partition(" ")[2] for part in SPLITS for line in lines[part]})
        label_of_name = {name: label for label, name in enumerate(classes)}

        rows: Rows = {part: [] for part in SPLITS}
        for part, file in files.items():
            for line in lines[part]:
                number, _, name = line.partition(" ")
                if name in label_of_name:
                    rows[part].append((f"{number}.jpg", label_of_name[name]))
                else:
                    problems.messages.append(f"{file.name}: {line!r} must be a number and a name in variants.txt")
        return listing_of(self, folder, classes, rows, problems)


def _lines(file: Path) -> list[str]:
    """Return the lines of a text file that are not empty.

    Raises:
        InputError: The file cannot be read.
    """
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {error}; `shipyard data get fgvc_aircraft` fetches it") from error

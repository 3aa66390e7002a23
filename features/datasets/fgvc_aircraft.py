"""FGVC Aircraft, 100 variants with the official split: 3,334 / 3,333 / 3,333 images (CoOp, appendix, Table 5)."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import ClassVar

from features.datasets.base import SPLITS, Archive, Counts, Listing, Origin, Published, Rows
from features.errors import InputError, Problems
from features.splits.listed import listing_of


class FgvcAircraft(Published):
    """Options of `reader: fgvc_aircraft`."""

    path: str = "fgvc_aircraft"

    layout: ClassVar[str] = (
        "images/0034309.jpg ..., variants.txt and images_variant_train.txt, _val and _test beside them"
    )
    source: ClassVar[str] = "`shipyard data get fgvc_aircraft` fetches it"
    images: ClassVar[tuple[str, ...]] = ("images", "data/images")  # the latter: the archive as it is
    templates: ClassVar[tuple[str, ...]] = ("a photo of a {}, a type of aircraft.",)
    archives: ClassVar[tuple[Archive, ...]] = (
        # address: torchvision.datasets.FGVCAircraft; sha256: of the file as it is sent, 2,753,340,328 bytes, as several
        # projects record it (tensorflow_datasets has that of the tar in it, for its client unpacks the gzip)
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
        folder, problems = self.folder(root), Problems()
        files = {part: folder.parent / f"images_variant_{part}.txt" for part in SPLITS}
        lines = {part: problems.attempt(partial(_lines, file)) or [] for part, file in files.items()}
        classes = problems.attempt(lambda: _lines(folder.parent / "variants.txt"))
        if classes is None:  # whoever mends that file is to know what else the copy lacks
            classes = sorted({line.partition(" ")[2] for part in SPLITS for line in lines[part]})
        labels = {name: label for label, name in enumerate(classes)}
        rows: Rows = {part: [] for part in SPLITS}
        for part, file in files.items():
            for line in lines[part]:
                number, _, name = line.partition(" ")
                if name in labels:
                    rows[part].append((f"{number}.jpg", labels[name]))
                else:
                    problems.messages.append(f"{file.name}: {line!r} is not a number and a name of variants.txt")
        return listing_of(self, folder, classes, rows, problems)


def _lines(file: Path) -> list[str]:
    """The lines of a text file that are not empty.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read: {error}; `shipyard data get fgvc_aircraft` fetches it") from error

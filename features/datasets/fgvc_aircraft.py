"""FGVC Aircraft, 100 variants with the official split: 3,334 / 3,333 / 3,333 images (CoOp, appendix, Table 5)."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from features.datasets.base import SPLITS, Archive, Counts, Listing, Origin, Published, Rows
from features.errors import raise_all
from features.listed import taken


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
        folder = self.folder(root)
        files = {part: folder.parent / f"images_variant_{part}.txt" for part in SPLITS}
        problems: list[str] = []
        classes = tuple(_lines(folder.parent / "variants.txt", problems))
        labels = {name: label for label, name in enumerate(classes)}
        rows: Rows = {part: [] for part in SPLITS}
        for part, file in files.items():
            for line in _lines(file, problems):
                number, _, name = line.partition(" ")
                if name in labels:
                    rows[part].append((f"{number}.jpg", labels[name]))
                elif classes:
                    problems.append(f"{file.name}: {line!r} is not a number and a name of variants.txt")
        raise_all(problems, f"{folder.parent} is not FGVC Aircraft; {self.source}")
        images, missing = taken(folder, rows, allow_partial=self.allow_partial)
        return Listing(images, classes, self.templates, self.origin, missing=missing)


def _lines(file: Path, problems: list[str]) -> list[str]:
    try:
        return [line.strip() for line in file.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        problems.append(f"{file.name}: cannot be read: {error}")
        return []

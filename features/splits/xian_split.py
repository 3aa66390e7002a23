"""Generalized zero-shot data sets with the "proposed splits" of Xian et al., Zero-shot learning, TPAMI 2019.

`att_splits.mat` says by position which images are for training (`trainval_loc`), and which are tests of seen and of
unseen classes. The positions are those of `image_files` in `res101.mat`; ResNet's features in there are not read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import ClassVar

from features.datasets.base import Archive, Listing, Published, Rows
from features.errors import InputError, Problems, raise_all
from features.formats.matlab import MatFile
from features.splits.listed import listing_of

IMAGES = "res101.mat"
TRAIN, SEEN, UNSEEN = "trainval_loc", "test_seen_loc", "test_unseen_loc"
XLSA17 = Archive(  # address: the authors'; nobody publishes a checksum
    "https://datasets.d2.mpi-inf.mpg.de/xian/xlsa17.zip", creates="xlsa17", inside="xlsa17", into=""
)


class XianReader(Published):
    """Base of the readers of data sets with Xian's splits.

    Attributes:
        splits: the folder below `data.root` that holds the `.mat` files; null: `path`, and then `xlsa17/data/<name>`.
    """

    splits: str | None = None

    xian_name: ClassVar[str]  # the folder's name in xlsa17/data
    files: ClassVar[tuple[str, ...]] = ("att_splits.mat", "sent_splits.mat")  # the first that is there

    def read(self, root: Path) -> Listing:
        """List the split's images: training, and both parts of the test; see `Reader.read`."""
        problems = Problems()
        folder = problems.attempt(lambda: self.folder(root))
        mats = problems.attempt(lambda: self._mats(root))
        split = problems.attempt(lambda: self._split(mats)) if mats else None
        images = problems.attempt(lambda: MatFile(mats / IMAGES, ("image_files", "labels"))) if mats else None
        if folder is None or images is None:
            raise self.unreadable(problems)
        files = [self.in_folder(file.replace("\\", "/")) for file in images.texts("image_files")]
        named = problems.attempt(lambda: self._classes(files, images))
        parts = problems.attempt(lambda: _parts(split, images, named[1])) if split and named else None
        if named is None or parts is None:  # whoever mends the split is to know what else the copy lacks
            listing_of(self, folder, (), {"train": [(file, 0) for file in files], "val": [], "test": []}, problems)
            raise self.unreadable(problems)
        classes, labels = named
        rows: Rows = {
            "train": [(files[i], labels[i]) for i in parts[TRAIN]],
            "val": [],
            "test": [(files[i], labels[i]) for i in (*parts[SEEN], *parts[UNSEEN])],
        }
        return listing_of(self, folder, classes, rows, problems)

    def in_folder(self, file: str) -> str:
        """A path of Xian's machine, relative to the folder of the images."""
        return file.rpartition(f"/{self.images[0]}/")[2]

    def class_of(self, file: str) -> str:
        """The class name of an image, from its path; most are in a folder of that name."""
        return PurePosixPath(file).parent.name

    def _mats(self, root: Path) -> Path:
        places = [root / self.splits] if self.splits else [root / self.path, root / "xlsa17" / "data" / self.xian_name]
        for place in places:
            if (place / IMAGES).is_file() and any((place / name).is_file() for name in self.files):
                return place
        raise InputError(
            f"there are no {IMAGES} and {' or '.join(self.files)}, together in one folder, which say which images "
            f"are for training; looked in {' and '.join(map(str, places))}.\n"
            f"  fix: put them there, or set `splits`; {self.source}"
        )

    def _split(self, mats: Path) -> MatFile:
        return MatFile(next(mats / name for name in self.files if (mats / name).is_file()), (TRAIN, SEEN, UNSEEN))

    def _classes(self, files: list[str], images: MatFile) -> tuple[tuple[str, ...], list[int]]:
        """The class names by Xian's labels, and each image's class id."""
        numbers = images.numbers("labels")
        pairs = sorted(set(zip(numbers.tolist(), map(self.class_of, files), strict=True)))
        of_label, of_name = Counter(label for label, _ in pairs), Counter(name for _, name in pairs)
        problems = [f"label {label}: {name!r}" for label, name in pairs if of_label[label] > 1 or of_name[name] > 1]
        raise_all(problems, f"{images.path}: labels and class names do not go together one to one")
        ids = {label: class_id for class_id, (label, _) in enumerate(pairs)}
        return tuple(name for _, name in pairs), [ids[label] for label in numbers.tolist()]


def _parts(split: MatFile, images: MatFile, labels: list[int]) -> dict[str, list[int]]:
    """The positions of each part's images, of which there are `labels`.

    Raises:
        InputError: positions that are no whole numbers, or no image's, or classes that are on both sides.
    """
    parts = {name: (split.numbers(name) - 1).tolist() for name in (TRAIN, SEEN, UNSEEN)}  # MATLAB counts from 1
    raise_all(list(_contradictions(parts, labels)), f"{split.path} does not belong to {images.path}")
    return parts


def _contradictions(parts: dict[str, list[int]], labels: list[int]) -> Iterator[str]:
    """Positions that are no image's, and classes that are both trained on and called unseen."""
    outside = [(name, i) for name, part in parts.items() for i in part if not 0 <= i < len(labels)]
    yield from (f"{name}: {i + 1} is not in 1 to {len(labels)}" for name, i in outside)
    if not outside:
        found = {name: {labels[i] for i in part} for name, part in parts.items()}
        yield from (f"class {label} is in {UNSEEN} and in {TRAIN}" for label in sorted(found[UNSEEN] & found[TRAIN]))

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
from features.errors import InputError, raise_all
from features.listed import taken
from features.matlab import MatFile

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
        folder = self.folder(root)
        mats = self._mats(root)
        split = MatFile(next(mats / name for name in self.files if (mats / name).is_file()), (TRAIN, SEEN, UNSEEN))
        images = MatFile(mats / "res101.mat", ("image_files", "labels"))
        files = [self.in_folder(file.replace("\\", "/")) for file in images.texts("image_files")]
        classes, labels = self._classes(files, images)
        parts = {name: (split.numbers(name) - 1).tolist() for name in (TRAIN, SEEN, UNSEEN)}  # MATLAB counts from 1
        raise_all(list(_contradictions(parts, labels)), f"{split.path} does not belong to {images.path}")
        rows: Rows = {
            "train": [(files[i], labels[i]) for i in parts[TRAIN]],
            "val": [],
            "test": [(files[i], labels[i]) for i in (*parts[SEEN], *parts[UNSEEN])],
        }
        found, missing = taken(folder, rows, allow_partial=self.allow_partial)
        return Listing(found, classes, self.templates, self.origin, missing=missing)

    def in_folder(self, file: str) -> str:
        """A path of Xian's machine, relative to the folder of the images."""
        return file.rpartition(f"/{self.images[0]}/")[2]

    def class_of(self, file: str) -> str:
        """The class name of an image, from its path; most are in a folder of that name."""
        return PurePosixPath(file).parent.name

    def _mats(self, root: Path) -> Path:
        places = [root / self.splits] if self.splits else [root / self.path, root / "xlsa17" / "data" / self.xian_name]
        for place in places:
            if (place / "res101.mat").is_file() and any((place / name).is_file() for name in self.files):
                return place
        raise InputError(
            f"there are no res101.mat and {' or '.join(self.files)}, together in one folder, which say which images "
            f"are for training; looked in {' and '.join(map(str, places))}.\n"
            f"  fix: put them there, or set `splits`; {self.source}"
        )

    def _classes(self, files: list[str], images: MatFile) -> tuple[tuple[str, ...], list[int]]:
        """The class names by Xian's labels, and each image's class id."""
        numbers = images.numbers("labels")
        pairs = sorted(set(zip(numbers.tolist(), map(self.class_of, files), strict=True)))
        of_label, of_name = Counter(label for label, _ in pairs), Counter(name for _, name in pairs)
        problems = [f"label {label}: {name!r}" for label, name in pairs if of_label[label] > 1 or of_name[name] > 1]
        raise_all(problems, f"{images.path}: labels and class names do not go together one to one")
        ids = {label: class_id for class_id, (label, _) in enumerate(pairs)}
        return tuple(name for _, name in pairs), [ids[label] for label in numbers.tolist()]


def _contradictions(parts: dict[str, list[int]], labels: list[int]) -> Iterator[str]:
    """Positions that are no image's, and classes that are both trained on and called unseen."""
    outside = [(name, i) for name, part in parts.items() for i in part if not 0 <= i < len(labels)]
    yield from (f"{name}: {i + 1} is not in 1 to {len(labels)}" for name, i in outside)
    if not outside:
        found = {name: {labels[i] for i in part} for name, part in parts.items()}
        yield from (f"class {label} is in {UNSEEN} and in {TRAIN}" for label in sorted(found[UNSEEN] & found[TRAIN]))

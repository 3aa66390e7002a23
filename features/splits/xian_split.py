"""Generalized zero-shot data sets with the "proposed splits" of Xian et al., Zero-shot learning, TPAMI 2019.

`att_splits.mat` gives the positions of the training images (`trainval_loc`) and of the test images of seen and unseen
classes. They are positions in `image_files` of `res101.mat`; the ResNet features in that file are not read.
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
        splits: The folder below `data.root` that holds the `.mat` files; null: `path`, then `xlsa17/data/<name>`.
    """

    splits: str | None = None

    xian_name: ClassVar[str]  # the folder's name in xlsa17/data
    split_files: ClassVar[tuple[str, ...]] = ("att_splits.mat", "sent_splits.mat")  # the first that exists is used

    def read(self, root: Path) -> Listing:
        """List the split's images: training, and both parts of the test; see `Reader.read`."""
        problems = Problems()
        folder = problems.attempt(lambda: self.folder(root))
        mat_folder = problems.attempt(lambda: self._mat_folder(root))
        split = images = None
        if mat_folder:
            split = problems.attempt(lambda: self._read_split(mat_folder))
            images = problems.attempt(lambda: MatFile(mat_folder / IMAGES, ("image_files", "labels")))
        if folder is None or images is None:
            raise self.unreadable(problems)

        files = [self.relative_path(file.replace("\\", "/")) for file in images.texts("image_files")]
        class_names = problems.attempt(lambda: self._class_names(files, images))
        parts = problems.attempt(lambda: _parts(split, images, class_names[1])) if split and class_names else None
        # Without a usable split, missing images are still reported, before the error.
        if class_names is None or parts is None:
            listing_of(self, folder, (), {"train": [(file, 0) for file in files], "val": [], "test": []}, problems)
            raise self.unreadable(problems)

        classes, labels = class_names
        rows: Rows = {
            "train": [(files[i], labels[i]) for i in parts[TRAIN]],
            "val": [],
            "test": [(files[i], labels[i]) for i in (*parts[SEEN], *parts[UNSEEN])],
        }
        return listing_of(self, folder, classes, rows, problems)

    def relative_path(self, file: str) -> str:
        """Return a path of Xian's machine relative to the folder of the images."""
        return file.rpartition(f"/{self.images[0]}/")[2]

    def class_of(self, file: str) -> str:
        """Return the class name of an image from its path; in most data sets it is the folder's name."""
        return PurePosixPath(file).parent.name

    def _mat_folder(self, root: Path) -> Path:
        if self.splits:
            candidates = [root / self.splits]
        else:
            candidates = [root / self.path, root / "xlsa17" / "data" / self.xian_name]
        for folder in candidates:
            if (folder / IMAGES).is_file() and any((folder / name).is_file() for name in self.split_files):
                return folder
        raise InputError(
            f"there is no folder with {IMAGES} and {' or '.join(self.split_files)}, which assign the images to "
            f"training and test; searched {' and '.join(map(str, candidates))}.\n"
            f"  fix: put them there, or set `splits`; {self.source}"
        )

    def _read_split(self, mat_folder: Path) -> MatFile:
        name = next(name for name in self.split_files if (mat_folder / name).is_file())
        return MatFile(mat_folder / name, (TRAIN, SEEN, UNSEEN))

    def _class_names(self, files: list[str], images: MatFile) -> tuple[tuple[str, ...], list[int]]:
        """Return the class names in the order of Xian's labels, and each image's class id."""
        numbers = images.numbers("labels")
        pairs = sorted(set(zip(numbers.tolist(), map(self.class_of, files), strict=True)))

        # A label with two names, or a name with two labels, means that the list belongs to other images.
        names_per_label = Counter(label for label, _ in pairs)
        labels_per_name = Counter(name for _, name in pairs)
        problems = [
            f"label {label}: {name!r}"
            for label, name in pairs
            if names_per_label[label] > 1 or labels_per_name[name] > 1
        ]
        raise_all(problems, f"{images.path}: labels and class names do not match one to one")

        class_ids = {label: class_id for class_id, (label, _) in enumerate(pairs)}
        return tuple(name for _, name in pairs), [class_ids[label] for label in numbers.tolist()]


def _parts(split: MatFile, images: MatFile, labels: list[int]) -> dict[str, list[int]]:
    """Return the positions of each part's images, from 0.

    Args:
        split: The file with the positions.
        images: The file with the images, for error messages.
        labels: The class id of each image.

    Raises:
        InputError: Positions are not whole numbers or out of range, or a class is both seen and unseen.
    """
    parts = {name: (split.numbers(name) - 1).tolist() for name in (TRAIN, SEEN, UNSEEN)}  # MATLAB counts from 1
    raise_all(list(_contradictions(parts, labels)), f"{split.path} does not belong to {images.path}")
    return parts


def _contradictions(parts: dict[str, list[int]], labels: list[int]) -> Iterator[str]:
    """Yield positions out of range, and classes that are both trained on and called unseen."""
    outside = [(name, i) for name, part in parts.items() for i in part if not 0 <= i < len(labels)]
    for name, i in outside:
        yield f"{name}: {i + 1} is not in 1 to {len(labels)}"
    if not outside:
        classes = {name: {labels[i] for i in part} for name, part in parts.items()}
        for label in sorted(classes[UNSEEN] & classes[TRAIN]):
            yield f"class {label} is in {UNSEEN} and in {TRAIN}"

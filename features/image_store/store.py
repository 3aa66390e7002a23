"""Image features on disk: a Zarr v3 store with one group for each split, and its metadata in `meta.json`.

    <split>/features  (N, K, D) float16: K views of each of N images, not normalized; view 0 is the centre crop. In the
                      training split the views of each family follow (`features.encoding.augment.Views`)
    <split>/patches   (N, P, D) float16, only with `extract.patch_tokens`: local features of the centre crop
    <split>/labels    (N,) int32: class ids of the index
    <split>/valid     (N,) bool: false if an image has no features; a missing chunk would read as zeros

The rows are those of the index. If images were left out (`extract.on_bad_image: skip`), `invalid.json` maps their paths
to the reasons. `meta.json` is written last. It lists every file with its sha256, and its own checksum: a store is
complete if `meta.json` exists, and a flipped byte anywhere is found. Nothing in a store depends on the time, the
machine or the folder, so the same input gives the same bytes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal

import numpy as np
import zarr
from numpy.typing import NDArray
from pydantic import Field

from features.datasets.base import SPLITS
from features.datasets.base import Split as SplitName
from features.encoding.view_families import crops_of
from features.errors import InputError, nearest, raise_all
from features.formats.files import MARK, sha256
from features.formats.seal import REMEDY
from features.formats.untrusted import wrap_parser_errors
from features.image_store.provenance import CHECKSUM, FORMAT, Provenance, with_checksum
from features.image_store.shard_reader import check_codecs, read_features, read_rows
from features.settings import Settings, parse

META = "meta.json"
INVALID = "invalid.json"
EXTRACT_HINT = REMEDY[0].lower() + REMEDY[1:]


class FileRecord(Settings):
    """Size in bytes and sha256 of a file of the store."""

    bytes: int
    sha256: str


class Meta(Provenance):
    """Content of `meta.json`: provenance of the features, their shapes, and the files of the store.

    Attributes:
        patches: P, patch tokens of an image (`features.extraction.patch_tokens`); 0 if there are none.
        dtype: type of the features.
        dim: D.
        index_sha256: identity of the images (`features.image_store.writer.index_sha256`).
        classes: C; labels are 0 to C - 1.
        rows: N of each split.
        files: every file but `meta.json`, by its path inside the store.
    """

    patches: int = 0
    dtype: Literal["float16"]
    dim: Annotated[int, Field(ge=1)]
    index_sha256: str
    classes: Annotated[int, Field(ge=1)]
    rows: Annotated[dict[SplitName, Annotated[int, Field(ge=0)]], Field(min_length=len(SPLITS))]
    files: dict[str, FileRecord]

    def shape(self, split: SplitName) -> tuple[int, int, int]:
        """Return the shape (N, K, D) of a split's features; only training images have random views."""
        k = crops_of(self.views, self.view_families) if split == "train" else 1
        return self.rows[split], k, self.dim


@dataclass(frozen=True, eq=False)
class Labels:
    """The labels of a split.

    Attributes:
        labels: (N,) int32.
        valid: (N,) bool; false if an image has no features.
    """

    labels: NDArray[np.int32]
    valid: NDArray[np.bool_]

    @property
    def usable_labels(self) -> NDArray[np.int32]:
        """Labels (N,) int32, and -1 for images without features."""
        return np.where(self.valid, self.labels, np.int32(-1))


@dataclass(frozen=True, eq=False)
class Split(Labels):
    """One split in memory.

    Attributes:
        features: (N, K, D) float16; view 0 is the centre crop.
    """

    features: NDArray[np.float16]


class ImageStore:
    """A complete store, open for reading."""

    def __init__(self, path: Path, meta: Meta) -> None:
        self.path, self.meta = path, meta
        self._loaded: dict[SplitName, Split] = {}
        self._labels: dict[SplitName, Labels] = {}

    @classmethod
    def open(cls, path: Path, *, verify: bool = False) -> ImageStore:
        """Open a store and check that every file exists in its full length; `verify` also checks every byte.

        Raises:
            InputError: the store does not exist, is incomplete, or its files differ from `meta.json`; lists all
                differences.
        """
        store = cls(path, _read_meta(path))
        problems = list(store._size_problems())
        raise_all(problems, f"{path} is damaged; {EXTRACT_HINT}")
        if verify:
            store.verify()
        return store

    @property
    def splits(self) -> tuple[SplitName, ...]:
        """All splits in the order of the index; a split may have no rows."""
        return SPLITS

    def load(self, split: SplitName) -> Split:
        """Return the arrays of a split; they are read once and kept in memory.

        Raises:
            InputError: the split is unknown, or shapes or types of its arrays differ from `meta.json`.
        """
        if split not in self._loaded:
            labels = self.labels(split)
            self._loaded[split] = Split(labels.labels, labels.valid, self._features(split))
        return self._loaded[split]

    def labels(self, split: SplitName) -> Labels:
        """Return the labels of a split without its features; they are read once and kept in memory.

        Raises:
            InputError: as `load`.
        """
        if split not in SPLITS:
            raise InputError(f"unknown split {split!r}; {nearest(split, SPLITS)}")
        if split not in self._labels:
            shape = (self.meta.rows[split],)
            self._labels[split] = Labels(
                self._read(f"{split}/labels", shape, np.int32), self._read(f"{split}/valid", shape, np.bool_)
            )
        return self._labels[split]

    def features(self, split: SplitName, rows: NDArray[np.int64]) -> NDArray[np.float16]:
        """Read features (n, K, D) float16 of n rows of a split, and little more of the file; they are not kept.

        Raises:
            InputError: as `load`.
        """
        return self._features(split, rows)

    def patches(self, split: SplitName, rows: NDArray[np.int64]) -> NDArray[np.float16] | None:
        """Read patch tokens (n, P, D) float16 of n rows of a split; None if none are stored. They are not kept."""
        if not self.meta.patches:
            return None
        shape = (self.meta.rows[split], self.meta.patches, self.meta.dim)
        return self._read(f"{split}/patches", shape, np.float16, rows)

    def info(self) -> str:
        """Return a readable summary of the content and the provenance of the store."""
        meta = self.meta
        size = sum(record.bytes for record in meta.files.values())
        rows = (f"  {split:<6} {meta.shape(split)[0]:>9,} images x {meta.shape(split)[1]} crops" for split in SPLITS)
        return "\n".join(
            [
                f"{self.path}: {meta.dim}-dimensional features, {size / 1e6:.1f} MB in {len(meta.files)} files",
                *rows,
                f"  encoder {meta.encoder}, weights {meta.weights_sha256[:12]}, computed in {meta.precision}",
                *self._view_lines(),
                *([f"  {meta.patches} patch tokens of each centre crop"] if meta.patches else []),
                f"  index {meta.index_sha256[:12]}, {meta.classes} classes",
            ]
        )

    def _view_lines(self) -> list[str]:
        meta = self.meta
        if meta.imported is not None:
            origin = meta.imported
            return [f"  imported from {origin.suffix or 'a folder'} {origin.sha256[:12]}, which had {origin.dtype}"]

        low, high = meta.view_scale
        families = (f"; {name}: {scale[0]:g} to {scale[1]:g}" for name, scale in sorted(meta.view_families.items()))
        return [
            f"  views {meta.views}, area {low:g} to {high:g}{''.join(families)}, seed {meta.view_seed}",
            f"  crops {json.dumps(meta.preprocess)}",
            *(["  images upright, as their EXIF orientation says"] if meta.upright else []),
            *(
                [f"  images of more than 8 bits: {meta.levels[0]:g} is black, {meta.levels[1]:g} white"]
                if meta.levels
                else []
            ),
        ]

    def verify(self) -> None:
        """Check every byte of the store.

        Raises:
            InputError: lists every file that is missing, unexpected or changed, or else every split with features that
                are not finite or labels that are no class.
        """
        # Values are only checked in whole files: a damaged file would be reported twice.
        problems = list(self._size_problems()) or list(self._file_problems())
        if not problems:
            problems = [problem for split in SPLITS for problem in self._value_problems(split)]
        raise_all(problems, f"{self.path} is damaged; {EXTRACT_HINT}")

    def _features(self, split: SplitName, rows: NDArray[np.int64] | None = None) -> NDArray[np.float16]:
        path, shape = self.path / split / "features", self.meta.shape(split)
        try:
            return read_features(path, shape) if rows is None else read_rows(path, shape, rows)
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise InputError(f"{path} cannot be read: {error}; {EXTRACT_HINT}") from error

    def _read(
        self, name: str, shape: tuple[int, ...], dtype: type[np.generic], rows: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """Read a whole array, or some of its rows."""
        try:
            array = zarr.open_array(store=self.path / name, mode="r", zarr_format=3)
            if (array.shape, array.dtype) != (shape, np.dtype(dtype)):
                raise InputError(f"{self.path}/{name} is {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}")
            check_codecs(array, self.path / name)
            return np.asarray(array[...] if rows is None else array.oindex[rows])
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise InputError(f"{self.path}/{name} cannot be read: {error}; {EXTRACT_HINT}") from error

    def _size_problems(self) -> Iterator[str]:
        """Yield the files that are missing or of another size, and the arrays that are larger than their files."""
        for name, record in self.meta.files.items():
            file = self.path / name
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                yield f"{name} is outside the store"
            elif not file.is_file():
                yield f"{name} is missing"
            elif (size := file.stat().st_size) != record.bytes:
                yield f"{name} has {size:,} bytes, not {record.bytes:,}"

        # A foreign `meta.json` must not make us allocate arrays for which there is no data.
        for split in SPLITS:
            n, k, d = self.meta.shape(split)
            for kind, claimed in {"features": 2 * n * k * d, "labels": 4 * n, "valid": n}.items():
                chunks = f"{split}/{kind}/c/"
                held = sum(record.bytes for name, record in self.meta.files.items() if name.startswith(chunks))
                if claimed > held:
                    yield f"{split}/{kind} claims {claimed:,} bytes, but its files hold {held:,}"

    def _file_problems(self) -> Iterator[str]:
        """Yield the files whose sha256 differs, and those that `meta.json` does not list."""
        for name, record in self.meta.files.items():
            if sha256(self.path / name) != record.sha256:
                yield f"{name}: its bytes have changed"

        existing = {file.relative_to(self.path).as_posix() for file in self.path.rglob("*") if file.is_file()}
        yield from (f"{name} does not belong here" for name in sorted(existing - {*self.meta.files, META, MARK}))

    def _value_problems(self, split: SplitName) -> Iterator[str]:
        """Yield what is wrong with the values of a split."""
        # A second store object, so that the arrays are not kept: all splits together may be more than the memory.
        arrays = ImageStore(self.path, self.meta).load(split)
        finite = np.isfinite(arrays.features).all(axis=(1, 2)) | ~arrays.valid

        # About 512 rows at a time, as many as a shard has.
        for rows in np.array_split(np.arange(len(finite)), len(finite) // 512 + 1):
            patches = self.patches(split, rows)
            if patches is not None:
                finite[rows] &= np.isfinite(patches).all(axis=(1, 2))
        if not finite.all():
            count, first = np.count_nonzero(~finite), finite.argmin()
            yield f"{split}: features of {count} rows are not finite, the first is row {first}"

        no_class = (arrays.labels < 0) | (arrays.labels >= self.meta.classes)
        if no_class.any():
            yield f"{split}: {np.count_nonzero(no_class)} labels are not in 0 to {self.meta.classes - 1}"


def _read_meta(path: Path) -> Meta:
    """Read `meta.json` and check its format, its keys and its checksum, in this order."""
    if not path.is_dir():
        raise InputError(
            f"the feature store {path} does not exist: create it with `dvc repro`, or fetch it: `dvc pull`"
        )
    if not (path / META).exists():
        raise InputError(f"{path} is not a complete feature store: it has no {META}; {EXTRACT_HINT}")

    with wrap_parser_errors(path / META, EXTRACT_HINT):
        text = (path / META).read_text(encoding="utf-8")
        values = json.loads(text, parse_constant=int)  # NaN, which is no JSON, raises a ValueError
    if isinstance(values, dict) and values.get("format") != FORMAT:
        raise InputError(f"{path} has the format {values.get('format')!r}; expected {FORMAT!r}; {EXTRACT_HINT}")

    metadata = {key: value for key, value in values.items() if key != CHECKSUM} if isinstance(values, dict) else values
    meta = parse(Meta, metadata, str(path / META))
    if text != with_checksum(metadata):
        raise InputError(f"{path / META} is damaged: its bytes differ from those that were written; {EXTRACT_HINT}")
    return meta

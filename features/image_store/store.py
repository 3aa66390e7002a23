"""Image features on disk: a Zarr v3 store with a group a split, and `meta.json`, which says what made them.

    <split>/features  (N, K, D) float16: K views of each of N images, not normalised; view 0 is the centre crop
    <split>/patches   (N, P, D) float16, if `extract.patch_tokens` asked for them: local features of the centre crop
    <split>/labels    (N,) int32: class ids of the index
    <split>/valid     (N,) bool: false where there is no feature, for a missing chunk would read as zeros

The rows are the index's. Where images were left out (`extract.on_bad_image: skip`), `invalid.json` says why, by path.
`meta.json` is written last and lists every file with its sha256, and its own: a store is complete if it is there, and a
flipped byte anywhere is found. Nothing in a store depends on the time, the machine or the folder, so the same input
gives the same bytes.
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
from features.errors import InputError, nearest, raise_all
from features.formats.files import MARK, sha256
from features.formats.untrusted import wrap_parser_errors
from features.image_store.provenance import CHECKSUM, FORMAT, Provenance, with_checksum
from features.image_store.shard_reader import read_features, refuse_other_codecs
from features.settings import Settings, parse

META = "meta.json"
INVALID = "invalid.json"
AGAIN = "make it anew: dvc repro extract (or bring it whole: dvc pull)"


class FileRecord(Settings):
    """What a file of the store must be."""

    bytes: int
    sha256: str


class Meta(Provenance):
    """What made the features, and which files hold them.

    Attributes:
        patches: P, patch tokens of an image (`features.extraction.patch_tokens`); 0 where there are none.
        dim: D. classes: C, labels are 0 to C - 1.
        index_sha256: of the images' order, classes and bytes (`features.image_store.writer.index_sha256`).
        rows: N of each split. files: by path inside the store.
    """

    patches: int = 0
    dtype: Literal["float16"]
    dim: Annotated[int, Field(ge=1)]
    index_sha256: str
    classes: Annotated[int, Field(ge=1)]
    rows: Annotated[dict[SplitName, Annotated[int, Field(ge=0)]], Field(min_length=len(SPLITS))]
    files: dict[str, FileRecord]

    def shape(self, split: SplitName) -> tuple[int, int, int]:
        """(N, K, D) of a split's features."""
        return self.rows[split], 1 + self.views if split == "train" else 1, self.dim


@dataclass(frozen=True, eq=False)
class Split:
    """One split in memory.

    Attributes:
        features: (N, K, D) float16, view 0 the centre crop. labels: (N,) int32. valid: (N,) bool.
    """

    features: NDArray[np.float16]
    labels: NDArray[np.int32]
    valid: NDArray[np.bool_]

    @property
    def usable_labels(self) -> NDArray[np.int32]:
        """(N,) int32: the labels, and -1 where there is no feature."""
        return np.where(self.valid, self.labels, np.int32(-1))


class ImageStore:
    """A complete store, open for reading."""

    def __init__(self, path: Path, meta: Meta) -> None:
        self.path, self.meta = path, meta
        self._loaded: dict[SplitName, Split] = {}

    @classmethod
    def open(cls, path: Path, *, verify: bool = False) -> ImageStore:
        """Open a store, and see that every file is there in its full length; `verify` reads and checks every byte.

        Raises:
            InputError: there is no store, it is incomplete, or its files are not what `meta.json` says; lists all.
        """
        store = cls(path, _read_meta(path))
        problems = list(store._wrong_lengths())
        raise_all(problems, f"{path} is damaged; {AGAIN}")
        if verify:
            store.verify()
        return store

    @property
    def splits(self) -> tuple[SplitName, ...]:
        """The splits in the order of the index; one may have no rows."""
        return SPLITS

    def load(self, split: SplitName) -> Split:
        """One split's arrays, read once and kept.

        Raises:
            InputError: no such split, or arrays of another shape or type than `meta.json` says.
        """
        if split not in SPLITS:
            raise InputError(f"{split!r} is no split; {nearest(split, SPLITS)}")
        if split not in self._loaded:
            rows = self.meta.rows[split]
            self._loaded[split] = Split(
                self._features(split),
                self._read(f"{split}/labels", (rows,), np.int32),
                self._read(f"{split}/valid", (rows,), np.bool_),
            )
        return self._loaded[split]

    def patches(self, split: SplitName, rows: NDArray[np.int64]) -> NDArray[np.float16] | None:
        """(n, P, D) float16 patch tokens of some of a split's rows; None where none are stored. They are not kept."""
        if not self.meta.patches:
            return None
        shape = (self.meta.rows[split], self.meta.patches, self.meta.dim)
        return self._read(f"{split}/patches", shape, np.float16, rows)

    def info(self) -> str:
        """What the store holds and what made it, for people."""
        meta = self.meta
        size = sum(facts.bytes for facts in meta.files.values())
        rows = (f"  {split:<6} {meta.shape(split)[0]:>9,} images x {meta.shape(split)[1]} crops" for split in SPLITS)
        return "\n".join(
            [
                f"{self.path}: {meta.dim}-dimensional features, {size / 1e6:.1f} MB in {len(meta.files)} files",
                *rows,
                f"  encoder {meta.encoder}, weights {meta.weights_sha256[:12]}, computed in {meta.precision}",
                *self._views(),
                *([f"  {meta.patches} patch tokens of each centre crop"] if meta.patches else []),
                f"  index {meta.index_sha256[:12]}, {meta.classes} classes",
            ]
        )

    def _views(self) -> list[str]:
        meta = self.meta
        if meta.imported is not None:
            origin = meta.imported
            return [f"  imported from {origin.suffix or 'a folder'} {origin.sha256[:12]}, {origin.dtype} there"]
        low, high = meta.view_scale
        return [
            f"  views {meta.views}, area {low:g} to {high:g}, seed {meta.view_seed}",
            f"  crops {json.dumps(meta.preprocess)}",
        ]

    def verify(self) -> None:
        """Read every byte and check it.

        Raises:
            InputError: lists every file that is missing, too many or changed, every feature that is not finite and
                every label that is no class.
        """
        problems = list(self._wrong_lengths()) or list(self._wrong_files())
        if not problems:
            problems = [problem for split in SPLITS for problem in self._wrong_values(split)]
        raise_all(problems, f"{self.path} is damaged; {AGAIN}")

    def _features(self, split: SplitName) -> NDArray[np.float16]:
        path = self.path / split / "features"
        try:
            return read_features(path, self.meta.shape(split))
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise InputError(f"{path} cannot be read: {error}; {AGAIN}") from error

    def _read(
        self, name: str, shape: tuple[int, ...], dtype: type[np.generic], rows: NDArray[np.int64] | None = None
    ) -> NDArray[Any]:
        """A whole array, or some of its rows."""
        try:
            array = zarr.open_array(store=self.path / name, mode="r", zarr_format=3)
            if (array.shape, array.dtype) != (shape, np.dtype(dtype)):
                raise InputError(f"{self.path}/{name} is {array.dtype} {array.shape}, not {np.dtype(dtype)} {shape}")
            refuse_other_codecs(array, self.path / name)
            return np.asarray(array[...] if rows is None else array.oindex[rows])
        except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
            raise InputError(f"{self.path}/{name} cannot be read: {error}; {AGAIN}") from error

    def _wrong_lengths(self) -> Iterator[str]:
        for name, facts in self.meta.files.items():
            file = self.path / name
            if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
                yield f"{name} leaves the store"
            elif not file.is_file():
                yield f"{name} is missing"
            elif (found := file.stat().st_size) != facts.bytes:
                yield f"{name} has {found:,} bytes, not {facts.bytes:,}"
        for split in SPLITS:
            n, k, d = self.meta.shape(split)
            for kind, claimed in {"features": 2 * n * k * d, "labels": 4 * n, "valid": n}.items():
                files = self.meta.files.items()
                held = sum(facts.bytes for name, facts in files if name.startswith(f"{split}/{kind}/c/"))
                if claimed > held:
                    yield f"{split}/{kind} claims {claimed:,} bytes, but its files hold {held:,}"

    def _wrong_files(self) -> Iterator[str]:
        for name, facts in self.meta.files.items():
            if sha256(self.path / name) != facts.sha256:
                yield f"{name}: its bytes have changed"
        there = {file.relative_to(self.path).as_posix() for file in self.path.rglob("*") if file.is_file()}
        yield from (f"{name} does not belong here" for name in sorted(there - {*self.meta.files, META, MARK}))

    def _wrong_values(self, split: SplitName) -> Iterator[str]:
        found = ImageStore(self.path, self.meta).load(split)  # not kept: `verify` may read more than fits
        finite = np.isfinite(found.features).all(axis=(1, 2)) | ~found.valid
        for rows in np.array_split(np.arange(len(finite)), len(finite) // 512 + 1):  # as many as a shard has
            patches = self.patches(split, rows)
            finite[rows] &= True if patches is None else np.isfinite(patches).all(axis=(1, 2))
        if not finite.all():
            count, first = np.count_nonzero(~finite), finite.argmin()
            yield f"{split}: features of {count} rows are not finite, the first is row {first}"
        strange = (found.labels < 0) | (found.labels >= self.meta.classes)
        if strange.any():
            yield f"{split}: {np.count_nonzero(strange)} labels are not in 0 to {self.meta.classes - 1}"


def _read_meta(path: Path) -> Meta:
    if not path.is_dir():
        raise InputError(f"there is no feature store {path}: `dvc repro` makes it, `dvc pull` brings it")
    if not (path / META).exists():
        raise InputError(f"{path} is no complete feature store, for it has no {META}; {AGAIN}")
    with wrap_parser_errors(path / META, AGAIN):
        text = (path / META).read_text(encoding="utf-8")
        values = json.loads(text, parse_constant=int)  # refuses NaN, which is no JSON
    if isinstance(values, dict) and values.get("format") != FORMAT:
        raise InputError(f"{path} has the format {values.get('format')!r}, this program reads {FORMAT!r}; {AGAIN}")
    facts = {key: value for key, value in values.items() if key != CHECKSUM} if isinstance(values, dict) else values
    meta = parse(Meta, facts, str(path / META))
    if text != with_checksum(facts):
        raise InputError(f"{path / META} is damaged: its bytes are not those that were written; {AGAIN}")
    return meta

"""Exchange of features with other programs: exact round trips, and refusal of incomplete files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from lab_files import (
    IDS,
    LABELS,
    MAKERS,
    NAMES,
    ROWS,
    SPLITS,
    clip_benchmark,
    lab_request,
    request_for,
)
from numpy.typing import NDArray
from pictures import make_images
from small_image_store import FACTS, small_shards, write, write_with  # noqa: F401 (the fixture makes shards small)

from features.datasets.base import reader_from
from features.errors import InputError
from features.exchange.diff import differences
from features.exchange.exporter import export
from features.exchange.importer import read_features, save_features
from features.exchange.rows import ImportRequest
from features.image_store.store import ImageStore
from features.image_store.writer import index_sha256
from features.index import read_names
from features.index_table import read_index


def import_into(request: ImportRequest, folder: Path) -> ImageStore:
    """Import a file into the folder; return its store."""
    store = folder / f"{request.dataset}.zarr"
    save_features(
        read_features(request),
        store=store,
        table=folder / f"{request.dataset}.parquet",
        names=folder / f"{request.dataset}.json",
        scratch=folder / "scratch",
    )
    return ImageStore.open(store)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> ImageStore:
    """A store of 37 training images in 5 crops, two of each family of views, and 70 test images in one."""
    folder = tmp_path_factory.mktemp("exported")
    facts = {**FACTS, "view_families": {"wide": [0.08, 1.0]}}
    index = make_images(folder / "images", {"train": 37, "val": 0, "test": 70})
    return ImageStore.open(write_with(facts, folder / "a.zarr", index))


@pytest.mark.parametrize("suffix", ["h5", "parquet", "npz"])
def test_an_export_is_imported_bit_for_bit(exported: ImageStore, suffix: str, tmp_path: Path) -> None:
    out = tmp_path / f"out.{suffix}"
    export(exported, out, table=None, names=None)
    (tmp_path / "names.txt").write_text("cat\nsea horse\nkite\n", encoding="utf-8")
    again = import_into(ImportRequest(out, "lab", classes=tmp_path / "names.txt"), tmp_path)
    again.verify()
    for name in exported.splits:
        ours, theirs = exported.load(name), again.load(name)
        assert ours.features.shape == theirs.features.shape
        assert ours.features.tobytes() == theirs.features.tobytes()
        assert np.array_equal(ours.labels, theirs.labels)
        assert np.array_equal(ours.valid, theirs.valid)
    assert [line.partition(":")[0] for line in differences(exported, again)] == ["index_sha256"]
    assert again.meta.weights_sha256 == exported.meta.weights_sha256
    assert again.meta.imported is None
    assert again.meta.view_families == {"wide": [0.08, 1.0]}


@pytest.mark.parametrize("make", MAKERS)
def test_features_of_other_programs_become_a_store(make: Callable[[Path], Path], tmp_path: Path) -> None:
    store = import_into(request_for(make, tmp_path), tmp_path)
    store.verify()
    for name in ("train", "test"):
        mine = name == SPLITS
        assert store.load(name).features[:, 0].tobytes() == ROWS[mine].tobytes()  # type: ignore[arg-type]
        assert np.array_equal(store.load(name).labels, LABELS[mine])  # type: ignore[arg-type]
    assert store.meta.encoder == "tiny"
    assert store.meta.imported is not None
    assert "imported from" in store.info()
    assert read_names(tmp_path / "lab.json").classes == NAMES
    index = read_index(tmp_path / "lab.parquet")
    assert index_sha256(index) == store.meta.index_sha256
    if make is not clip_benchmark:  # which knows no ids
        assert index.paths == tuple(IDS)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_rounding_is_asked_for(kind: type, tmp_path: Path) -> None:
    np.savez(tmp_path / "lab.npz", features=ROWS.astype(kind) * kind(1.0001), labels=LABELS, splits=SPLITS)
    (tmp_path / "names.txt").write_text("\n".join(NAMES), encoding="utf-8")
    request = lab_request(tmp_path / "lab.npz", classes=tmp_path / "names.txt")
    with pytest.raises(InputError, match=r"float(32|64).*float16.*--to-float16"):
        read_features(request)
    store = import_into(lab_request(tmp_path / "lab.npz", classes=tmp_path / "names.txt", to_float16=True), tmp_path)
    rounded = (ROWS.astype(kind) * kind(1.0001)).astype(np.float16)
    assert store.load("test").features[:, 0].tobytes() == rounded[3:].tobytes()


WRONG: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "no encoder": ({}, {"encoder": None}, "--encoder"),
    "no hash": ({}, {"weights_sha256": "abc"}, "'abc'.*sha256"),
    "no split": ({"splits": None}, {}, "splits: .*--split"),
    "no labels": ({"labels": None}, {}, "labels: .*--key labels="),
    "unknown split": ({"splits": np.array(["train"] * 5 + ["dev"])}, {}, "'dev'"),
    "no names": ({}, {"classes": None}, "--classes"),
    "too few names": ({"labels": LABELS + 1}, {}, "1 to 3.* 3 classes"),
    "unknown name": ({"labels": np.array(["cat"] * 5 + ["kit"])}, {}, "'kit' .*'kite'"),
    "lengths": ({"labels": LABELS[:5]}, {}, "labels has 5 rows, features 6"),
    "whole numbers": ({"features": LABELS[:, None]}, {}, "features has dtype"),
    "one row": ({"features": ROWS[0]}, {}, "features has dtype"),
    "infinite": (
        {"features": np.where(LABELS[:, None] == 2, np.inf, ROWS).astype("f2")},
        {},
        "not finite, the first is row 2",
    ),
    "zero": ({"features": np.where(LABELS[:, None] == 2, 0, ROWS).astype("f2")}, {}, "zero.* the first is row 2"),
    "no rows": ({"features": ROWS[:0], "labels": LABELS[:0], "splits": SPLITS[:0]}, {}, r"no values.*\(0, "),
    "no columns": ({"features": ROWS[:, :0]}, {}, r"no values.*\(6, 0\)"),
    "too large": ({"features": ROWS.astype("f4") * 1e6}, {"to_float16": True}, "beyond float16"),
    "twice": ({"ids": np.array(["a"] * 6)}, {}, "a: .*6 times"),
    "out of the folder": ({"ids": np.array(["../a", *"bcdef"])}, {}, "'../a'"),
    "views": ({"features": np.stack([ROWS, ROWS], 1)}, {}, "test .*views"),
    "key": ({}, {"keys": {"features": "featurs"}}, "no 'featurs'; did you mean 'features'"),
    "field": ({}, {"keys": {"feature": "features"}}, "'feature'.*'features'"),
    "objects": ({"features": np.array([[None]] * 6)}, {}, "features.npy .*object"),
}


@pytest.mark.parametrize("case", WRONG)
def test_an_incomplete_or_contradictory_file_is_refused(case: str, tmp_path: Path) -> None:
    arrays, options, words = WRONG[case]
    held = {"features": ROWS, "labels": LABELS, "splits": SPLITS, **arrays}
    np.savez(tmp_path / "lab.npz", **{name: values for name, values in held.items() if values is not None})
    (tmp_path / "names.txt").write_text("\n".join(NAMES), encoding="utf-8")
    with pytest.raises(InputError, match=words):
        read_features(lab_request(tmp_path / "lab.npz", **{"classes": tmp_path / "names.txt", **options}))


def test_an_export_keeps_its_encoder(exported: ImageStore, tmp_path: Path) -> None:
    export(exported, tmp_path / "out.npz", table=None, names=None)
    with pytest.raises(InputError, match=r"'tiny'.*'other'"):
        read_features(ImportRequest(tmp_path / "out.npz", "lab", encoder="other"))


def test_formats_that_are_unknown_or_only_read_are_refused(exported: ImageStore, tmp_path: Path) -> None:
    (tmp_path / "lab.csv").touch()
    with pytest.raises(InputError, match=r"\.h5, \.mat, \.npy, \.npz, \.parquet, \.pt"):
        read_features(lab_request(tmp_path / "lab.csv"))
    with pytest.raises(InputError, match=r"out\.mat.*\.h5, \.parquet or \.npz"):
        export(exported, tmp_path / "out.mat", table=None, names=None)


def test_diff_measures_what_differs(tmp_path: Path) -> None:
    folder = tmp_path
    index = make_images(folder / "images", {"train": 37, "val": 0, "test": 70})
    store = ImageStore.open(write(folder / "a.zarr", index))
    assert differences(store, store) == []

    def turn(values: NDArray[np.float16]) -> None:
        if values.shape[1] == 1:
            values[0] += np.float16(0.5)

    other = ImageStore.open(write(folder / "b.zarr", index, turn))
    (line,) = differences(store, other)
    assert line.startswith("test: features of 2 of 70 images differ, by at most 0.5")
    smaller = ImageStore.open(
        write(folder / "c.zarr", make_images(folder / "less", {"train": 37, "val": 0, "test": 69}))
    )
    assert any("test" in line and "(70, 1," in line for line in differences(store, smaller))


def test_the_provenance_in_an_export_is_readable_json(exported: ImageStore, tmp_path: Path) -> None:
    export(exported, tmp_path / "out.h5", table=None, names=None)
    with h5py.File(tmp_path / "out.h5") as file:
        facts = json.loads(file.attrs["shipyard"])["facts"]
    assert {key: facts[key] for key in FACTS} == FACTS


def test_imported_features_are_never_computed_again(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"dvc commit --force index@.* extract@"):
        reader_from({"reader": "imported"}, "here").folder(tmp_path)

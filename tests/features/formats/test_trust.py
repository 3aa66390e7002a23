"""Untrusted files: nothing in them is executed, no link out of them is followed, and no claimed size is trusted."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import fuzz_importers
import h5py
import numpy as np
import pyarrow as pa
import pytest
import torch
import zarr
from lab_files import LABELS, ROWS, SPLITS, lab_request
from project_root import ROOT
from small_files import reseal, write_train

from features.errors import InputError
from features.exchange.importer import read_features
from features.formats.parquet import write_sealed
from features.image_store.store import META, ImageStore
from features.index_table import SCHEMA, read_index
from pipeline.artifacts.task import load_train

SOURCES = [path for layer in ("features", "pipeline", "stages") for path in sorted((ROOT / layer).rglob("*.py"))]
RUNS = {
    "eval",
    "exec",
    "compile",
    "__import__",
    "extractall",
    "unsafe_load",
    "full_load",
    "load_pickle",
    "system",
    "popen",
}
PICKLES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
# Only for `pickle.UnpicklingError`, which torch raises for files that hold more than tensors.
ALLOWED = {"features/encoding/encoder.py": {"import pickle"}}


def suspicious(tree: ast.Module) -> Iterator[str]:
    """Yield calls and imports that could execute the content of a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            yield from (f"import {name}" for name in names if name.partition(".")[0] in PICKLES)
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        name = called.rpartition(".")[2]
        keywords = {word.arg: ast.unparse(word.value) for word in node.keywords}
        if name in RUNS and called not in ("re.compile", "torch.compile") and not called.endswith(".eval"):
            yield called
        if called == "torch.load" and keywords.get("weights_only") != "True":
            yield "torch.load without weights_only=True"
        if called in ("torch.jit.load", "yaml.load", "pickle.load", "pickle.loads"):
            yield called
        if called == "np.load" and keywords.get("allow_pickle") != "False":
            yield "np.load without allow_pickle=False"
        if keywords.get("allow_pickle") == "True" or keywords.get("shell") == "True":
            yield f"{called} with {keywords}"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_source_executes_the_content_of_a_file(path: Path) -> None:
    calls = {*suspicious(ast.parse(path.read_text(encoding="utf-8")))}
    assert calls - ALLOWED.get(path.relative_to(ROOT).as_posix(), set()) == set()


def test_the_search_for_executing_calls_finds_them() -> None:
    bad = ["eval(x)", "import pickle", "torch.load(f)", "np.load(f)", "yaml.load(f)", "archive.extractall()", "exec(s)"]
    assert all([*suspicious(ast.parse(code))] for code in bad)
    assert not [*suspicious(ast.parse("model.eval(); re.compile(x); np.load(f, allow_pickle=False)"))]


class Program:
    """An object whose pickle creates a file when it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (Path("executed"),))


def test_pickled_programs_do_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"features": torch.from_numpy(ROWS), "labels": Program()}, tmp_path / "lab.pt")
    np.savez(tmp_path / "lab.npz", features=ROWS, labels=np.array([Program()] * 6, object), splits=SPLITS)
    np.save(tmp_path / "lab.npy", np.array([[Program()]], object))
    for suffix in ("pt", "npz", "npy"):
        with pytest.raises(InputError):
            read_features(lab_request(tmp_path / f"lab.{suffix}", split="train"))
    assert not (tmp_path / "executed").exists()


ONLY_OPENED_IN = {
    "h5py.File": "features/formats/hdf5.py",
    "pq.ParquetFile": "features/formats/parquet.py",
    "pq.read_table": "nowhere: it trusts the footer",
    "scipy.io.loadmat": "features/formats/matlab.py",
    "scipy.io.whosmat": "features/formats/matlab.py",
}


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_only_the_checked_readers_open_a_format(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and (module := ONLY_OPENED_IN.get(ast.unparse(node.func))):
            assert path.relative_to(ROOT).as_posix() == module, f"line {node.lineno}: only {module} may"


def lab_h5(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["features"], file["labels"] = ROWS, LABELS
        file["splits"] = SPLITS.astype(h5py.string_dtype())
    return path


@pytest.mark.parametrize("kind", ["external link", "soft link", "external storage", "virtual"])
def test_links_in_hdf5_are_not_followed(kind: str, tmp_path: Path) -> None:
    lab_h5(tmp_path / "secret.h5")
    (tmp_path / "secret.raw").write_bytes(ROWS.tobytes())
    with h5py.File(lab_h5(tmp_path / "lab.h5"), "a") as file:
        del file["features"]
        if kind == "external link":
            file["features"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/features")
        elif kind == "soft link":
            file["features"] = h5py.SoftLink("/labels")
        elif kind == "external storage":
            outside = [(str(tmp_path / "secret.raw"), 0, h5py.h5f.UNLIMITED)]
            file.create_dataset("features", ROWS.shape, ROWS.dtype, external=outside)
        else:
            layout = h5py.VirtualLayout(ROWS.shape, ROWS.dtype)
            layout[:] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "features", ROWS.shape)
            file.create_virtual_dataset("features", layout)
    with pytest.raises(InputError, match=r"lab\.h5.*(link|other files)"):
        read_features(lab_request(tmp_path / "lab.h5"))


def test_links_in_a_task_file_are_not_followed(tmp_path: Path) -> None:
    write_train(tmp_path / "train.h5")
    with h5py.File(tmp_path / "train.h5", "a") as file:
        del file["seed=1/features"]
        file["seed=1/features"] = h5py.ExternalLink("/etc/other.h5", "/x")
    reseal(tmp_path / "train.h5")
    with pytest.raises(InputError, match=r"train\.h5.*link"):
        load_train(tmp_path / "train.h5").seed(1)


HUGE = 10**15


def huge_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", (HUGE, 4), np.float16, chunks=(1024, 4))


def huge_npy(path: Path) -> None:
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "<f2", "fortran_order": False, "shape": (HUGE, 4)})


def huge_npz(path: Path) -> None:
    import zipfile  # noqa: PLC0415 (here alone)

    huge_npy(path.with_suffix(".npy"))
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(path.with_suffix(".npy"), "features.npy")


def huge_pt(path: Path) -> None:
    torch.save({"features": torch.zeros(1, dtype=torch.float16).expand(HUGE, 4)}, path)


@pytest.mark.parametrize("suffix", ["h5", "npy", "npz", "pt"])
def test_a_claimed_size_is_checked(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"lab.{suffix}"
    {"h5": huge_h5, "npy": huge_npy, "npz": huge_npz, "pt": huge_pt}[suffix](path)
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError):
        read_features(lab_request(path, split="train"))


def test_a_store_that_claims_more_rows_than_it_holds_is_refused(tmp_path: Path) -> None:
    fuzz_importers.store(tmp_path)
    path = tmp_path / "a.zarr"
    array = json.loads((path / "train/features/zarr.json").read_text(encoding="utf-8"))
    array["shape"][0] = HUGE
    text = json.dumps(array)
    (path / "train/features/zarr.json").write_text(text, encoding="utf-8")
    meta = json.loads((path / META).read_text(encoding="utf-8"))
    meta["rows"]["train"] = HUGE
    meta["files"]["train/features/zarr.json"]["bytes"] = len(text)
    (path / META).write_text(json.dumps(meta), encoding="utf-8")
    with pytest.raises(InputError, match=r"claims [\d,]+ bytes|damaged"):
        ImageStore.open(path)


def test_foreign_codecs_of_a_store_are_refused(tmp_path: Path) -> None:
    fuzz_importers.store(tmp_path)
    store = ImageStore.open(tmp_path / "a.zarr")
    labels = ImageStore.open(tmp_path / "a.zarr").load("train").labels
    path = tmp_path / "a.zarr/train/labels"
    zarr.create_array(path, data=labels, chunks=labels.shape, compressors=zarr.codecs.GzipCodec(), overwrite=True)
    with pytest.raises(InputError, match="gzip"):
        store.load("train")


def test_paths_of_an_index_stay_in_its_folder(tmp_path: Path) -> None:
    columns = {"path": ["../secret.jpg"], "class_id": [0], "split": ["train"], "bytes": [1], "sha256": ["0" * 64]}
    write_sealed(pa.table(columns, schema=SCHEMA), tmp_path / "x.parquet")
    with pytest.raises(InputError, match=r"'\.\./secret\.jpg'"):
        read_index(tmp_path / "x.parquet")


@pytest.mark.system
def test_mutated_files_are_read_or_refused() -> None:
    counts, failures = fuzz_importers.fuzz(seconds=5, seed=7)
    assert failures == []
    assert sum(count["refused"] for count in counts.values()) > 0

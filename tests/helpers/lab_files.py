"""Files of features as other programs write them, and the request that imports each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.io
import torch
from numpy.typing import NDArray

from features.exchange.rows import ImportRequest

SHA = "0" * 64


RNG = np.random.default_rng(0)


ROWS, LABELS = RNG.normal(size=(6, 4)).astype(np.float16), np.array([0, 1, 2, 0, 1, 2])


SPLITS = np.array(["train", "train", "train", "test", "test", "test"])


IDS = np.array([f"{number}.jpg" for number in range(6)])


NAMES = ("cat", "sea horse", "kite")


def lab_request(source: Path, **more: Any) -> ImportRequest:
    return ImportRequest(source, "lab", **{"encoder": "tiny", "weights_sha256": SHA, **more})


def h5(folder: Path) -> Path:
    with h5py.File(folder / "lab.h5", "w") as file:
        file["img_emb"], file["labels"] = ROWS, LABELS
        file["splits"], file["ids"] = SPLITS.astype(h5py.string_dtype()), IDS.astype(h5py.string_dtype())
    return folder / "lab.h5"


def parquet(folder: Path) -> Path:
    columns = {"img_emb": list(ROWS), "labels": [NAMES[label] for label in LABELS], "splits": SPLITS, "ids": IDS}
    pq.write_table(pa.table(columns), folder / "lab.parquet")
    return folder / "lab.parquet"


def npz(folder: Path) -> Path:
    np.savez_compressed(folder / "lab.npz", img_emb=ROWS, labels=LABELS, splits=SPLITS, ids=IDS, other=np.ones(3))
    return folder / "lab.npz"


def pt(folder: Path) -> Path:
    torch.save({"img_emb": torch.from_numpy(ROWS), "labels": torch.from_numpy(LABELS)}, folder / "lab.pt")
    return folder / "lab.pt"


def npy(folder: Path) -> Path:
    np.save(folder / "lab.npy", ROWS)
    return folder / "lab.npy"


def clip_benchmark(folder: Path) -> Path:
    (folder / "lab").mkdir()
    for split in ("train", "test"):
        mine = torch.from_numpy(split == SPLITS)
        torch.save(torch.from_numpy(ROWS)[mine], folder / f"lab/features_{split}.pt")
        torch.save(torch.from_numpy(LABELS)[mine], folder / f"lab/targets_{split}.pt")
    return folder / "lab"


def clip_retrieval(folder: Path) -> Path:
    for part, rows in enumerate((slice(0, 4), slice(4, 6))):
        for kind in ("img_emb", "metadata"):
            (folder / "lab" / kind).mkdir(parents=True, exist_ok=True)
        np.save(folder / f"lab/img_emb/img_emb_{part}.npy", ROWS[rows])
        table = pa.table({"image_path": IDS[rows], "caption": [NAMES[label] for label in LABELS[rows]]})
        pq.write_table(table, folder / f"lab/metadata/metadata_{part}.parquet")
    return folder / "lab"


def cells(texts: NDArray[Any]) -> NDArray[Any]:
    array = np.empty((len(texts), 1), object)
    array[:, 0] = [np.array([text]) for text in texts]
    return array


LOCATIONS = {"trainval_loc": [1, 2, 3], "test_seen_loc": [4, 5], "test_unseen_loc": [6]}


def mat(folder: Path) -> Path:
    images = {"features": ROWS.T.astype(np.float64), "labels": LABELS[:, None] + 1.0, "image_files": cells(IDS)}
    scipy.io.savemat(folder / "res101.mat", images, do_compression=True)
    places = {name: np.array(rows, np.float64)[:, None] for name, rows in LOCATIONS.items()}
    scipy.io.savemat(folder / "att_splits.mat", {**places, "allclasses_names": cells(np.array(NAMES))})
    return folder / "res101.mat"


def mat_7_3(folder: Path) -> Path:
    def put(file: h5py.File, name: str, texts: NDArray[Any]) -> None:
        references = [file.create_dataset(f"#refs#/{name}{i}", data=_utf16(text)).ref for i, text in enumerate(texts)]
        file.create_dataset(name, data=np.array([references], h5py.ref_dtype))

    with h5py.File(folder / "res101.mat", "w", userblock_size=512) as file:
        file["features"], file["labels"] = ROWS.astype(np.float64), LABELS[None] + 1.0
        put(file, "image_files", IDS)
    with h5py.File(folder / "att_splits.mat", "w", userblock_size=512) as file:
        for name, rows in LOCATIONS.items():
            file[name] = np.array([rows], np.float64)
        put(file, "allclasses_names", np.array(NAMES))
    return folder / "res101.mat"


def _utf16(text: str) -> NDArray[Any]:
    return np.frombuffer(text.encode("utf-16-le"), np.uint16)[:, None]


RENAMED = {"keys": {"features": "img_emb"}}


MAKERS: dict[Callable[[Path], Path], dict[str, Any]] = {
    h5: RENAMED,
    parquet: RENAMED,
    npz: RENAMED,
    pt: {**RENAMED, "rows": "splits,ids"},
    npy: {"rows": "labels,splits,ids"},
    clip_benchmark: {},
    clip_retrieval: {"keys": {"labels": "caption"}, "rows": "splits"},
    mat: {"to_float16": True, "classes": None},
    mat_7_3: {"to_float16": True, "classes": None},
}


def request_for(make: Callable[[Path], Path], folder: Path) -> ImportRequest:
    """Return the request with the options that the file of `make` needs."""
    options = {"classes": folder / "names.txt", **MAKERS[make]}
    (folder / "names.txt").write_text("\n".join(NAMES), encoding="utf-8")
    if "rows" in options:
        columns = {"labels": [NAMES[label] for label in LABELS], "splits": SPLITS, "ids": IDS}
        names = options["rows"].split(",")
        lines = [",".join(names), *(",".join(str(columns[name][row]) for name in names) for row in range(6))]
        (folder / "rows.csv").write_text("\n".join(lines), encoding="utf-8")
        options["rows"] = folder / "rows.csv"
    return lab_request(make(folder), **options)

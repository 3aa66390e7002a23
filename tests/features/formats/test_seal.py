"""A file of this project holds its digest, and a reader finds each byte that changed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from small_files import write_classes, write_synthetic, write_tensors, write_test, write_train

from features.errors import InputError
from features.formats.files import atomic_file, atomic_folder
from features.formats.seal import check_listed, read_sealed_json, write_sealed_json
from features.formats.tensors import read_tensors
from features.synthetic_store import load_synthetic
from features.text.classes import load_classes
from pipeline.artifacts.task import load_test, load_train

READERS: list[tuple[Callable[[Path], None], Callable[[Path], object]]] = [
    (write_train, load_train),
    (write_test, load_test),
    (write_classes, load_classes),
    (write_tensors, read_tensors),
    (lambda path: write_sealed_json(path, {"a": [1, 2]}), lambda path: read_sealed_json(path, "")),
]


@pytest.mark.parametrize(("write", "read"), READERS)
def test_a_changed_byte_anywhere_is_found(
    write: Callable[[Path], None], read: Callable[[Path], object], tmp_path: Path
) -> None:
    path = tmp_path / "x"
    write(path)
    read(path)
    data = path.read_bytes()
    for at in range(0, len(data), max(1, len(data) // 200)):
        path.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with pytest.raises(InputError, match=f"{path}.*verify"):
            read(path)


def test_a_changed_byte_of_synthetic_features_is_found(tmp_path: Path) -> None:
    write_synthetic(tmp_path)
    (shard,) = (tmp_path / "seed=3").glob("*.parquet")
    data = shard.read_bytes()
    for at in range(len(data)):
        shard.write_bytes(data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
        with pytest.raises(InputError, match="part-00000"):
            load_synthetic(tmp_path / "seed=3")


def test_a_changed_text_of_a_folder_is_found(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "out") as part:
        (part / "a.csv").write_text("x\n1\n")
    check_listed(tmp_path / "out/a.csv")
    (tmp_path / "out/a.csv").write_text("x\n2\n")
    with pytest.raises(InputError, match=r"a\.csv"):
        check_listed(tmp_path / "out/a.csv")
    with pytest.raises(InputError, match=r"b\.csv"):
        check_listed(tmp_path / "out/b.csv")


def test_the_metadata_that_a_reader_gets_have_no_digest(tmp_path: Path) -> None:
    write_tensors(tmp_path / "x")
    tensors, metadata = read_tensors(tmp_path / "x", torch.device("cpu"))
    assert set(metadata) == {"weights_sha256", "other", "third"}
    assert set(tensors) == {"a", "b"}


def test_an_error_names_the_file_that_failed_beside_the_one_that_was_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"out\b.*absent\.txt"), atomic_file(tmp_path / "out"):
        (tmp_path / "absent.txt").read_text(encoding="utf-8")
    with pytest.raises(InputError) as error, atomic_folder(tmp_path / "out") as part:
        (part / "none/own.txt").write_text("x", encoding="utf-8")
    assert str(part) not in str(error.value)

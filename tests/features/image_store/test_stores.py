"""Class texts, synthetic features, tasks and tensors on disk: exact, reproducible, and clear when missing."""

from __future__ import annotations

import errno
import resource
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch
from small_files import (
    HEADER,
    TOWER,
    WRITERS,
    rows,
    write_synthetic,
    write_tensors,
    write_test,
    write_train,
)

from features.errors import InputError
from features.formats.tensors import load_tensors, read_tensors
from features.synthetic_store import SyntheticFeatures, load_synthetic, save_synthetic
from features.text.classes import ClassTexts, encode_classes, load_classes, save_classes
from pipeline.artifacts.paths import TaskPaths
from pipeline.artifacts.task import (
    TrainTask,
    load_task,
    load_test,
    load_train,
    save_train,
)


@pytest.mark.parametrize("write", WRITERS)
def test_the_same_content_gives_the_same_bytes(write: Callable[[Path], None], tmp_path: Path) -> None:
    def content(path: Path) -> dict[str, bytes]:
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        return {str(file.relative_to(path)): file.read_bytes() for file in files}

    write(tmp_path / "one")
    write(tmp_path / "two")
    assert content(tmp_path / "one") == content(tmp_path / "two")


@pytest.mark.parametrize("write", WRITERS)
def test_a_full_disk_is_a_plain_error(write: Callable[[Path], None], tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))  # bytes of any file of this process
    try:
        with pytest.raises(InputError, match=r"cannot write .*File too large"):
            write(tmp_path / "x")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_read_only_disk_is_a_plain_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "unlink", refuse)  # such a disk refuses even to unlink a missing file
    with pytest.raises(InputError, match=r"cannot write .*Read-only file system"):
        write_tensors(tmp_path / "x")


def test_class_texts_round_trip(tmp_path: Path) -> None:
    texts = encode_classes(["cat", "sea_horse"], ["a {}.", "the {}, seen"], TOWER, missing=3)
    save_classes(texts, tmp_path / "c.h5")
    again = load_classes(tmp_path / "c.h5")
    for name, value in vars(texts).items():
        np.testing.assert_array_equal(getattr(again, name), value)
    assert again.text_features.shape == (2, 2, 32)


def test_a_description_is_encoded_with_the_name_in_every_template() -> None:
    described = encode_classes(["cat", "sea_horse"], ["a {}."], TOWER, descriptions={"sea_horse": "a fish"})
    spelled_out = encode_classes(["cat", "sea horse, a fish"], ["a {}."], TOWER)
    assert np.array_equal(described.text_features, spelled_out.text_features)
    assert np.array_equal(described.tokens, encode_classes(["cat", "sea_horse"], ["a {}."], TOWER).tokens)


def test_an_added_class_changes_no_other_by_a_bit() -> None:
    names, templates = ["cat", "sea_horse", "grand piano"], ["a {}.", "the {}, seen"]
    tower = tiny.tower(width=48, embed_dim=64)  # wide enough that sums round otherwise in another batch
    before = encode_classes(names, templates, tower)
    for number in range(1, 9):
        more = encode_classes([*names, *("a very long name " * i for i in range(1, number + 1))], templates, tower)
        assert np.array_equal(more.text_features[:, :3], before.text_features)
        assert np.array_equal(more.zero_shot_weights()[:3], before.zero_shot_weights())


def test_zero_shot_weights_average_unit_vectors_not_raw_ones() -> None:
    raw = np.array([[[3.0, 0.0]], [[0.0, 1.0]]], np.float32)
    texts = ClassTexts(("x",), ("a", "b"), np.zeros((1, 1), np.int64), raw, 1.0, "e", "0")
    np.testing.assert_allclose(texts.zero_shot_weights(), [[0.5**0.5, 0.5**0.5]], rtol=1e-6)


def test_train_task_gives_the_seed_asked_for_and_no_other(tmp_path: Path) -> None:
    write_train(tmp_path / "train.h5")
    task = load_train(tmp_path / "train.h5")
    assert task.header == HEADER
    assert task.classes.names == tiny.NAMES
    np.testing.assert_array_equal(task.seed(2).features.numpy(), rows(9, 3).features.astype(np.float32))
    with pytest.raises(InputError, match="no seed 7"):
        task.seed(7)


def test_the_classes_of_a_task_are_the_seen_ones_and_then_those_of_their_own_file(tmp_path: Path) -> None:
    names = ("cat", "dog", "kite", "drum", "grand piano", "owl")
    cell, classes = TaskPaths(tmp_path, "d", "t"), tiny.classes(TOWER, names=names)
    seen, unseen = classes.subset(classes.seen_ids), classes.subset(classes.unseen_ids)
    assert seen.tokens.shape[1] == unseen.tokens.shape[1] - 1, "a name of two words must not widen the others"
    save_train(cell.train, HEADER, seen, {1: rows(8, 3)})
    save_train(cell.unseen, HEADER, unseen, {})
    task = load_task(cell)
    for name, value in vars(classes).items():
        loaded = getattr(task.classes, name)
        assert torch.equal(loaded, value) if isinstance(value, torch.Tensor) else loaded == value
    assert load_train(cell.train).classes.names == names[:4]
    assert len(task.seed(1)) == 8
    save_train(cell.unseen, HEADER, classes.subset(classes.unseen_ids[:0]), {})
    assert load_task(cell).classes.names == names[:4], "no class is unseen"
    save_train(cell.unseen, replace(HEADER, weights_sha256="1" * 64), unseen, {})
    with pytest.raises(InputError, match=r"train\.h5.*unseen\.h5"):
        load_task(cell)


def test_test_task_round_trip(tmp_path: Path) -> None:
    write_test(tmp_path / "test.h5")
    header, eval_splits = load_test(tmp_path / "test.h5")
    assert header == HEADER
    assert [eval_split.name for eval_split in eval_splits] == ["base", "new"]
    np.testing.assert_array_equal(eval_splits[0].rows.features, rows(5, 1).features)


def test_a_text_tower_of_another_encoder_is_refused(tmp_path: Path) -> None:
    write_train(tmp_path / "train.h5")
    task: TrainTask = load_train(tmp_path / "train.h5")
    task.check_tower(TOWER)
    other = TOWER.config.__class__(**{**vars(TOWER.config), "weights_sha256": "f" * 64, "encoder": "other"})
    tower = tiny.tower()
    tower.config = other
    with pytest.raises(InputError, match=r"'tiny' .* 'other'"):
        task.check_tower(tower)


def test_synthetic_round_trip_over_several_shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("features.synthetic_store.ROWS_PER_SHARD", 4)
    write_synthetic(tmp_path)
    folder = tmp_path / "seed=3"
    assert sorted(path.name for path in folder.glob("*.parquet")) == ["part-00000.parquet", "part-00001.parquet"]
    again = load_synthetic(folder)
    np.testing.assert_array_equal(again.features, rows(6, 1).features[:, 0])
    assert again.features.dtype == np.float16
    assert list(again.class_names) == list("abcdef")
    assert again.generator_sha256 == "1" * 64


def test_non_finite_synthetic_features_are_refused(tmp_path: Path) -> None:
    broken = np.full((2, 4), np.nan, np.float16)
    save_synthetic(SyntheticFeatures(broken, np.arange(2), ["a", "b"], 1, "0"), tmp_path / "seed=1")
    with pytest.raises(InputError, match="not finite"):
        load_synthetic(tmp_path / "seed=1")


def test_tensors_written_for_other_weights_are_refused(tmp_path: Path) -> None:
    write_tensors(tmp_path / "w")
    tensors, metadata = read_tensors(tmp_path / "w")
    assert metadata == {"weights_sha256": "0", "other": "1", "third": "2"}
    assert torch.equal(tensors["b"], torch.ones(3, 2))
    with pytest.raises(InputError, match="written for"):
        load_tensors(tmp_path / "w", torch.device("cpu"), weights_sha256="9")


@pytest.mark.parametrize("load", [load_train, load_test, load_classes, load_synthetic, read_tensors])
@pytest.mark.parametrize("content", [None, b"", b"something else altogether", b"\x89HDF\r\n\x1a\nPAR1" + bytes(64)])
def test_a_missing_or_damaged_file_is_a_clear_error(
    load: Callable[[Path], object], content: bytes | None, tmp_path: Path
) -> None:
    path = tmp_path / "seed=1"
    if content is not None and load is load_synthetic:
        path.mkdir()
        (path / "part-00000.parquet").write_bytes(content)
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError):
        load(path)

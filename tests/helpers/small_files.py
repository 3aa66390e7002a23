"""A small file of each kind that the stages write: tasks, class texts, synthetic features, tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tiny
import torch

from features.formats.seal import BLANK, PREFIX, sealed
from features.formats.tensors import save_tensors
from features.synthetic_store import SyntheticFeatures, save_synthetic
from features.text.classes import encode_classes, save_classes
from pipeline.artifacts.task import (
    EvalRows,
    Header,
    Rows,
    save_test,
    save_train,
)

TOWER = tiny.tower()


HEADER = Header("d", "d", "t", "base_to_new", 4, ("base", "new"), "tiny", "0" * 64, missing={"d": 7})


def rows(count: int, views: int) -> Rows:
    rng = np.random.default_rng(count)
    features = rng.normal(size=(count, views, 8)).astype(np.float16)
    return Rows(features, rng.integers(0, 4, count), np.arange(count))


def write_train(path: Path) -> None:
    save_train(path, HEADER, tiny.classes(TOWER), {1: rows(8, 3), 2: rows(9, 3)})


def write_test(path: Path) -> None:
    eval_splits = [EvalRows(name, "micro", np.arange(3), rows(5, 1)) for name in ("base", "new")]
    save_test(path, HEADER, eval_splits, ["cat", "dog", "bird", "fish"], [True, True, False, False])


def write_classes(path: Path) -> None:
    save_classes(encode_classes(["cat", "sea_horse"], ["a {}.", "the {}, seen"], TOWER), path)


def write_synthetic(path: Path) -> None:
    synthetic = SyntheticFeatures(rows(6, 1).features[:, 0], np.arange(6), list("abcdef"), 3, "1" * 64)
    save_synthetic(synthetic, path / "seed=3")


def write_tensors(path: Path) -> None:
    save_tensors({"b": torch.ones(2, 3).T, "a": torch.arange(3)}, path, weights_sha256="0", other="1", third="2")


def reseal(path: Path) -> None:
    """Give a file that was changed the digest of its bytes, as somebody would who means harm."""
    content = path.read_bytes()
    at = content.index(PREFIX.encode())
    path.write_bytes(sealed(content[:at] + BLANK.encode() + content[at + len(BLANK) :]))


WRITERS = [write_train, write_test, write_classes, write_synthetic, write_tensors]

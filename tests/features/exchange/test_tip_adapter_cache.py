"""Cache folders of Tip-Adapter's code, and rows that follow the official split of a published data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from lab_files import lab_request
from torch.nn import functional as F

from features.datasets import dtd
from features.errors import InputError
from features.exchange.importer import read_features
from features.splits.split_zhou import read_split

DIM, SHOTS = 8, 2
CLASSES, ROWS = read_split(dtd.DescribableTextures.packaged_split)  # type: ignore[arg-type]
LABELS = {split: torch.tensor([label for _, label in ROWS[split]]) for split in ("val", "test")}
DRAWN = torch.arange(len(CLASSES)).repeat_interleave(SHOTS)


def unit(rows: int, seed: int) -> torch.Tensor:
    return F.normalize(torch.randn(rows, DIM, generator=torch.Generator().manual_seed(seed)), dim=-1).half()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A folder with two draws of DTD's training images, and all of its validation and test images."""
    folder = tmp_path / "dtd"
    folder.mkdir()
    for shots in (1, SHOTS):
        labels = torch.arange(len(CLASSES)).repeat_interleave(shots)
        torch.save(unit(len(labels), shots).T, folder / f"keys_{shots}shots.pt")
        torch.save(F.one_hot(labels).half(), folder / f"values_{shots}shots.pt")
    for split, labels in LABELS.items():
        torch.save(unit(len(labels), len(split)), folder / f"{split}_f.pt")
        torch.save(labels, folder / f"{split}_l.pt")
    return folder


def test_a_cache_becomes_the_official_split(cache: Path) -> None:
    imported = read_features(lab_request(cache, split_of="dtd"))
    assert imported.listing.classes == CLASSES
    assert imported.listing.templates == ("{} texture.",)
    for split, labels in LABELS.items():
        arrays = imported.splits[split]
        assert arrays.ids == tuple(path for path, _ in ROWS[split])
        assert np.array_equal(arrays.labels, labels)
        assert arrays.features[:, 0].tobytes() == unit(len(labels), len(split)).numpy().tobytes()
    train = imported.splits["train"]
    assert np.array_equal(train.labels, DRAWN)
    assert train.features[:, 0].tobytes() == unit(len(DRAWN), SHOTS).numpy().tobytes()


def test_only_some_classes_are_kept_in_their_order(cache: Path, tmp_path: Path) -> None:
    names = tmp_path / "only.txt"
    names.write_text(f"{CLASSES[7]}\n{CLASSES[3]}\n", encoding="utf-8")
    imported = read_features(lab_request(cache, split_of="dtd", only=names))
    assert imported.listing.classes == (CLASSES[3], CLASSES[7])
    test = imported.splits["test"]
    wanted = [(path, (3, 7).index(label)) for path, label in ROWS["test"] if label in (3, 7)]
    assert list(zip(test.ids, test.labels.tolist(), strict=True)) == wanted
    assert len(imported.splits["train"].ids) == 2 * SHOTS
    names.write_text("striipes\nbandedd\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"'striipes'(.|\n)*'bandedd'; did you mean 'banded'"):
        read_features(lab_request(cache, split_of="dtd", only=names))


def _swap_labels(cache: Path) -> None:
    torch.save(LABELS["val"].flip(0), cache / "val_l.pt")
    torch.save(unit(3, 0), cache / "test_f.pt")
    torch.save(LABELS["test"][:3], cache / "test_l.pt")


def _remove_labels(cache: Path) -> None:
    (cache / "test_l.pt").unlink()
    (cache / f"values_{SHOTS}shots.pt").unlink()


def _soften(cache: Path) -> None:
    torch.save(torch.full((len(DRAWN), len(CLASSES)), 0.5), cache / f"values_{SHOTS}shots.pt")


@pytest.mark.parametrize(
    ("damage", "split_of", "words"),
    [
        (_swap_labels, "dtd", r"val: row 0 has label (.|\n)*test: 3 rows, 1,692"),
        (_remove_labels, "dtd", r"values_2shots\.pt(.|\n)*test_l\.pt"),
        (_soften, "dtd", r"values_2shots\.pt.*one-hot"),
        (lambda _: None, "food101", "food101: .*no split file"),
        (lambda _: None, "dtdd", "'dtd'"),
    ],
)
def test_a_folder_that_contradicts_the_split_is_refused(
    damage: Callable[[Path], None], split_of: str, words: str, cache: Path
) -> None:
    damage(cache)
    with pytest.raises(InputError, match=words):
        read_features(lab_request(cache, split_of=split_of))


def test_without_a_split_the_classes_must_be_named(cache: Path) -> None:
    with pytest.raises(InputError, match="--classes"):
        read_features(lab_request(cache))

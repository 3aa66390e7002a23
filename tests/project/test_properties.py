"""Properties for any content: stores return what was written; splits and draws assign every row once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pictures import contents
from small_image_store import FACTS

from features import synthetic_store
from features.datasets.base import SPLITS
from features.datasets.image_folder import ImageFolder
from features.formats.tensors import read_tensors, save_tensors
from features.image_store import writer as image_store_writer
from features.image_store.store import ImageStore
from features.image_store.writer import chunk_rows, encode_shard, plan_shards, write_store
from features.index_table import Index
from features.splits.own_images import Row
from features.synthetic_store import SyntheticFeatures, load_synthetic, save_synthetic
from pipeline.protocols.base import ClassCounts, halves
from pipeline.steps.sampling import draw

few = settings(max_examples=25)
halfs = st.floats(width=16, allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
counts = st.fixed_dictionaries({split: st.integers(0, 40) for split in SPLITS}).filter(
    lambda found: sum(found.values())
)


@pytest.fixture(autouse=True)
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_store_writer, "CROPS_IN_SHARD", 32)
    monkeypatch.setattr(synthetic_store, "ROWS_PER_SHARD", 7)


def made_index(rows: dict[str, int], classes: int, seed: int) -> Index:
    rng, total = np.random.default_rng(seed), sum(rows.values())
    return Index(
        paths=tuple(f"{number}.png" for number in range(total)),
        class_ids=rng.integers(0, classes, total, np.int32),
        splits=tuple(split for split in SPLITS for _ in range(rows[split])),
        sizes=np.ones(total, np.int64),
        sha256=tuple(f"{number:064x}" for number in rng.integers(0, 2**60, total)),
    )


def write(folder: Path, index: Index, features: dict[str, Any], invalid: dict[str, str]) -> ImageStore:
    views = features["train"].shape[1]
    finished = []
    for shard in plan_shards(index, views):
        start = shard.rows.start - (index.rows(shard.split)[0])
        file = folder / f"{shard.split}-{shard.number}"
        file.write_bytes(encode_shard(features[shard.split][start : start + len(shard.rows)], chunk_rows(shard.views)))
        finished.append((shard, file))
    dim = features["train"].shape[2]
    write_store(folder / "a.zarr", index, finished, dim, {**FACTS, "views": views - 1}, invalid=invalid)
    return ImageStore.open(folder / "a.zarr", verify=True)


@few
@given(counts, st.tuples(st.integers(1, 4), st.integers(1, 9)), st.integers(0, 2**32), st.data())
def test_an_image_store_returns_every_row_for_any_shape(
    rows: dict[str, int], shape: tuple[int, int], seed: int, data: st.DataObject
) -> None:
    (views, dim), rng = shape, np.random.default_rng(seed)
    index = made_index(rows, data.draw(st.integers(1, 5)), seed)
    invalid = dict.fromkeys(data.draw(st.sets(st.sampled_from(index.paths), max_size=5)), "why")
    bits = {s: rng.integers(0, 0x7C00, (rows[s], views if s == "train" else 1, dim), np.uint16) for s in SPLITS}
    features = {split: values.view(np.float16) for split, values in bits.items()}  # any finite number, subnormal or not
    with TemporaryDirectory() as one, TemporaryDirectory() as two:
        store = write(Path(one), index, features, invalid)
        for split in SPLITS:
            found, mine = store.load(split), index.rows(split)
            assert found.features.tobytes() == features[split].tobytes()
            assert found.labels.tolist() == index.class_ids[mine].tolist()
            assert found.valid.tolist() == [index.paths[row] not in invalid for row in mine]
        again = write(Path(two), index, features, invalid)
        assert contents(store.path) == contents(again.path), "the same input, the same bytes"


@few
@given(st.integers(0, 30), st.integers(1, 6), st.integers(0, 2**31), st.data())
def test_synthetic_features_are_read_back_in_order(count: int, dim: int, seed: int, data: st.DataObject) -> None:
    made = SyntheticFeatures(
        features=data.draw(arrays(np.float16, (count, dim), elements=halfs)),
        class_ids=data.draw(arrays(np.int64, count)),
        class_names=data.draw(st.lists(texts, min_size=count, max_size=count)),
        seed=seed,
        generator_sha256="0" * 64,
    )
    with TemporaryDirectory() as folder:
        save_synthetic(made, Path(folder) / f"seed={seed}")
        again = load_synthetic(Path(folder) / f"seed={seed}")
    assert again.features.tobytes() == made.features.tobytes()
    assert again.class_ids.tolist() == made.class_ids.tolist()
    assert (list(again.class_names), again.seed) == (made.class_names, seed)


def bits_of(dtype: type[np.generic], shape: tuple[int, ...], seed: int) -> Any:
    """Return any bits, NaN and infinity included."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    high = 2 if dtype is np.bool_ else 256
    return np.random.default_rng(seed).integers(0, high, size, np.uint8).tobytes(), dtype, shape


numbers = st.sampled_from([np.float32, np.float16, np.int64, np.uint8, np.bool_])
shapes = st.lists(st.integers(0, 4), max_size=3).map(tuple)
tensors = st.builds(bits_of, numbers, shapes, st.integers(0, 2**32))


@few
@given(st.dictionaries(texts.filter(lambda name: name != "__metadata__"), tensors, max_size=5))
def test_tensors_are_read_back_bit_for_bit(given_bits: dict[str, Any]) -> None:
    made = {
        name: torch.from_numpy(np.frombuffer(data, dtype).reshape(shape).copy())
        for name, (data, dtype, shape) in given_bits.items()
    }
    with TemporaryDirectory() as folder:
        save_tensors(made, Path(folder) / "x", weights="0")
        again, facts = read_tensors(Path(folder) / "x")
    assert facts == {"weights": "0"}
    assert {name: (t.dtype, t.shape, t.numpy().tobytes()) for name, t in again.items()} == {
        name: (t.dtype, t.shape, t.numpy().tobytes()) for name, t in made.items()
    }


labels = st.lists(st.integers(0, 6), min_size=1, max_size=80)


@given(labels, st.integers(0, 2**31), st.integers(1, 4))
def test_a_draw_takes_the_shots_of_a_class_once_whatever_the_other_classes(
    found: list[int], seed: int, shots: int
) -> None:
    ids = np.array(found)
    classes = {c: str(c) for c, n in Counter(found).items() if n >= shots}
    rows = draw(ids, classes, shots, seed)
    assert Counter(ids[rows].tolist()) == dict.fromkeys(classes, shots)
    assert (np.diff(rows) > 0).all()
    for c in classes:
        assert draw(ids, {c: "x"}, shots, seed).tolist() == rows[ids[rows] == c].tolist()


@given(
    st.lists(st.tuples(st.sampled_from("abc"), texts), min_size=1, max_size=40, unique=True),
    st.integers(0, 2**31),
    st.sampled_from([[0.5, 0.2, 0.3], [1.0, 0.0, 0.0], [0.1, 0.1, 0.8]]),
    st.randoms(use_true_random=False),
)
def test_own_images_each_get_one_split_that_does_not_depend_on_their_order(
    images: list[tuple[str, str]], seed: int, fractions: list[float], shuffle: Any
) -> None:
    reader = ImageFolder(reader="image_folder", path="x", fractions=fractions, split_seed=seed)
    rows = [Row(f"{label}/{name}", label, None) for label, name in images]
    listed = reader.listing(rows, []).images
    assert sorted(image.path for image in listed) == sorted(row.path for row in rows), "all rows once"
    trained = {image.class_id for image in listed if image.split == "train"}
    assert trained == {image.class_id for image in listed}, "each class has an image to learn from"
    shuffle.shuffle(rows)
    again = reader.listing(rows, []).images
    assert {image.path: image.split for image in again} == {image.path: image.split for image in listed}


@given(st.integers(2, 200))
def test_base_and_new_classes_partition_all_classes(count: int) -> None:
    catalog = ClassCounts(tuple(map(str, range(count))), {})
    base, new = halves("d", catalog)
    assert (*base, *new) == catalog.refs("d")
    assert len(base) - len(new) in (0, 1)

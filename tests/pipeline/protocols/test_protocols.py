"""Tests of the protocols, of the class set of a task, and of the few-shot draw."""

from __future__ import annotations

import numpy as np
import pytest

import pipeline.protocols
from features.errors import InputError
from features.image_store.store import ImageStore
from features.lookup import find, names
from features.text.classes import ClassTexts
from pipeline.protocols.base import ClassCounts, ClassRef, Plan, Protocol
from pipeline.protocols.base_to_new import BaseToNew
from pipeline.protocols.class_incremental import ClassIncremental
from pipeline.protocols.cross_dataset import CrossDataset
from pipeline.protocols.domain_generalization import DomainGeneralization
from pipeline.protocols.few_shot import FewShot
from pipeline.protocols.generalized_zero_shot import GeneralizedZeroShot
from pipeline.protocols.own_images import OwnImages
from pipeline.steps.build_task import Source, class_set, draw_validation
from pipeline.steps.sampling import draw


def class_counts(count: int) -> dict[str, ClassCounts]:
    counts = {split: np.full(count, 20) for split in ("train", "val", "test")}
    return {"d": ClassCounts(tuple(f"class {i}" for i in range(count)), counts)}


@pytest.mark.parametrize("name", names(pipeline.protocols))
def test_every_protocol_is_found_by_its_file_name(name: str) -> None:
    assert issubclass(find(pipeline.protocols, name, Protocol), Protocol)


@pytest.mark.parametrize(("count", "base"), [(100, 50), (7, 4), (2, 1)])
def test_base_is_the_first_half_and_the_larger_one(count: int, base: int) -> None:
    plan = BaseToNew(protocol="base_to_new", shots=16).plan("d", class_counts(count))
    assert plan.seen == tuple(ClassRef("d", i) for i in range(base))
    assert plan.unseen == tuple(ClassRef("d", i) for i in range(base, count))
    first, second = plan.eval_splits
    assert (first.name, first.classes, first.candidates) == ("base", plan.seen, plan.seen)
    assert (second.name, second.classes, second.candidates) == ("new", plan.unseen, plan.unseen)
    assert plan.harmonic == ("base", "new")


def test_one_class_cannot_be_split() -> None:
    with pytest.raises(InputError, match=r"'d'.*\b1\b.*\b2\b"):
        BaseToNew(protocol="base_to_new").plan("d", class_counts(1))


def test_few_shot_trains_on_and_evaluates_every_class() -> None:
    plan = FewShot(protocol="few_shot", shots=4).plan("d", class_counts(3))
    assert len(plan.seen) == 3
    assert plan.unseen == ()
    assert [(j.name, j.classes, j.candidates) for j in plan.eval_splits] == [("all", plan.seen, plan.seen)]
    assert plan.harmonic is None


def test_class_incremental_evaluates_all_classes_among_all() -> None:
    plan = ClassIncremental(protocol="class_incremental", shots=16).plan("d", class_counts(5))
    assert (len(plan.seen), len(plan.unseen)) == (3, 2)
    (eval_split,) = plan.eval_splits
    assert eval_split.classes == eval_split.candidates == plan.seen + plan.unseen


def test_generalized_zero_shot_sees_the_classes_with_images_and_averages_over_classes() -> None:
    counts = class_counts(4)
    counts["d"].counts["train"][:] = [3, 0, 5, 0]
    plan = GeneralizedZeroShot(protocol="generalized_zero_shot").plan("d", counts)
    assert [ref.class_id for ref in plan.seen] == [0, 2]
    assert [ref.class_id for ref in plan.unseen] == [1, 3]
    assert [(j.name, j.classes, j.average) for j in plan.eval_splits] == [
        ("unseen", plan.unseen, "per_class"),
        ("seen", plan.seen, "per_class"),
    ]
    assert all(eval_split.candidates == plan.seen + plan.unseen for eval_split in plan.eval_splits)
    assert plan.harmonic == ("unseen", "seen")


def test_generalized_zero_shot_needs_both_kinds_of_classes() -> None:
    with pytest.raises(InputError, match="first_half"):
        GeneralizedZeroShot(protocol="generalized_zero_shot").plan("d", class_counts(4))
    plan = GeneralizedZeroShot(protocol="generalized_zero_shot", seen="first_half").plan("d", class_counts(4))
    assert len(plan.seen) == len(plan.unseen) == 2


def test_either_half_of_the_classes_can_be_the_seen_one() -> None:
    protocol = "generalized_zero_shot"
    first = GeneralizedZeroShot(protocol=protocol, seen="first_half").plan("d", class_counts(5))
    second = GeneralizedZeroShot(protocol=protocol, seen="second_half").plan("d", class_counts(5))
    assert [ref.class_id for ref in first.seen] == [ref.class_id for ref in second.unseen] == [0, 1, 2]
    assert [ref.class_id for ref in first.unseen] == [ref.class_id for ref in second.seen] == [3, 4]


def own(train: list[int], test: list[int]) -> Plan:
    counts = {"train": np.array(train), "val": np.array(train), "test": np.array(test)}
    return OwnImages(protocol="own_images").plan("d", {"d": ClassCounts(tuple("abcd"), counts)})


def test_own_images_evaluates_the_available_test_images_among_all_classes() -> None:
    plan = own([5, 0, 5, 0], [3, 2, 0, 0])
    assert [ref.class_id for ref in (*plan.seen, *plan.unseen)] == [0, 2, 1, 3]
    assert [(j.name, [ref.class_id for ref in j.classes]) for j in plan.eval_splits] == [("seen", [0]), ("unseen", [1])]
    assert all(j.candidates == plan.seen + plan.unseen for j in plan.eval_splits)
    assert plan.harmonic == ("seen", "unseen")
    assert own([5, 0, 5, 0], [3, 0, 3, 0]).harmonic is None
    assert own([5, 5, 5, 5], [3, 3, 3, 3]).unseen == ()


def test_own_images_needs_training_images_but_no_test_images() -> None:
    with pytest.raises(InputError, match="own_images"):
        own([0, 0, 0, 0], [1, 1, 1, 1])
    plan = own([1, 1, 1, 1], [0, 0, 0, 0])
    assert (len(plan.seen), plan.eval_splits, plan.harmonic) == (4, (), None)


def named(**names: list[str]) -> dict[str, ClassCounts]:
    return {name: ClassCounts(tuple(classes), {}) for name, classes in names.items()}


CROSS = CrossDataset(protocol="cross_dataset", source="s", shots=16)
DOMAIN = DomainGeneralization(protocol="domain_generalization", source="s", shots=16)


def test_cross_dataset_trains_on_the_source_and_evaluates_among_the_targets_classes() -> None:
    plan = CROSS.plan("t", named(s=["cat", "dog"], t=["striped", "dotted"]))
    assert CROSS.datasets("t") == ("s", "t")
    assert CROSS.trained_on("t") == "s"
    assert plan.seen == (ClassRef("s", 0), ClassRef("s", 1))
    assert plan.unseen == (ClassRef("t", 0), ClassRef("t", 1))
    assert [(j.name, j.split, j.classes, j.candidates) for j in plan.eval_splits] == [
        ("target", "test", plan.unseen, plan.unseen)
    ]


def test_classes_of_two_data_sets_with_the_same_name_are_one_class() -> None:
    plan = CROSS.plan("t", named(s=["cat", "sea_horse"], t=["Sea Horse", "dotted"]))
    assert plan.unseen == (ClassRef("t", 1),)
    assert plan.same == {ClassRef("t", 0): ClassRef("s", 1)}


def test_cross_dataset_on_the_source_evaluates_the_source() -> None:
    plan = CROSS.plan("s", named(s=["cat", "dog"]))
    assert CROSS.datasets("s") == ("s",)
    assert (plan.unseen, plan.same) == ((), {})
    assert [(j.name, j.classes, j.candidates) for j in plan.eval_splits] == [("source", plan.seen, plan.seen)]


def test_domain_generalization_takes_a_subset_of_the_sources_classes_by_name() -> None:
    plan = DOMAIN.plan("t", named(s=["cat", "dog", "emu"], t=["emu", "cat"]))
    assert plan.unseen == ()
    assert plan.same == {ClassRef("t", 0): ClassRef("s", 2), ClassRef("t", 1): ClassRef("s", 0)}
    (eval_split,) = plan.eval_splits
    assert eval_split.candidates == (ClassRef("t", 0), ClassRef("t", 1))


def test_two_classes_with_the_same_name_are_matched_in_order() -> None:
    names = ["missile", "cat", "missile"]
    plan = DOMAIN.plan("t", named(s=names, t=names))
    assert plan.same == {ClassRef("t", i): ClassRef("s", i) for i in range(3)}


def test_domain_generalization_lists_every_class_that_the_source_lacks() -> None:
    with pytest.raises(InputError) as caught:
        DOMAIN.plan("t", named(s=["tabby cat", "dog"], t=["tabby", "dog", "zebra"]))
    assert "'tabby cat'" in str(caught.value), "the nearest name"
    assert "'tabby' " in str(caught.value)
    assert "'zebra'" in str(caught.value)
    assert "'dog'" not in str(caught.value)


def test_a_longer_unseen_name_does_not_change_the_tokens_of_seen_classes() -> None:
    """Adding an unseen class must not retrain a generator."""
    texts = ClassTexts(
        names=("cat", "sea horse", "joshua tree"),
        templates=("a photo of a {}.",),
        tokens=np.array([[8, 1, 9, 0, 0], [8, 2, 3, 9, 0], [8, 4, 5, 6, 9]]),
        text_features=np.eye(3, dtype=np.float32)[None],
        logit_scale=10.0,
        encoder="tiny",
        weights_sha256="0" * 64,
    )
    sources = {"d": Source(object.__new__(ImageStore), texts)}  # the images are not read
    refs = tuple(ClassRef("d", i) for i in range(3))
    classes = class_set(Plan(refs[:2], refs[2:], ()), sources)
    assert classes.tokens.tolist() == texts.tokens.tolist()
    assert classes.subset(classes.seen_ids).tokens.tolist() == [[8, 1, 9, 0], [8, 2, 3, 9]]


LABELS = np.repeat(np.arange(5), 10)


def test_a_draw_has_the_shots_of_each_class_and_depends_on_the_seed() -> None:
    classes = {0: "a", 3: "d"}
    rows = draw(LABELS, classes, 4, seed=1)
    assert np.bincount(LABELS[rows], minlength=5).tolist() == [4, 0, 0, 4, 0]
    assert len(set(rows.tolist())) == 8
    assert (np.diff(rows) > 0).all()
    assert np.array_equal(rows, draw(LABELS, classes, 4, seed=1))
    assert not np.array_equal(rows, draw(LABELS, classes, 4, seed=2))


def test_the_draw_of_a_class_does_not_depend_on_other_classes() -> None:
    alone, among = draw(LABELS, {3: "d"}, 4, seed=1), draw(LABELS, dict.fromkeys(range(5), "x"), 4, seed=1)
    assert np.array_equal(alone, among[LABELS[among] == 3])


def test_validation_images_of_the_training_split_are_none_of_the_shots() -> None:
    protocol = FewShot(protocol="few_shot", shots=7, validation_from="train")
    shots = draw(LABELS, {0: "a", 3: "d"}, 7, seed=1)
    rows = draw_validation(protocol, LABELS, {0: "a", 3: "d"}, 1, shots)
    assert sorted([*rows, *shots]) == [*range(10), *range(30, 40)]

    two = protocol.model_copy(update={"validation_shots": 2})
    assert np.bincount(LABELS[draw_validation(two, LABELS, {0: "a", 3: "d"}, 1, shots)]).tolist() == [2, 0, 0, 2]
    assert draw_validation(protocol, LABELS, {0: "a"}, 1, np.arange(10)).tolist() == []  # all are shots


def test_draw_files_decide_the_validation_images() -> None:
    with pytest.raises(ValueError, match="validation_from"):
        FewShot(protocol="few_shot", draws="coop", validation_from="test")


def test_shots_none_returns_all_rows() -> None:
    assert np.array_equal(draw(LABELS, {1: "b"}, None, seed=1), np.arange(10, 20))


def test_the_error_lists_every_class_with_too_few_images() -> None:
    labels = np.array([0] * 3 + [1] * 5 + [2] * 2)
    with pytest.raises(InputError) as caught:
        draw(labels, {0: "ibis", 1: "emu", 2: "crab"}, 5, seed=1)
    lines = str(caught.value).splitlines()
    assert any("'ibis'" in line and "3" in line for line in lines)
    assert any("'crab'" in line and "2" in line for line in lines)
    assert "emu" not in str(caught.value)

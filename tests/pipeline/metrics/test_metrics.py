"""Accuracies against counts by hand."""

from __future__ import annotations

import pytest
import torch

from pipeline.metrics.accuracy import accuracy, harmonic_mean, per_class_accuracy

# predictions 0 0 1 2 2, labels 0 1 1 2 0: right, wrong, right, right, wrong
LOGITS = torch.tensor([[9.0, 1, 0, 0], [5, 4, 0, 0], [0, 3, 2, 0], [0, 0, 1, 0], [1, 0, 2, 0]])
LABELS = torch.tensor([0, 1, 1, 2, 0])


def test_accuracy_counts_every_image_the_same() -> None:
    assert accuracy(LOGITS, LABELS) == 100 * 3 / 5


def test_per_class_accuracy_counts_every_class_the_same_and_skips_classes_without_images() -> None:
    # class 0: 1 of 2, class 1: 1 of 2, class 2: 1 of 1, class 3: no image
    assert per_class_accuracy(LOGITS, LABELS) == pytest.approx(100 * (0.5 + 0.5 + 1) / 3, abs=1e-12)


def test_the_two_agree_when_classes_have_equally_many_images() -> None:
    logits, labels = LOGITS[:4], torch.tensor([0, 0, 1, 1])
    assert accuracy(logits, labels) == per_class_accuracy(logits, labels) == 75


def test_accuracy_on_all_and_none() -> None:
    assert accuracy(torch.eye(3), torch.arange(3)) == 100
    assert per_class_accuracy(torch.eye(3), torch.tensor([1, 2, 0])) == 0


@pytest.mark.parametrize("function", [accuracy, per_class_accuracy])
@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (torch.zeros(0, 3), torch.zeros(0, dtype=torch.int64), r"\b0\b"),
        (torch.zeros(2, 3), torch.zeros(3, dtype=torch.int64), r"\(2, 3\).*\(3,\)"),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int64), r"\(2,\).*\(2,\)"),
        (torch.zeros(2, 3), torch.tensor([0, 3]), r"\b0 to 3\b.*\b3\b"),
        (torch.zeros(2, 3), torch.tensor([-1, 0]), "-1 to 0"),
        (torch.tensor([[0.0, torch.nan], [0, 1]]), torch.tensor([0, 1]), "1 of 2 .*NaN"),
    ],
)
def test_inputs_without_an_accuracy_are_rejected(function, logits, labels, message) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        function(logits, labels)


def test_harmonic_mean_of_published_numbers() -> None:
    # SHIP Table 1, CoOp on average: 82.69 and 63.22 give 71.66
    value = harmonic_mean(82.69, 63.22)
    assert value is not None
    assert round(value, 2) == 71.66


def test_harmonic_mean_of_zeros_is_zero_and_of_a_dash_is_a_dash() -> None:
    assert harmonic_mean(0, 0) == 0
    assert harmonic_mean(0, 80) == 0
    assert harmonic_mean(None, 80) is None
    assert harmonic_mean(80, None) is None


# Four classes, two of each half: 0 and 1 are base, 2 and 3 new. A row's logits rank the classes from left to right:
# 3 0 1 2 means that class 3 is likeliest. Labels stand beside.
RANKED = [((0, 2, 1, 3), 0), ((2, 1, 0, 3), 0), ((1, 0, 2, 3), 1), ((3, 1, 2, 0), 1), ((1, 2, 3, 0), 1)]
RANKED += [((0, 2, 3, 1), 2), ((2, 3, 0, 1), 2), ((2, 0, 3, 1), 3)]


def scored(rows: list[int], candidates: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return logits of some rows for some candidates, and labels as positions among these."""
    logits = torch.tensor([[-float(RANKED[row][0].index(c)) for c in candidates] for row in rows])
    return logits, torch.tensor([candidates.index(RANKED[row][1]) for row in rows])


def test_four_classes_by_hand() -> None:
    base = accuracy(*scored([0, 1, 2, 3, 4], [0, 1]))  # row 1 prefers 1 to 0: 4 of 5
    new = accuracy(*scored([5, 6, 7], [2, 3]))  # row 7 prefers 2 to 3: 2 of 3
    assert (base, new) == (80.0, pytest.approx(200 / 3))
    assert harmonic_mean(base, new) == pytest.approx(2 * 80 * (200 / 3) / (80 + 200 / 3))
    # scored among all four, as class-incremental does: rows 0, 2, 4 and 6 are right
    together = scored([*range(8)], [0, 1, 2, 3])
    assert accuracy(*together) == 50.0
    # class 0: 1 of 2, class 1: 2 of 3, class 2: 1 of 2, class 3: 0 of 1
    assert per_class_accuracy(*together) == pytest.approx(100 * (1 / 2 + 2 / 3 + 1 / 2 + 0) / 4)

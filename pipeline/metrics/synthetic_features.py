"""How good are synthetic features? Measured against real ones of the same classes, which the generator never saw.

Pure functions on unit features: `real` (N, D) with labels (N,), `made` (M, D) with labels (M,), both of the same
classes and on the CPU. `quality` is all of them at once. Distances are Euclidean on the unit sphere.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

NEIGHBOURS = 5  # k of density and coverage (Naeem et al. 2020)
FOLDS = 5  # of the real-versus-synthetic classifier
RIDGE = 1.0  # of the same, in the units of unit features' Gram matrix
BLOCK = 1024  # features whose distances to all others are held at a time


def quality(real: Tensor, real_labels: Tensor, made: Tensor, made_labels: Tensor) -> dict[str, float]:
    """Every measure, by name; accuracies and shares in percent.

    Costs O(D^3 + (N + M)^2 D) time and O((N + M) D) memory.

    Raises:
        ValueError: the two do not have the same classes and dimension, or a class has a single feature of either kind.
    """
    _check(real, real_labels, made, made_labels)
    by_class = nearest_mean_accuracy(real, real_labels, made, made_labels)
    return {
        "spread_real": spread(real, real_labels),
        "spread_synthetic": spread(made, made_labels),
        "frechet": frechet_distance(real, made),
        **neighbourhoods(real, made),
        "real_vs_synthetic_auc": real_vs_synthetic_auc(real, made),
        "nearest_mean_accuracy": sum(by_class.values()) / len(by_class),
    }


def spread(x: Tensor, labels: Tensor) -> float:
    """Within-class standard deviation of a coordinate: mean over classes and the D coordinates of features (N, D).

    Every class has at least two features (`with_two_or_more`).
    """
    return float(torch.stack([x[labels == i].std(0).mean() for i in torch.unique(labels)]).mean())


def with_two_or_more(labels: Tensor) -> Tensor:
    """(N,) bool: the rows whose class has at least two, without which there is no spread."""
    ids, counts = torch.unique(labels, return_counts=True)
    return torch.isin(labels, ids[counts > 1])


def frechet_distance(real: Tensor, made: Tensor) -> float:
    """||mu_1 - mu_2||^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)) of the Gaussians fitted to features (N, D) and (M, D).

    Heusel et al. 2017, on the encoder's own features. The trace of the root is the sum of the singular values of
    X_1 X_2^T for centred X_i / sqrt(N_i - 1), which are those of R_1 R_2^T for X_i = Q_i R_i: no root of a matrix is
    taken, and none is larger than D x D.
    """
    centred = [(x - x.mean(0)).double() / (len(x) - 1) ** 0.5 for x in (real, made)]
    between = (real.mean(0) - made.mean(0)).double().square().sum()
    r_1, r_2 = (torch.linalg.qr(x, mode="r").R for x in centred)
    root = torch.linalg.svdvals(r_1 @ r_2.T).sum()
    return float(between + sum(x.square().sum() for x in centred) - 2 * root)


def neighbourhoods(real: Tensor, made: Tensor, k: int = NEIGHBOURS) -> dict[str, float]:
    """Precision, recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020), in percent.

    A feature's ball reaches to its k-th neighbour of its own kind. `precision`: synthetic features in a real ball.
    `recall`: real ones in a synthetic ball. `density`: real balls around a synthetic feature, over k; may exceed 100.
    `coverage`: real balls that hold a synthetic feature.
    """
    k = min(k, len(real) - 1, len(made) - 1)
    real_reach, made_reach = _reach(real, k), _reach(made, k)
    balls = torch.zeros(len(made), dtype=torch.int64)  # real balls around each synthetic feature
    recalled, covered = [], []
    for rows, reach in zip(torch.split(real, BLOCK), torch.split(real_reach, BLOCK), strict=True):
        across = torch.cdist(rows, made)
        in_real = across <= reach[:, None]
        balls += in_real.sum(0)
        covered.append(in_real.any(1))
        recalled.append((across <= made_reach).any(1))
    shares = {
        "precision": balls > 0,
        "recall": torch.cat(recalled),
        "density": balls / k,
        "coverage": torch.cat(covered),
    }
    return {name: 100.0 * float(share.double().mean()) for name, share in shares.items()}


def _reach(x: Tensor, k: int) -> Tensor:
    """(N,) distance of each of x (N, D) to its k-th neighbour; the first of all is itself."""
    return torch.cat([torch.cdist(rows, x).kthvalue(k + 1).values for rows in torch.split(x, BLOCK)])


def real_vs_synthetic_auc(real: Tensor, made: Tensor) -> float:
    """How well a linear classifier tells held-out real features from synthetic ones: area under its ROC curve.

    0.5: not at all; 1: always. Ridge regression to +1 and -1, each kind weighing the same, fitted on four fifths of the
    features and judged on the fifth; the mean of the five. Rows are dealt to the folds in turn.
    """
    x = torch.cat([real, made]).double()
    x = torch.cat([x - x.mean(0), torch.ones(len(x), 1, dtype=x.dtype)], dim=1)
    kind = torch.arange(len(x)) < len(real)
    weight = torch.where(kind, 0.5 / len(real), 0.5 / len(made)).double() * len(x)
    target = torch.where(kind, 1.0, -1.0).double()
    folds = min(FOLDS, len(real), len(made))  # each has some of either kind
    fold = torch.cat([torch.arange(len(real)), torch.arange(len(made))]) % folds
    areas = []
    for i in range(folds):
        rows = fold != i
        weighted = x[rows].T * weight[rows]
        ridge = RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
        score = x[~rows] @ torch.linalg.solve(weighted @ x[rows] + ridge, weighted @ target[rows])
        areas.append(auc(score[kind[~rows]], score[~kind[~rows]]))
    return sum(areas) / folds


def auc(positive: Tensor, negative: Tensor) -> float:
    """Chance that a positive score (P,) exceeds a negative one (Q,); of equal ones half counts."""
    order = negative.sort().values
    below, up_to = torch.searchsorted(order, positive), torch.searchsorted(order, positive, right=True)
    return float((below + up_to).double().mean() / (2 * len(negative)))


def nearest_mean_accuracy(real: Tensor, real_labels: Tensor, made: Tensor, made_labels: Tensor) -> dict[int, float]:
    """Percent of each class's real features whose nearest mean, by cosine, of synthetic features is their class's."""
    ids = torch.unique(made_labels)
    means = F.normalize(torch.stack([made[made_labels == i].mean(0) for i in ids]), dim=-1)
    right = ids[(real @ means.T).argmax(1)] == real_labels
    return {int(i): 100.0 * float(right[real_labels == i].double().mean()) for i in ids}


def _check(real: Tensor, real_labels: Tensor, made: Tensor, made_labels: Tensor) -> None:
    (ids, counts), (made_ids, made_counts) = (torch.unique(x, return_counts=True) for x in (real_labels, made_labels))
    if ids.tolist() != made_ids.tolist() or real.shape[1] != made.shape[1]:
        raise ValueError("real and synthetic features must be of the same classes and dimension")
    if min(int(counts.min()), int(made_counts.min())) < 2:
        raise ValueError("a class with a single real or synthetic feature has no spread")

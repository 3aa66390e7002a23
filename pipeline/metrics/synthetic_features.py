"""Measures of synthetic features against real ones of the same classes, which the generator never saw.

Pure functions on unit features on the CPU: `real` (N, D) with `real_labels` (N,), and `synthetic` (M, D) with
`synthetic_labels` (M,), both of the same classes. `quality` returns all measures at once. Distances are Euclidean
distances between points of the unit sphere.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

NEIGHBOURS = 5  # k of density and coverage (Naeem et al. 2020)
FOLDS = 5  # of the real-versus-synthetic classifier
RIDGE = 1.0  # of the same classifier, in the units of the Gram matrix of unit features
BLOCK = 1024  # features in one block; distances to all others are held for one block at a time


def quality(real: Tensor, real_labels: Tensor, synthetic: Tensor, synthetic_labels: Tensor) -> dict[str, float]:
    """Return every measure by name; accuracies and shares are in percent.

    Costs O(D^3 + (N + M)^2 D) time and O((N + M) D) memory.

    Args:
        real: (N, D) unit features.
        real_labels: (N,) their classes.
        synthetic: (M, D) unit features.
        synthetic_labels: (M,) their classes.

    Raises:
        ValueError: the two have different classes or dimensions, or a class has a single feature of either kind.
    """
    _check_comparable(real, real_labels, synthetic, synthetic_labels)
    by_class = nearest_mean_accuracy(real, real_labels, synthetic, synthetic_labels)
    return {
        "spread_real": spread(real, real_labels),
        "spread_synthetic": spread(synthetic, synthetic_labels),
        "frechet": frechet_distance(real, synthetic),
        **neighbourhoods(real, synthetic),
        "real_vs_synthetic_auc": real_vs_synthetic_auc(real, synthetic),
        "nearest_mean_accuracy": sum(by_class.values()) / len(by_class),
    }


def spread(x: Tensor, labels: Tensor) -> float:
    """Return the within-class standard deviation of features (N, D): the mean over classes and coordinates.

    Every class of the labels (N,) must have at least two features (`with_two_or_more`).
    """
    return float(torch.stack([x[labels == i].std(0).mean() for i in torch.unique(labels)]).mean())


def with_two_or_more(labels: Tensor) -> Tensor:
    """Return (N,) bool, true for the rows whose class has at least two; a single feature has no spread."""
    ids, counts = torch.unique(labels, return_counts=True)
    return torch.isin(labels, ids[counts > 1])


def frechet_distance(real: Tensor, synthetic: Tensor) -> float:
    """Return the Frechet distance of the Gaussians fitted to features (N, D) and (M, D) (Heusel et al. 2017).

    It is ||mu_1 - mu_2||^2 + tr(S_1 + S_2 - 2 (S_1 S_2)^(1/2)), on the encoder's own features.
    """
    centred = [(x - x.mean(0)).double() / (len(x) - 1) ** 0.5 for x in (real, synthetic)]
    between = (real.mean(0) - synthetic.mean(0)).double().square().sum()

    # With S_i = X_i^T X_i for the centred and scaled X_i, the trace of the root is the sum of the singular values of
    # X_1 X_2^T. These are the singular values of R_1 R_2^T for X_i = Q_i R_i. So no root of a matrix is taken, and no
    # matrix is larger than D x D.
    r_1, r_2 = (torch.linalg.qr(x, mode="r").R for x in centred)
    root = torch.linalg.svdvals(r_1 @ r_2.T).sum()
    return float(between + sum(x.square().sum() for x in centred) - 2 * root)


def neighbourhoods(real: Tensor, synthetic: Tensor, k: int = NEIGHBOURS) -> dict[str, float]:
    """Return precision, recall (Kynkaanniemi et al. 2019), density and coverage (Naeem et al. 2020), in percent.

    The ball of a feature reaches to its k-th neighbour of its own kind.

    Args:
        real: (N, D).
        synthetic: (M, D).
        k: neighbours; at most N - 1 and M - 1 are used.

    Returns:
        `precision`: share of synthetic features inside a real ball. `recall`: share of real features inside a synthetic
        ball. `density`: mean number of real balls around a synthetic feature, over k; it may exceed 100. `coverage`:
        share of real balls that hold a synthetic feature.
    """
    k = min(k, len(real) - 1, len(synthetic) - 1)
    real_radius = _radius(real, k)
    synthetic_radius = _radius(synthetic, k)

    real_balls = torch.zeros(len(synthetic), dtype=torch.int64)  # real balls around each synthetic feature
    recalled = []
    covered = []
    for rows, radius in zip(torch.split(real, BLOCK), torch.split(real_radius, BLOCK), strict=True):
        distance = torch.cdist(rows, synthetic)  # (block, M)
        inside = distance <= radius[:, None]
        real_balls += inside.sum(0)
        covered.append(inside.any(1))
        recalled.append((distance <= synthetic_radius).any(1))

    shares = {
        "precision": real_balls > 0,
        "recall": torch.cat(recalled),
        "density": real_balls / k,
        "coverage": torch.cat(covered),
    }
    return {name: 100.0 * float(share.double().mean()) for name, share in shares.items()}


def _radius(x: Tensor, k: int) -> Tensor:
    """Return the distance (N,) of each of x (N, D) to its k-th neighbour."""
    # k + 1, because the first neighbour of a feature is itself.
    return torch.cat([torch.cdist(rows, x).kthvalue(k + 1).values for rows in torch.split(x, BLOCK)])


def real_vs_synthetic_auc(real: Tensor, synthetic: Tensor) -> float:
    """Return how well a linear classifier separates real (N, D) from synthetic features (M, D): area under its ROC.

    0.5 means not at all, 1 means always. The classifier is a ridge regression to +1 and -1 in which both kinds weigh
    the same. It is fitted on four fifths of the features and scored on the other fifth; the result is the mean of five.
    """
    x = torch.cat([real, synthetic]).double()
    x = torch.cat([x - x.mean(0), torch.ones(len(x), 1, dtype=x.dtype)], dim=1)  # the last column is the bias
    is_real = torch.arange(len(x)) < len(real)
    weight = torch.where(is_real, 0.5 / len(real), 0.5 / len(synthetic)).double() * len(x)
    target = torch.where(is_real, 1.0, -1.0).double()

    # Rows are dealt to the folds in turn, so that each fold has some of either kind.
    folds = min(FOLDS, len(real), len(synthetic))
    fold = torch.cat([torch.arange(len(real)), torch.arange(len(synthetic))]) % folds

    areas = []
    for i in range(folds):
        train = fold != i
        test = ~train
        weighted = x[train].T * weight[train]
        ridge = RIDGE * torch.eye(x.shape[1], dtype=x.dtype)
        score = x[test] @ torch.linalg.solve(weighted @ x[train] + ridge, weighted @ target[train])
        areas.append(auc(score[is_real[test]], score[~is_real[test]]))
    return sum(areas) / folds


def auc(positive: Tensor, negative: Tensor) -> float:
    """Return the probability that a positive score (P,) exceeds a negative one (Q,); a tie counts half."""
    ordered = negative.sort().values
    below = torch.searchsorted(ordered, positive)
    up_to = torch.searchsorted(ordered, positive, right=True)
    return float((below + up_to).double().mean() / (2 * len(negative)))


def nearest_mean_accuracy(
    real: Tensor, real_labels: Tensor, synthetic: Tensor, synthetic_labels: Tensor
) -> dict[int, float]:
    """Return for each class the percentage of its real features that are nearest to its mean of synthetic features.

    Nearest is by cosine, among the means of all classes. Arguments as in `quality`.
    """
    ids = torch.unique(synthetic_labels)
    means = F.normalize(torch.stack([synthetic[synthetic_labels == i].mean(0) for i in ids]), dim=-1)
    correct = ids[(real @ means.T).argmax(1)] == real_labels
    return {int(i): 100.0 * float(correct[real_labels == i].double().mean()) for i in ids}


def _check_comparable(real: Tensor, real_labels: Tensor, synthetic: Tensor, synthetic_labels: Tensor) -> None:
    """Check that both kinds have the same classes and dimension, and at least two features of each class."""
    real_ids, real_counts = torch.unique(real_labels, return_counts=True)
    synthetic_ids, synthetic_counts = torch.unique(synthetic_labels, return_counts=True)

    if real_ids.tolist() != synthetic_ids.tolist():
        raise ValueError(f"real classes {real_ids.tolist()} and synthetic classes {synthetic_ids.tolist()} must agree")
    if real.shape[1] != synthetic.shape[1]:
        raise ValueError(f"real dimension {real.shape[1]} and synthetic dimension {synthetic.shape[1]} must agree")
    if min(int(real_counts.min()), int(synthetic_counts.min())) < 2:
        raise ValueError("every class needs at least 2 real and 2 synthetic features: a single one has no spread")

"""Real and synthetic features of unseen classes in two dimensions, to look at; nothing is fitted to what is seen here.

Test images appear: that is the point. No stage that fits anything reads a projection.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional as F

from features.formats.files import atomic_folder
from pipeline.artifacts.task import EvalRows, TrainTask
from pipeline.config.params import Visualization
from pipeline.metrics.diagnostics import keep_logs
from pipeline.steps.fit import read_synthetic

COLUMNS = ("projection", "class", "kind", "x", "y")
NEIGHBOURS = 15  # of UMAP (its default)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """N unit features (N, D) with their class names and kinds, `real` or `synthetic`."""

    features: Floats
    classes: Sequence[str]
    kinds: Sequence[str]


def points(
    task: TrainTask, eval_splits: Sequence[EvalRows], synthetic: Path, seed: int, settings: Visualization
) -> Points:
    """The first features of some unseen classes, evenly spaced over them: test images and one seed's synthetic ones.

    None at all where no class is unseen.
    """
    made = read_synthetic(synthetic, seed, task.classes)
    unseen = task.classes.unseen_ids.tolist()
    count = min(settings.classes, len(unseen))
    chosen = [unseen[i * len(unseen) // count] for i in range(count)]
    found: list[tuple[Floats, str, str]] = []
    for class_id in chosen:
        name = task.classes.names[class_id]
        for eval_split in eval_splits:
            here = eval_split.rows.labels == class_id
            if here.any():
                centre = eval_split.rows.features[here][: settings.per_class, 0].astype(np.float64)
                found += [(x, name, "real") for x in centre / np.linalg.norm(centre, axis=1, keepdims=True)]
                break
        drawn = F.normalize(made.features[made.labels == class_id][: settings.per_class, 0], dim=-1)
        found += [(x, name, "synthetic") for x in drawn.double().numpy()]
    features = np.array([x for x, _, _ in found])
    return Points(features, [name for _, name, _ in found], [kind for _, _, kind in found])


def pca(x: Floats) -> Floats:
    """The first two principal components of features (N, D): (N, 2)."""
    from sklearn.decomposition import PCA

    flat: Floats = PCA(2, svd_solver="full").fit_transform(x)
    return flat


def umap(x: Floats) -> Floats:
    """UMAP (McInnes et al. 2018) of features (N, D): (N, 2).

    The neighbours are found exactly beforehand: compiling UMAP's own search takes longer than all the rest.
    """
    from sklearn.neighbors import NearestNeighbors

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # of its parametric kind, which wants Tensorflow
        from umap import UMAP
    k = min(NEIGHBOURS, len(x) - 1)
    distances, rows = NearestNeighbors(n_neighbors=k).fit(x).kneighbors(x)
    model: Any = UMAP(
        n_neighbors=k,
        precomputed_knn=(rows, distances.astype(np.float32)),
        force_approximation_algorithm=True,  # or else a small set's neighbours are searched all the same
        random_state=0,
        n_jobs=1,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="precomputed_knn", category=UserWarning)  # it cannot transform others
        flat: Floats = model.fit_transform(x.astype(np.float32)).astype(np.float64)
    return flat


METHODS = {"pca": pca, "umap": umap}


def write_projection(found: Points, methods: Sequence[Literal["pca", "umap"]], path: Path) -> None:
    """Write a CSV with a line a method and point."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for method in methods if len(found.classes) else ():
            for (x, y), name, kind in zip(METHODS[method](found.features), found.classes, found.kinds, strict=True):
                writer.writerow((method, name, kind, f"{x:.4f}", f"{y:.4f}"))


def write_diagnostics(found: Points, methods: Sequence[Literal["pca", "umap"]], fitted: Path, out: Path) -> None:
    """Write `projection.csv`, and what the generator `fitted` kept to look at, into the folder `out`."""
    with atomic_folder(out) as part:
        write_projection(found, methods, part / "projection.csv")
        keep_logs(fitted, part)

"""Stage `visualize_features`: real and synthetic features of some unseen classes in two dimensions.

The projections show test images, so nothing that fits or selects reads them.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch.nn import functional as F

from features.formats.csv_cells import write_rows
from features.formats.files import atomic_folder
from pipeline.artifacts.synthetic import read_synthetic
from pipeline.artifacts.task import EvalRows, TrainTask
from pipeline.config.params import Visualization
from pipeline.metrics.diagnostics import keep_logs
from pipeline.training.data import ClassSet, LabelledFeatures

COLUMNS = ("projection", "class", "kind", "x", "y")
NEIGHBOURS = 15  # of UMAP (its default)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Points:
    """N features to project.

    Attributes:
        features: (N, D) unit features.
        classes: N class names.
        kinds: N of `real` or `synthetic`.
    """

    features: Floats
    classes: Sequence[str]
    kinds: Sequence[str]


def visualize_features(
    task: TrainTask,
    eval_splits: Sequence[EvalRows],
    *,
    synthetic: Path,
    fitted: Path,
    seed: int,
    settings: Visualization,
    out: Path,
) -> None:
    """Write `projection.csv` and the generator's logs into the folder `out`.

    Args:
        task: the task's classes.
        eval_splits: test images.
        synthetic: folder of the generator's features.
        fitted: folder of the fitted generator, which holds its logs.
        seed: the seed of the features to show.
        settings: how many classes and features to show, and by which methods.
        out: the folder to write.
    """
    points = collect_points(task.classes, eval_splits, read_synthetic(synthetic, seed, task.classes), settings)
    with atomic_folder(out) as part:
        write_projection(points, settings.methods, part / "projection.csv")
        keep_logs(fitted, part)


def collect_points(
    classes: ClassSet, eval_splits: Sequence[EvalRows], synthetic: LabelledFeatures, settings: Visualization
) -> Points:
    """Return the first test images and synthetic features of some unseen classes; none if no class is unseen.

    The classes are spread evenly over the unseen ones. A class's images are those of the first evaluation split that
    has any.
    """
    unseen = classes.unseen_ids.tolist()
    count = min(settings.classes, len(unseen))
    shown = [unseen[i * len(unseen) // count] for i in range(count)]

    features: list[Floats] = []
    names: list[str] = []
    kinds: list[str] = []
    for class_id in shown:
        real = _first_images(eval_splits, class_id, settings.per_class)
        drawn = synthetic.features[synthetic.labels == class_id][: settings.per_class, 0]
        samples = F.normalize(drawn, dim=-1).double().numpy()

        features += [*real, *samples]
        names += [classes.names[class_id]] * (len(real) + len(samples))
        kinds += ["real"] * len(real) + ["synthetic"] * len(samples)
    return Points(np.array(features), names, kinds)


def _first_images(eval_splits: Sequence[EvalRows], class_id: int, count: int) -> Floats:
    """Return the first unit features (at most `count`, D) of a class in the first split that has any."""
    for eval_split in eval_splits:
        rows = eval_split.rows.labels == class_id
        if rows.any():
            centre = eval_split.rows.features[rows][:count, 0].astype(np.float64)
            unit: Floats = centre / np.linalg.norm(centre, axis=1, keepdims=True)
            return unit
    return np.empty((0, 0))


def pca(x: Floats) -> Floats:
    """Project features (N, D) onto their first two principal components: (N, 2)."""
    from sklearn.decomposition import PCA

    flat: Floats = PCA(2, svd_solver="full").fit_transform(x)
    return flat


def umap(x: Floats) -> Floats:
    """Embed features (N, D) by UMAP (McInnes et al. 2018): (N, 2)."""
    from sklearn.neighbors import NearestNeighbors

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ImportWarning)  # its parametric kind asks for Tensorflow
        from umap import UMAP

    # Exact neighbours are computed beforehand, because compiling UMAP's own search takes longer than all the rest.
    k = min(NEIGHBOURS, len(x) - 1)
    distances, rows = NearestNeighbors(n_neighbors=k).fit(x).kneighbors(x)
    model: Any = UMAP(
        n_neighbors=k,
        precomputed_knn=(rows, distances.astype(np.float32)),
        force_approximation_algorithm=True,  # otherwise UMAP searches a small set's neighbours again
        random_state=0,
        n_jobs=1,
    )
    with warnings.catch_warnings():
        # With given neighbours UMAP cannot transform other points, which is not needed.
        warnings.filterwarnings("ignore", message="precomputed_knn", category=UserWarning)
        flat: Floats = model.fit_transform(x.astype(np.float32)).astype(np.float64)
    return flat


METHODS = {"pca": pca, "umap": umap}


def write_projection(points: Points, methods: Sequence[Literal["pca", "umap"]], path: Path) -> None:
    """Write a CSV file with a row per method and point; without points, only its header."""
    with path.open("w", newline="", encoding="utf-8") as file:
        write_rows(file, [COLUMNS])
        if not len(points.classes):
            return

        for method in methods:
            flat = METHODS[method](points.features)
            rows = zip(flat, points.classes, points.kinds, strict=True)
            write_rows(file, [(method, name, kind, f"{x:.4f}", f"{y:.4f}") for (x, y), name, kind in rows])

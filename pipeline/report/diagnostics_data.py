"""The data of the figures that are not scores: `diagnostics/` of the grid as flat records, one list per figure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from features.errors import raise_all
from features.formats.csv_cells import read_rows
from features.formats.seal import check_listed
from pipeline.artifacts.balanced_scores import ReliabilityBin
from pipeline.artifacts.paths import EncoderPaths
from pipeline.config.params import Params
from pipeline.report.summary import Table

Record = dict[str, str | float]

# A task with more than MAX_CLASSES classes shows only its WORST_CLASSES.
MAX_CLASSES = 32
WORST_CLASSES = 20
MAX_POINTS = 100  # of a curve


@dataclass(frozen=True)
class Diagnostics:
    """The records of the figures of one table.

    Attributes:
        training: run, epoch, loss; means over seeds.
        generators: generator, measure, epoch, value; means over seeds.
        projection: generator, projection, class, kind, x, y.
        confusion: run, eval_split, class, predicted, images, share in percent.
        classes: run, eval_split, class, images, accuracy in percent.
        curve: run, point (`curve`, `plain` or `balanced`), offset, seen and unseen accuracy in percent.
        reliability: run, eval_split, probabilities (`raw` or `calibrated`), images, confidence, accuracy in percent.
        words: of, vector, words: the words nearest to learned prompts, of the first seed.
        ece: run -> evaluation split (with `, calibrated` for those probabilities) -> expected calibration error in
            percentage points.
    """

    training: list[Record] = field(default_factory=list)
    generators: list[Record] = field(default_factory=list)
    projection: list[Record] = field(default_factory=list)
    confusion: list[Record] = field(default_factory=list)
    classes: list[Record] = field(default_factory=list)
    curve: list[Record] = field(default_factory=list)
    reliability: list[Record] = field(default_factory=list)
    words: list[Record] = field(default_factory=list)
    ece: dict[str, dict[str, float]] = field(default_factory=dict)


def read_diagnostics(params: Params, table: Table) -> Diagnostics:
    """Read the diagnostics of every run and generator of a table. A mean over data sets has none.

    Raises:
        InputError: folders of the grid are missing. The error lists all of them.
    """
    diagnostics = Diagnostics()
    if table.averaged:
        return diagnostics

    cell = EncoderPaths(params.artifacts).cell(table.dataset, table.task)
    runs = {row.run: cell.diagnostics(row.run) for row in table.rows}
    generators = {name: cell.generator_diagnostics(name) for name in params.grid.generators}

    missing = [f"{folder}: run `dvc repro evaluate`" for folder in runs.values() if not folder.is_dir()]
    missing += [
        f"{folder}: run `dvc repro visualize_features`" for folder in generators.values() if not folder.is_dir()
    ]
    raise_all(missing, "diagnostics of the grid are missing")

    for run, folder in runs.items():
        _add_confusion(diagnostics, run, _rows(folder / "confusion.csv"))
        raw = [
            ReliabilityBin(
                eval_split=row["eval_split"],
                images=int(row["images"]),
                confidence=float(row["confidence"]),
                accuracy=float(row["accuracy"]),
            )
            for row in _rows(folder / "reliability.csv")
        ]
        _add_reliability(diagnostics, run, {"raw": raw, "calibrated": table.calibrated.get(run, ())})
        _add_words(diagnostics, run, folder / "words.csv")
        if (folder / "curve.csv").is_file():
            _add_curve(diagnostics, run, _rows(folder / "curve.csv"), table)
        if (folder / "training.csv").is_file():
            curve = _curves(_rows(folder / "training.csv"))["loss"]
            diagnostics.training.extend({"run": run, "epoch": epoch, "loss": loss} for epoch, loss in curve)

    for name, folder in generators.items():
        _add_words(diagnostics, name, folder / "words.csv")
        diagnostics.projection.extend({"generator": name, **row} for row in _rows(folder / "projection.csv"))
        for measure, curve in _curves(_rows(folder / "training.csv")).items():
            for epoch, value in curve:
                record: Record = {"generator": name, "measure": measure, "epoch": epoch, "value": value}
                diagnostics.generators.append(record)

    return diagnostics


def _rows(path: Path) -> list[dict[str, str]]:
    check_listed(path)
    return read_rows(path)


def _curves(rows: Iterable[dict[str, str]]) -> dict[str, list[tuple[int, float]]]:
    """Return for each column of a log its means over seeds by epoch, at most `MAX_POINTS` of them."""
    values: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for name, value in row.items():
            if name not in ("seed", "epoch"):
                values[name][int(row["epoch"])].append(float(value))

    curves = {}
    for name, by_epoch in values.items():
        # Five digits are more than a figure shows, and keep the page small.
        curves[name] = [(epoch, float(f"{fmean(by_epoch[epoch]):.5g}")) for epoch in _thinned(sorted(by_epoch))]
    return curves


def _thinned(epochs: Sequence[int]) -> list[int]:
    """Return evenly spaced epochs, the first and the last included."""
    step = -(-len(epochs) // MAX_POINTS)  # rounded up
    return sorted({*epochs[::step], *epochs[-1:]})


def _add_curve(diagnostics: Diagnostics, run: str, rows: Iterable[dict[str, str]], table: Table) -> None:
    """Add the curve of a run, the point of its plain logits and, if it has an offset, the point with the offset."""
    for row in rows:
        point: Record = {"run": run, **{name: float(row[name]) for name in ("offset", "seen", "unseen")}}
        diagnostics.curve.append({**point, "point": "curve"})
        if point["offset"] == 0.0:
            diagnostics.curve.append({**point, "point": "plain"})

    balance = next((row for row in table.balance if row.run == run), None)
    if balance is not None and balance.offset:
        means = {name: round(balance.measures[f"balanced_{name}"].mean, 4) for name in ("seen", "unseen")}
        diagnostics.curve.append({"run": run, "offset": balance.offset, **means, "point": "balanced"})


def _add_words(diagnostics: Diagnostics, name: str, path: Path) -> None:
    """Add the words nearest to each vector of the first listed context, nearest first."""
    rows = _rows(path) if path.is_file() else []
    if not rows:
        return

    first = rows[0]
    vectors: dict[str, list[str]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: int(row["rank"])):
        if all(row[key] == first[key] for key in ("seed", "class", "context")):
            vectors[row["vector"]].append(row["word"])

    label = f"{name}, for {first['class']}" if first["class"] else name
    for vector, words in vectors.items():
        diagnostics.words.append({"of": label, "vector": vector, "words": ", ".join(words)})


def _add_confusion(diagnostics: Diagnostics, run: str, rows: Iterable[dict[str, str]]) -> None:
    """Add per-class accuracies and confusions; only of the worst classes if there are many."""
    splits: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        splits[row["eval_split"]][row["class"]][row["predicted"]] = int(row["images"])

    for eval_split, classes in splits.items():
        accuracy = {
            name: 100 * predictions.get(name, 0) / sum(predictions.values()) for name, predictions in classes.items()
        }
        worst = sorted(accuracy, key=lambda name: (accuracy[name], name))
        many = len(worst) > MAX_CLASSES

        for name in worst[:WORST_CLASSES] if many else worst:
            predictions = classes[name]
            n = sum(predictions.values())
            key: Record = {"run": run, "eval_split": eval_split, "class": name}
            diagnostics.classes.append({**key, "images": n, "accuracy": round(accuracy[name], 2)})

            for predicted, images in _shown(name, predictions, errors=2 if many else None).items():
                share = round(100 * images / n, 2)
                diagnostics.confusion.append({**key, "predicted": predicted, "images": images, "share": share})


def _shown(name: str, predictions: dict[str, int], *, errors: int | None) -> dict[str, int]:
    """Return the predictions of a class that are shown: the class itself, then its most frequent errors (None: all)."""
    wrong = sorted((other for other in predictions if other != name), key=lambda other: (-predictions[other], other))
    return {other: predictions[other] for other in (name, *wrong[:errors]) if other in predictions}


def calibration_error(bins: Sequence[ReliabilityBin]) -> float:
    """Return the expected calibration error of reliability bins (Guo et al. 2017, Eq. 5)."""
    images = sum(one.images for one in bins)
    return sum(one.images * abs(one.accuracy - one.confidence) for one in bins) / images


def _add_reliability(diagnostics: Diagnostics, run: str, bins: Mapping[str, Sequence[ReliabilityBin]]) -> None:
    """Add the reliability bins of a run, of each kind of its probabilities, and their expected calibration error."""
    for kind, of_kind in bins.items():
        splits: dict[str, list[ReliabilityBin]] = defaultdict(list)
        for one in of_kind:
            splits[one.eval_split].append(one)
            diagnostics.reliability.append(
                {
                    "run": run,
                    "eval_split": one.eval_split,
                    "probabilities": kind,
                    "images": one.images,
                    "confidence": round(one.confidence, 2),
                    "accuracy": round(one.accuracy, 2),
                }
            )
        for eval_split, of_split in splits.items():
            column = eval_split if kind == "raw" else f"{eval_split}, {kind}"
            diagnostics.ece.setdefault(run, {})[column] = calibration_error(of_split)

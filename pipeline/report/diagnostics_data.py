"""What the figures show beside scores: `diagnostics/` read for the grid, a list of flat records a figure."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean

from features.errors import raise_all
from pipeline.artifacts.paths import EncoderPaths
from pipeline.config.params import Params
from pipeline.report.summary import Table

Record = dict[str, str | float]

WORST = 20  # classes shown of a task with more than `ALL`
ALL = 32
EPOCHS = 100  # most points of a curve


@dataclass(frozen=True)
class Observed:
    """The records of one table's figures; of each run and eval_split, of each generator."""

    training: list[Record] = field(default_factory=list)  # run, epoch, loss: mean over seeds
    generators: list[Record] = field(default_factory=list)  # generator, measure, epoch, value: mean over seeds
    projection: list[Record] = field(default_factory=list)  # generator, projection, class, kind, x, y
    confusion: list[Record] = field(default_factory=list)  # run, eval_split, class, predicted, images, share in percent
    classes: list[Record] = field(default_factory=list)  # run, eval_split, class, images, accuracy
    reliability: list[Record] = field(default_factory=list)  # run, eval_split, images, confidence, accuracy
    words: list[Record] = field(default_factory=list)  # of, vector, words: nearest to learned prompts, first seed
    ece: dict[str, dict[str, float]] = field(default_factory=dict)  # run -> eval_split -> points


def observe(params: Params, table: Table) -> Observed:
    """Read what `evaluate` and `visualize_features` kept to look at, of every run and generator of a table; of a mean, nothing.

    Raises:
        InputError: folders that the grid names are missing.
    """
    cell, seen = EncoderPaths(params.artifacts).cell(table.dataset, table.task), Observed()
    if table.averaged:
        return seen
    runs = {row.run: cell.diagnostics(row.run) for row in table.rows}
    made = {name: cell.generator_diagnostics(name) for name in params.grid.generators}
    missing = [f"{folder}: run `dvc repro evaluate`" for folder in runs.values() if not folder.is_dir()]
    missing += [f"{folder}: run `dvc repro visualize_features`" for folder in made.values() if not folder.is_dir()]
    raise_all(missing, "diagnostics that the grid names are missing")
    for run, folder in runs.items():
        _add_judged(seen, run, _rows(folder / "confusion.csv"))
        _add_reliability(seen, run, _rows(folder / "reliability.csv"))
        _add_words(seen, run, folder / "words.csv")
        if (folder / "training.csv").is_file():
            curve = _curves(_rows(folder / "training.csv"))["loss"]
            seen.training.extend({"run": run, "epoch": epoch, "loss": loss} for epoch, loss in curve)
    for name, folder in made.items():
        _add_words(seen, name, folder / "words.csv")
        seen.projection.extend({"generator": name, **row} for row in _rows(folder / "projection.csv"))
        for measure, curve in _curves(_rows(folder / "training.csv")).items():
            about: Record = {"generator": name, "measure": measure}
            seen.generators.extend({**about, "epoch": epoch, "value": value} for epoch, value in curve)
    return seen


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _curves(rows: Iterable[dict[str, str]]) -> dict[str, list[tuple[int, float]]]:
    """Column -> epochs and means over seeds, at most `EPOCHS` of them, the last included."""
    found: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        for name, value in row.items():
            if name not in ("seed", "epoch"):
                found[name][int(row["epoch"])].append(float(value))
    return {name: [(e, float(f"{fmean(by[e]):.5g}")) for e in _thinned(sorted(by))] for name, by in found.items()}


def _thinned(epochs: Sequence[int]) -> list[int]:
    step = -(-len(epochs) // EPOCHS)
    return sorted({*epochs[::step], *epochs[-1:]})


def _add_words(seen: Observed, name: str, path: Path) -> None:
    """The words nearest to each vector of the first context that is listed, nearest first."""
    rows = _rows(path) if path.is_file() else []
    first = [row for row in rows if all(row[key] == rows[0][key] for key in ("seed", "class", "context"))]
    vectors: dict[str, list[str]] = defaultdict(list)
    for row in sorted(first, key=lambda row: int(row["rank"])):
        vectors[row["vector"]].append(row["word"])
    whose = f"{name}, for {first[0]['class']}" if first and first[0]["class"] else name
    seen.words.extend({"of": whose, "vector": vector, "words": ", ".join(words)} for vector, words in vectors.items())


def _add_judged(seen: Observed, run: str, rows: Iterable[dict[str, str]]) -> None:
    """Per-class accuracy and confusions; of many classes, the worst alone."""
    judged: dict[str, dict[str, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
    for row in rows:
        judged[row["eval_split"]][row["class"]][row["predicted"]] = int(row["images"])
    for eval_split, classes in judged.items():
        accuracy = {name: 100 * taken.get(name, 0) / sum(taken.values()) for name, taken in classes.items()}
        worst = sorted(accuracy, key=lambda name: (accuracy[name], name))
        for name in worst if len(worst) <= ALL else worst[:WORST]:
            taken = classes[name]
            about: Record = {"run": run, "eval_split": eval_split, "class": name}
            n = sum(taken.values())
            seen.classes.append({**about, "images": n, "accuracy": round(accuracy[name], 2)})
            seen.confusion.extend(
                {**about, "predicted": predicted, "images": images, "share": round(100 * images / n, 2)}
                for predicted, images in _shown(name, taken, len(worst)).items()
            )


def _shown(name: str, taken: dict[str, int], classes: int) -> dict[str, int]:
    """What a class's images are taken for; of many classes, itself and the two most frequent errors."""
    wrong = sorted((other for other in taken if other != name), key=lambda other: (-taken[other], other))
    kept = wrong if classes <= ALL else wrong[:2]
    return {other: taken[other] for other in (name, *kept) if other in taken}


def calibration_error(bins: Sequence[tuple[int, float, float]]) -> float:
    """The expected calibration error of bins: images, mean confidence, accuracy (Guo et al. 2017, Eq. 5)."""
    images = sum(count for count, _, _ in bins)
    return sum(count * abs(accuracy - confidence) for count, confidence, accuracy in bins) / images


def _add_reliability(seen: Observed, run: str, rows: Iterable[dict[str, str]]) -> None:
    """Bins, and the expected calibration error that they make."""
    bins: dict[str, list[tuple[int, float, float]]] = defaultdict(list)
    for row in rows:
        bins[row["eval_split"]].append((int(row["images"]), float(row["confidence"]), float(row["accuracy"])))
    for eval_split, found in bins.items():
        seen.ece.setdefault(run, {})[eval_split] = calibration_error(found)
        seen.reliability.extend(
            {"run": run, "eval_split": eval_split, "images": n, "confidence": round(c, 2), "accuracy": round(a, 2)}
            for n, c, a in found
        )

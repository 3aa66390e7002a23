"""A table's figures: each a Vega-Lite specification and the records that it draws, which `plots/<name>.csv` holds."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.report import charts
from pipeline.report.diagnostics_data import Observed, Record
from pipeline.report.formatting import heading
from pipeline.report.summary import Row, Summary, Table

TEXTS = {  # name -> title, what is to be seen
    "accuracy": ("Accuracy by run", "Mean ± one standard deviation over seeds. Dotted: zero-shot CLIP."),
    "gain": ("What synthetic features change", "Points over the same method without them, seed by seed, ± one std."),
    "shots": ("Accuracy by shots", "Mean over seeds, for each number of training images per class."),
    "training": (
        "Learning curves of methods",
        "Training loss, mean over seeds; losses of two methods may differ in kind.",
    ),
    "generators": ("Learning curves of generators", "What each epoch's log holds, mean over seeds."),
    "projection": (
        "Real and synthetic features",
        "Some unseen classes, evenly spaced over their list: test images, which no generator saw, and synthetic "
        "features of the first seed, projected together. Distances in a projection are not those among features.",
    ),
    "classes": (
        "Accuracy of each class",
        "All seeds together, the worst first; of more than 32 classes, the worst 20.",
    ),
    "confusion": ("What is taken for what", "Share of a class's images, all seeds together; the same classes."),
    "reliability": (
        "Reliability",
        "Accuracy by confidence, the highest softmax of the logits, in 15 bins, all seeds together. Below the diagonal "
        "a run is too sure of itself.",
    ),
}
FIELDS = {  # name -> the columns of its records
    "accuracy": ("run", "eval_split", "accuracy", "std", "low", "high"),
    "gain": ("run", "eval_split", "gain", "std", "low", "high"),
    "shots": ("run", "eval_split", "shots", "accuracy", "std"),
    "training": ("run", "epoch", "loss"),
    "generators": ("generator", "measure", "epoch", "value"),
    "projection": ("generator", "projection", "class", "kind", "x", "y"),
    "classes": ("run", "eval_split", "class", "images", "accuracy"),
    "confusion": ("run", "eval_split", "class", "predicted", "images", "share"),
    "reliability": ("run", "eval_split", "images", "confidence", "accuracy"),
}
SPECS = {name: getattr(charts, name) for name in TEXTS}


@dataclass(frozen=True)
class Figure:
    """One figure of one table (`label`, such as `caltech101, base_to_new`)."""

    name: str
    label: str
    records: Sequence[Record]
    first: Mapping[str, str]  # what a menu shows at first, by field

    @property
    def title(self) -> str:
        """What stands above it."""
        return TEXTS[self.name][0]

    @property
    def text(self) -> str:
        """What is to be seen."""
        return TEXTS[self.name][1]

    @property
    def spec(self) -> charts.Spec:
        """Vega-Lite with its data and its menus' options; a menu of one option is left out."""
        spec = {"width": "container", **SPECS[self.name](), "data": {"values": self.records}}
        spec |= {"description": f"{self.title}: {self.text}", "height": self._height(spec["height"])}
        options = {p["name"]: list(dict.fromkeys(r[p["name"]] for r in self.records)) for p in spec.get("params", ())}
        spec["params"] = [
            {"name": name, "value": self.first.get(name, found[0]), "bind": {"input": "select", "options": found}}
            for name, found in options.items()
            if len(found) > 1
        ]
        single = {f"datum.{name} === {name}" for name, found in options.items() if len(found) == 1}
        spec["transform"] = [t for t in spec.get("transform", ()) if t["filter"] not in single]
        return spec

    def _height(self, height: int | charts.Spec) -> int:
        """Pixels: a step for each run and eval_split, or for each class that one choice of the menus shows."""
        if isinstance(height, int):
            return height
        if "class" in FIELDS[self.name]:
            shown = Counter((run, eval_split) for run, eval_split, _ in self._distinct("run", "eval_split", "class"))
            return int(height["step"]) * max(shown.values())
        return int(height["step"]) * len(self._distinct("run")) * len(self._distinct("eval_split"))

    def _distinct(self, *fields: str) -> set[tuple[str | float, ...]]:
        return {tuple(record[field] for field in fields) for record in self.records}


def figures(table: Table, seen: Observed) -> list[Figure]:
    """Every figure of a table that has something to draw."""
    last = table.columns[-1]
    best = max(table.rows, key=lambda row: row.values[last].mean or 0.0)
    values = {name: getattr(seen, name) for name in FIELDS if hasattr(seen, name)}
    values |= {"accuracy": _accuracies(table), "gain": _gains(table)}
    first = {"run": best.run, "measure": "reconstruction", "projection": "umap"}
    found = [Figure(name, f"{table.dataset}, {table.task}", values.get(name, ()), first) for name in FIELDS]
    return [figure for figure in found if figure.records]


def shots_figures(summary: Summary) -> list[Figure]:
    """A figure for each data set and protocol that the grid has at several numbers of shots."""
    groups: dict[tuple[str, str], list[Table]] = {}
    for table in summary.tables:
        groups.setdefault((table.dataset, table.protocol), []).append(table)
    return [
        Figure("shots", f"{dataset}, {protocol}", _shots(found), {"eval_split": heading(found[0].columns[-1])})
        for (dataset, protocol), found in groups.items()
        if len({table.shots for table in found if table.shots}) > 1
    ]


def figure_csv(name: str, found: Iterable[Figure]) -> str:
    """The records of a figure of every table, for `dvc plots`; the header alone where there are none."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("table", *FIELDS[name]))
    for figure in found:
        writer.writerows((figure.label, *(record[field] for field in FIELDS[name])) for record in figure.records)
    return text.getvalue()


def template(name: str) -> charts.Spec:
    """A figure as a template for `dvc plots`: a panel for each commit, table and choice of the menus."""
    spec = SPECS[name]()
    menus = [menu["name"] for menu in spec.pop("params", ())]
    spec.pop("transform", None)
    panel = " + ', ' + ".join(f"datum.{field}" for field in ("rev", "table", *menus))
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v5.json",
        "title": "<DVC_METRIC_TITLE>",
        "data": {"values": "<DVC_METRIC_DATA>"},
        "transform": [{"calculate": panel, "as": "panel"}],
        "facet": {"field": "panel", "title": None, "sort": None},
        "columns": 2,
        "spec": {"width": 360, **spec},
        "resolve": {"scale": {"x": "independent", "y": "independent"}},
    }


def script_json(specs: Mapping[str, charts.Spec]) -> str:
    """JSON that may stand in a script element, whatever names the records hold."""
    return json.dumps(specs, ensure_ascii=False, separators=(",", ":"), sort_keys=True).replace("<", "\\u003c")


def _accuracies(table: Table) -> list[Record]:
    return [
        _whisker(row, c, "accuracy", value.mean, value.std)
        for row in table.rows
        for c in table.columns
        if (value := row.values[c]).mean is not None
    ]


def _gains(table: Table) -> list[Record]:
    return [
        _whisker(row, c, "gain", row.gains[c].mean, row.gains[c].std)
        for row in table.rows
        for c in table.columns
        if c in row.gains
    ]


def _whisker(row: Row, column: str, name: str, mean: float | None, std: float | None) -> Record:
    at, wide = mean or 0.0, std or 0.0
    numbers = {name: at, "std": wide, "low": at - wide, "high": at + wide}
    return {"run": row.run, "eval_split": heading(column), **{key: round(value, 6) for key, value in numbers.items()}}


def _shots(tables: Iterable[Table]) -> list[Record]:
    return [
        {
            "run": row.run,
            "eval_split": heading(column),
            "shots": table.shots,
            "accuracy": round(value.mean, 6),
            "std": round(value.std or 0.0, 6),
        }
        for table in sorted(tables, key=lambda t: t.shots or 0)
        for row in table.rows
        for column, value in row.values.items()
        if table.shots and value.mean is not None
    ]

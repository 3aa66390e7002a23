"""The figures of a table: a Vega-Lite specification and the records that it draws (also in `plots/<name>.csv`)."""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from features.formats.csv_cells import write_rows
from pipeline.report import charts
from pipeline.report.diagnostics_data import Diagnostics, Record
from pipeline.report.formatting import heading
from pipeline.report.generators import far_sentences
from pipeline.report.summary import Row, Summary, Table

TEXTS = {  # name -> title, description
    "curve": (
        "Seen and unseen accuracy",
        "Over all offsets of the logits of seen classes, mean over seeds. Circle: the logits as they are. Diamond: "
        "with the offset chosen on validation images. The area under a curve is AUSUC.",
    ),
    "accuracy": (
        "Accuracy by run",
        "Mean over seeds; the whisker is one standard deviation of several seeds. The dotted line is zero-shot CLIP.",
    ),
    "gain": (
        "Gain from synthetic features",
        "Percentage points over the same method without them, by seed; the whisker is one standard deviation.",
    ),
    "shots": ("Accuracy by shots", "Mean over seeds by number of training images per class."),
    "training": (
        "Learning curves of methods",
        "Training loss, mean over seeds. Methods may have different loss functions.",
    ),
    "generators": ("Learning curves of generators", "The measures that are logged in each epoch, mean over seeds."),
    "projection": (
        "Real and synthetic features",
        "Some unseen classes, evenly spaced over their list: test images, which no generator was trained on, and "
        "synthetic features of the first seed, projected together. Distances in the projection differ from distances "
        "between features.",
    ),
    "classes": (
        "Accuracy of each class",
        "All seeds together, the lowest first. Of more than 32 classes, the lowest 20 are shown.",
    ),
    "confusion": (
        "Confusion matrix",
        "Share of the images of a class by predicted class, all seeds together, for the same classes.",
    ),
    "reliability": (
        "Reliability",
        "Accuracy by confidence (the highest softmax probability) in 15 bins, all seeds together. Below the diagonal a "
        "run is overconfident. Calibrated: after the offset and the temperature, as `shipyard predict` prints them.",
    ),
}
FIELDS = {  # name -> the columns of its records
    "curve": ("run", "point", "offset", "seen", "unseen"),
    "accuracy": ("run", "eval_split", "accuracy", "std", "low", "high"),
    "gain": ("run", "eval_split", "gain", "std", "low", "high"),
    "shots": ("run", "eval_split", "shots", "accuracy", "std"),
    "training": ("run", "epoch", "loss"),
    "generators": ("generator", "measure", "epoch", "value"),
    "projection": ("generator", "projection", "class", "kind", "x", "y"),
    "classes": ("run", "eval_split", "class", "images", "accuracy"),
    "confusion": ("run", "eval_split", "class", "predicted", "images", "share"),
    "reliability": ("run", "eval_split", "probabilities", "images", "confidence", "accuracy"),
}
SPECS = {name: getattr(charts, name) for name in TEXTS}


@dataclass(frozen=True)
class Figure:
    """One figure of one table.

    Attributes:
        name: kind of figure, a key of `TEXTS`.
        label: label of the table, such as `caltech101, base_to_new`.
        records: the data.
        initial: initial selection of each menu, by field.
        note: what the data of this figure show, after its description.
    """

    name: str
    label: str
    records: Sequence[Record]
    initial: Mapping[str, str]
    note: str = ""

    @property
    def title(self) -> str:
        """Title of the figure."""
        return TEXTS[self.name][0]

    @property
    def text(self) -> str:
        """Description below the title."""
        return f"{TEXTS[self.name][1]} {self.note}".rstrip()

    @property
    def spec(self) -> charts.Spec:
        """Vega-Lite specification with the data and the options of the menus; a menu with one option is left out."""
        spec = {"width": "container", **SPECS[self.name](), "data": {"values": self.records}}
        spec |= {"description": f"{self.title}: {self.text}", "height": self._height(spec["height"])}

        menus = []
        unneeded_filters = set()
        for name in (param["name"] for param in spec.get("params", ())):
            options = list(dict.fromkeys(record[name] for record in self.records))
            if len(options) == 1:
                unneeded_filters.add(f"datum.{name} === {name}")
                continue

            initial = self.initial.get(name, options[0])
            menus.append({"name": name, "value": initial, "bind": {"input": "select", "options": options}})

        spec["params"] = menus
        spec["transform"] = [t for t in spec.get("transform", ()) if t["filter"] not in unneeded_filters]
        return spec

    def _height(self, height: int | charts.Spec) -> int:
        """Return the height in pixels: one step per run and evaluation split, or per class of one menu selection."""
        if isinstance(height, int):
            return height
        if "class" in FIELDS[self.name]:
            classes = Counter((run, eval_split) for run, eval_split, _ in self._distinct("run", "eval_split", "class"))
            return int(height["step"]) * max(classes.values())

        return int(height["step"]) * len(self._distinct("run")) * len(self._distinct("eval_split"))

    def _distinct(self, *fields: str) -> set[tuple[str | float, ...]]:
        """Return the distinct values of some fields over all records."""
        return {tuple(record[field] for field in fields) for record in self.records}


def figures(table: Table, diagnostics: Diagnostics) -> list[Figure]:
    """Return every figure of a table that has records to draw."""
    records = {name: getattr(diagnostics, name) for name in FIELDS if hasattr(diagnostics, name)}
    records |= {"accuracy": _accuracies(table), "gain": _gains(table)}

    # The menus start with the run that has the highest value in the last column.
    initial = {"run": table.best.run, "measure": "reconstruction", "projection": "umap"}

    notes = {"projection": " ".join(far_sentences(table.generators))}
    label = table.title
    return [Figure(name, label, records[name], initial, notes.get(name, "")) for name in FIELDS if records.get(name)]


def shots_figures(summary: Summary) -> list[Figure]:
    """Return a figure for each data set and protocol that the grid has with several numbers of shots."""
    groups: dict[tuple[str, str], list[Table]] = {}
    for table in summary.tables:
        groups.setdefault((table.dataset, table.protocol), []).append(table)

    result = []
    for (dataset, protocol), tables in groups.items():
        if len({table.shots for table in tables if table.shots}) > 1:
            initial = {"eval_split": heading(tables[0].columns[-1])}
            result.append(Figure("shots", f"{dataset}, {protocol}", _shots(tables), initial))
    return result


def figure_csv(name: str, figures: Iterable[Figure]) -> str:
    """Return the records of one kind of figure, of every table, for `dvc plots`; only a header if there are none."""
    text = io.StringIO()
    rows = [
        (figure.label, *(record[field] for field in FIELDS[name])) for figure in figures for record in figure.records
    ]
    write_rows(text, [("table", *FIELDS[name]), *rows])
    return text.getvalue()


def template(name: str) -> charts.Spec:
    """Return a figure as a template for `dvc plots`: one panel per commit, table and menu selection."""
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
    """Return JSON for a `<script>` element; class names in the records cannot end the element."""
    return json.dumps(specs, ensure_ascii=False, separators=(",", ":"), sort_keys=True).replace("<", "\\u003c")


def _accuracies(table: Table) -> list[Record]:
    """Return the records of the figure `accuracy`."""
    return [
        _whisker(row, c, "accuracy", value.mean, value.std)
        for row in table.rows
        for c in table.columns
        if (value := row.values[c]).mean is not None
    ]


def _gains(table: Table) -> list[Record]:
    """Return the records of the figure `gain`."""
    return [
        _whisker(row, c, "gain", row.gains[c].mean, row.gains[c].std)
        for row in table.rows
        for c in table.columns
        if c in row.gains
    ]


def _whisker(row: Row, column: str, name: str, mean: float | None, std: float | None) -> Record:
    """Return a record with a mean and the ends of its whisker, one standard deviation to each side."""
    center = mean or 0.0
    spread = std or 0.0
    numbers = {name: center, "std": spread, "low": center - spread, "high": center + spread}
    return {"run": row.run, "eval_split": heading(column), **{key: round(value, 6) for key, value in numbers.items()}}


def _shots(tables: Iterable[Table]) -> list[Record]:
    """Return the records of the figure `shots`, in the order of the shots."""
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

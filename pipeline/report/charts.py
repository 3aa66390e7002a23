"""The page's figures as Vega-Lite: what is drawn of which records. Data, colours and widths come from the page.

Series differ by shape or dash too, so that a figure reads without colour. `.dvc/plots` holds the same specifications
as templates for `dvc plots`; a test compares them.
"""

from __future__ import annotations

from typing import Any

Spec = dict[str, Any]

ROW = 15  # pixels of a bar
EVAL_SPLIT: Spec = {"field": "eval_split", "type": "nominal", "sort": None, "title": None}
SILENT: Spec = {**EVAL_SPLIT, "legend": None}  # in a channel of its own, or the marks would lose their legend
PLACE: Spec = {
    "y": {"field": "run", "type": "nominal", "sort": None, "title": None},
    "yOffset": {"field": "eval_split", "type": "nominal", "sort": None},
}


def accuracy() -> Spec:
    """Each run's eval_splits on one axis, ± one standard deviation; a dotted line where zero-shot CLIP stands."""
    x = {"field": "accuracy", "type": "quantitative", "title": "top-1 accuracy, %", "scale": {"zero": False}}
    clip = {
        "transform": [{"filter": "datum.run === 'zero_shot'"}],
        "mark": {"type": "rule", "strokeDash": [2, 3]},
        "encoding": {"x": x, "stroke": SILENT},
    }
    return {"height": {"step": ROW}, "layer": [clip, *_whiskers(x)]}


def gain() -> Spec:
    """Points gained over the same method without synthetic features, ± one standard deviation."""
    x = {"field": "gain", "type": "quantitative", "title": "points gained"}
    bar = {"mark": {"type": "bar", "opacity": 0.35}, "encoding": {"x": x, "fill": SILENT, **PLACE}}
    return {"height": {"step": ROW}, "layer": [bar, *_whiskers(x)]}


def training() -> Spec:
    """Loss by epoch, a line a run, on logarithmic axes: recipes differ in length and scale."""
    return _lines("epoch", "loss", "run", x_scale={"type": "log"}, y_scale={"type": "log"})


def generators() -> Spec:
    """One of a generator's measures by epoch."""
    spec = _lines("epoch", "value", "generator", y_scale={"zero": False})
    return {**spec, **choice("measure")}


def shots() -> Spec:
    """Accuracy by number of training images per class, a line a run."""
    spec = _lines("shots", "accuracy", "run", x_scale={"type": "log", "base": 2}, y_scale={"zero": False})
    spec["encoding"]["x"]["axis"] = {"values": [1, 2, 4, 8, 16, 32, 64], "title": "images per class"}
    return {**spec, **choice("eval_split")}


def projection() -> Spec:
    """Real (rings) and synthetic features (crosses) of some unseen classes in two dimensions."""
    plain = {"type": "quantitative", "axis": None, "scale": {"zero": False}}
    return {
        "height": 380,
        "mark": {"type": "point", "size": 45, "strokeWidth": 1.5},
        "encoding": {
            "x": {"field": "x", **plain},
            "y": {"field": "y", **plain},
            "color": {"field": "class", "type": "nominal"},
            "shape": {
                "field": "kind",
                "type": "nominal",
                "title": "feature",
                "scale": {"domain": ["real", "synthetic"], "range": ["circle", "cross"]},
            },
            "tooltip": tooltip("class", "kind"),
        },
        **choice("projection", "generator"),
    }


def confusion() -> Spec:
    """Which classes a run takes for which: the share of a class's images."""
    return {
        "height": {"step": 18},
        "mark": {"type": "rect", "stroke": "gray", "strokeWidth": 0.3},
        "encoding": {
            "y": {"field": "class", "type": "nominal", "title": "class"},
            "x": {
                "field": "predicted",
                "type": "nominal",
                "title": "taken for",
                "axis": {"labelAngle": -90, "labelFontSize": 10, "labelOverlap": "greedy"},
            },
            "color": {
                "field": "share",
                "type": "quantitative",
                "title": "% of the class",
                "scale": {"domain": [0, 100], "interpolate": "rgb"},  # of paper and ink, no hue between them
            },
            "tooltip": tooltip("class", "predicted", "images", "share"),
        },
        **choice("run", "eval_split"),
    }


def classes() -> Spec:
    """Accuracy of each class, the worst first."""
    return {
        "height": {"step": 18},
        "mark": {"type": "bar"},
        "encoding": {
            "y": {"field": "class", "type": "nominal", "sort": {"field": "accuracy"}, "title": None},
            "x": {"field": "accuracy", "type": "quantitative", "title": "accuracy, %", "scale": {"domain": [0, 100]}},
            "tooltip": tooltip("class", "accuracy", "images"),
        },
        **choice("run", "eval_split"),
    }


def reliability() -> Spec:
    """Accuracy by confidence: on the diagonal, a probability is what it says."""
    whole = {"domain": [0, 100]}
    line = {
        "data": {"values": [{"at": 0}, {"at": 100}]},
        "mark": {"type": "line", "strokeDash": [4, 4], "color": "gray"},
    }
    at = {"field": "at", "type": "quantitative"}
    return {
        "height": 300,
        "layer": [
            {**line, "encoding": {"x": at, "y": at}},
            {
                "mark": {"type": "line", "point": {"size": 60, "filled": True}},
                "encoding": {
                    "x": {"field": "confidence", "type": "quantitative", "title": "confidence, %", "scale": whole},
                    "y": {"field": "accuracy", "type": "quantitative", "title": "accuracy, %", "scale": whole},
                    "color": EVAL_SPLIT,
                    "strokeDash": EVAL_SPLIT,
                    "tooltip": tooltip("run", "eval_split", "confidence", "accuracy", "images"),
                },
            },
        ],
        **choice("run"),
    }


def choice(*fields: str) -> Spec:
    """Menus, one a field, of which values to draw; the page fills in each menu's options."""
    return {
        "params": [{"name": field, "bind": {"input": "select", "options": []}} for field in fields],
        "transform": [{"filter": f"datum.{field} === {field}"} for field in fields],
    }


def tooltip(*fields: str) -> list[Spec]:
    """What a mark says when it is pointed at."""
    return [{"field": name} for name in fields]


def _whiskers(x: Spec) -> list[Spec]:
    """A mark of the eval_split's own colour and shape, on a whisker from `low` to `high`."""
    ends = {"x": {**x, "field": "low"}, "x2": {"field": "high"}}
    said = tooltip("run", "eval_split", str(x["field"]), "std")
    return [
        {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": {**ends, "stroke": SILENT, **PLACE}},
        {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {"x": x, "color": EVAL_SPLIT, "shape": EVAL_SPLIT, "tooltip": said, **PLACE},
        },
    ]


def _lines(x: str, y: str, series: str, *, y_scale: Spec, x_scale: Spec | None = None) -> Spec:
    name = {"field": series, "type": "nominal", "sort": None, "title": None}
    return {
        "height": 280,
        "mark": {"type": "line", "interpolate": "monotone", "strokeWidth": 2},
        "encoding": {
            "x": {"field": x, "type": "quantitative", "title": x, "scale": x_scale or {"nice": False}},
            "y": {"field": y, "type": "quantitative", "title": y, "scale": y_scale},
            "color": name,
            "strokeDash": name,
            "tooltip": tooltip(series, x, y),
        },
    }

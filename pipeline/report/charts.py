"""Vega-Lite specifications of the page's figures. The page adds the data, the colors and the width.

Series differ in shape or dash as well as in color, so a figure can be read without color. `.dvc/plots` holds the same
specifications as templates for `dvc plots`; a test compares them.
"""

from __future__ import annotations

from typing import Any

Spec = dict[str, Any]

ROW = 15  # height of a bar in pixels
EVAL_SPLIT: Spec = {"field": "eval_split", "type": "nominal", "sort": None, "title": None}
# The same field without a legend. It goes into `stroke` or `fill`: in `color` it would remove the legend of the marks.
NO_LEGEND: Spec = {**EVAL_SPLIT, "legend": None}
BAR_POSITION: Spec = {
    "y": {"field": "run", "type": "nominal", "sort": None, "title": None},
    "yOffset": {"field": "eval_split", "type": "nominal", "sort": None},
}


def accuracy() -> Spec:
    """Return accuracy by run and evaluation split, ± one standard deviation, with a dotted line at zero-shot CLIP."""
    x = {"field": "accuracy", "type": "quantitative", "title": "top-1 accuracy, %", "scale": {"zero": False}}
    clip = {
        "transform": [{"filter": "datum.run === 'zero_shot'"}],
        "mark": {"type": "rule", "strokeDash": [2, 3]},
        "encoding": {"x": x, "stroke": NO_LEGEND},
    }
    return {"height": {"step": ROW}, "layer": [clip, *_whiskers(x)]}


def gain() -> Spec:
    """Return percentage points gained over the same method without synthetic features, ± one standard deviation."""
    x = {"field": "gain", "type": "quantitative", "title": "points gained"}
    bar = {"mark": {"type": "bar", "opacity": 0.35}, "encoding": {"x": x, "fill": NO_LEGEND, **BAR_POSITION}}
    return {"height": {"step": ROW}, "layer": [bar, *_whiskers(x)]}


def curve() -> Spec:
    """Return seen over unseen accuracy, one line per run, with the points of plain and of balanced logits."""
    run = {"field": "run", "type": "nominal", "sort": None, "title": None}
    position: Spec = {
        "x": {"field": "unseen", "type": "quantitative", "title": "unseen accuracy, %"},
        "y": {"field": "seen", "type": "quantitative", "title": "seen accuracy, %"},
        "tooltip": tooltip("run", "point", "offset", "seen", "unseen"),
    }
    shape = {
        "field": "point",
        "type": "nominal",
        "legend": None,  # the text above the figure names both
        "scale": {"domain": ["plain", "balanced"], "range": ["circle", "diamond"]},
    }
    line = {
        "transform": [{"filter": "datum.point === 'curve'"}],
        "mark": {"type": "line", "strokeWidth": 1.5},
        "encoding": {**position, "color": run, "strokeDash": run, "order": {"field": "offset", "type": "quantitative"}},
    }
    points = {
        "transform": [{"filter": "datum.point !== 'curve'"}],
        "mark": {"type": "point", "size": 90, "opacity": 1, "strokeWidth": 0},
        "encoding": {**position, "fill": {**run, "legend": None}, "shape": shape},  # `fill`: see NO_LEGEND
    }
    return {"height": 340, "layer": [line, points]}


def training() -> Spec:
    """Return loss by epoch, one line per run. The axes are logarithmic, because runs differ in epochs and scale."""
    return _lines("epoch", "loss", "run", x_scale={"type": "log"}, y_scale={"type": "log"})


def generators() -> Spec:
    """Return one measure of the generators by epoch, selected in a menu."""
    spec = _lines("epoch", "value", "generator", y_scale={"zero": False})
    return {**spec, **menus("measure")}


def shots() -> Spec:
    """Return accuracy by number of training images per class, one line per run."""
    spec = _lines("shots", "accuracy", "run", x_scale={"type": "log", "base": 2}, y_scale={"zero": False})
    spec["encoding"]["x"]["axis"] = {"values": [1, 2, 4, 8, 16, 32, 64], "title": "images per class"}
    return {**spec, **menus("eval_split")}


def projection() -> Spec:
    """Return real (circles) and synthetic features (crosses) of some unseen classes in two dimensions."""
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
        **menus("projection", "generator"),
    }


def confusion() -> Spec:
    """Return the confusion matrix of a run: the share of a class's images by predicted class."""
    return {
        "height": {"step": 18},
        "mark": {"type": "rect", "stroke": "gray", "strokeWidth": 0.3},
        "encoding": {
            "y": {"field": "class", "type": "nominal", "title": "true class"},
            "x": {
                "field": "predicted",
                "type": "nominal",
                "title": "predicted class",
                "axis": {"labelAngle": -90, "labelFontSize": 10, "labelOverlap": "greedy"},
            },
            "color": {
                "field": "share",
                "type": "quantitative",
                "title": "% of the class",
                "scale": {
                    "domain": [0, 100],
                    "interpolate": "rgb",
                },  # from the background to one color, without hues between
            },
            "tooltip": tooltip("class", "predicted", "images", "share"),
        },
        **menus("run", "eval_split"),
    }


def classes() -> Spec:
    """Return the accuracy of each class, the lowest first."""
    return {
        "height": {"step": 18},
        "mark": {"type": "bar"},
        "encoding": {
            "y": {"field": "class", "type": "nominal", "sort": {"field": "accuracy"}, "title": None},
            "x": {"field": "accuracy", "type": "quantitative", "title": "accuracy, %", "scale": {"domain": [0, 100]}},
            "tooltip": tooltip("class", "accuracy", "images"),
        },
        **menus("run", "eval_split"),
    }


def reliability() -> Spec:
    """Return accuracy by confidence. A calibrated classifier is on the diagonal."""
    percent = {"domain": [0, 100]}
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
                    "x": {"field": "confidence", "type": "quantitative", "title": "confidence, %", "scale": percent},
                    "y": {"field": "accuracy", "type": "quantitative", "title": "accuracy, %", "scale": percent},
                    "color": EVAL_SPLIT,
                    "strokeDash": {
                        "field": "probabilities",
                        "type": "nominal",
                        "title": None,
                        "scale": {"domain": ["calibrated", "raw"], "range": [[1, 0], [4, 3]]},
                    },
                    "tooltip": tooltip("run", "eval_split", "probabilities", "confidence", "accuracy", "images"),
                },
            },
        ],
        **menus("run"),
    }


def menus(*fields: str) -> Spec:
    """Return one menu per field that filters the records; the page fills in the options."""
    return {
        "params": [{"name": field, "bind": {"input": "select", "options": []}} for field in fields],
        "transform": [{"filter": f"datum.{field} === {field}"} for field in fields],
    }


def tooltip(*fields: str) -> list[Spec]:
    """Return the tooltip of a mark: the values of some fields."""
    return [{"field": name} for name in fields]


def _whiskers(x: Spec) -> list[Spec]:
    """Return a mark per evaluation split, with its own color and shape, on a whisker from `low` to `high`."""
    ends = {"x": {**x, "field": "low"}, "x2": {"field": "high"}}
    fields = tooltip("run", "eval_split", str(x["field"]), "std")
    return [
        {"mark": {"type": "rule", "strokeWidth": 2}, "encoding": {**ends, "stroke": NO_LEGEND, **BAR_POSITION}},
        {
            "mark": {"type": "point", "filled": True, "size": 70, "opacity": 1},
            "encoding": {"x": x, "color": EVAL_SPLIT, "shape": EVAL_SPLIT, "tooltip": fields, **BAR_POSITION},
        },
    ]


def _lines(x: str, y: str, series: str, *, y_scale: Spec, x_scale: Spec | None = None) -> Spec:
    """Return one line per value of `series`."""
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

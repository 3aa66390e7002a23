"""`index.html`: one file that needs no network, drawn from a `Summary` by the templates beside this module.

Tables are plain HTML, there without scripts. Figures are Vega-Lite, whose library `vl-convert` carries whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import jinja2
import yaml
from vl_convert import javascript_bundle

from pipeline.config.params import Params
from pipeline.report.diagnostics_data import Observed
from pipeline.report.figures import Figure, script_json
from pipeline.report.formatting import caption, footnotes, gain_sentences, heading, number, signed
from pipeline.report.generators import generator_caption, generator_cells
from pipeline.report.summary import Summary, Table, Value

MARKER = "<!-- this machine -->"  # where `shipyard report` puts what no output may hold


def page(
    params: Params,
    summary: Summary,
    seen: Sequence[Observed],
    charts: Sequence[Sequence[Figure]],
    shots: Sequence[Figure],
) -> str:
    """The whole page as HTML; the same inputs give the same bytes.

    Args:
        params: of the grid.
        summary: its tables.
        seen: what there is to see of each table.
        charts: figures of each table.
        shots: figures of several tables, by number of shots.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report", package_path=""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "signed": _minus, "heading": heading}
    sections = [_section(*parts) for parts in zip(summary.tables, seen, charts, strict=True)]
    curves = {f"shots-{i}": figure for i, figure in enumerate(shots)}
    drawn = {id_: figure for part in (*(s["charts"] for s in sections), curves) for id_, figure in part.items()}
    return environment.get_template("page.html").render(
        summary=summary,
        sections=sections,
        shots=curves,
        charts=script_json({id_: figure.spec for id_, figure in drawn.items()}),
        library=library(),
        marker=MARKER,
        settings=yaml.safe_dump(used(params), sort_keys=False, default_flow_style=None, width=100),
    )


@cache
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, made from what `vl-convert` carries in four seconds, offline."""
    return javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")


def used(params: Params) -> dict[str, Any]:
    """The parameters behind the numbers: what the grid names, and nothing that differs by machine."""
    machine: dict[str, Any] = {"compute": True, "data": {"root": True}, "extract": {"engine": True}}
    values, grid = params.model_dump(mode="json", exclude=machine), params.grid
    values["encoders"] = _named(values["encoders"], [grid.encoder])
    values["data"]["sets"] = _named(values["data"]["sets"], grid.datasets)
    values["tasks"] = _named(values["tasks"], grid.tasks)
    values["generators"] = _named(values["generators"], grid.generators)
    values["methods"] = _named(values["methods"], [*grid.methods, *grid.synthetic_methods])
    return values


def _named(block: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: block[name] for name in dict.fromkeys(names)}


def _minus(value: float) -> str:
    """A signed number with a true minus, which is as wide as the plus."""
    return signed(value).replace("-", "−")


def _section(table: Table, seen: Observed, charts: Sequence[Figure]) -> dict[str, Any]:
    id_ = f"{table.dataset}-{table.task}"
    return {
        "id": id_,
        "table": table,
        "footnotes": footnotes(table),
        "caption": caption(table),
        "gain_sentences": gain_sentences(table),
        "best": {column: _best([row.values[column] for row in table.rows]) for column in table.columns},
        "generators": generator_cells(table.generators) if table.generators else [],
        "generator_caption": generator_caption(table.generators) if table.generators else "",
        "charts": {f"{id_}-{figure.name}": figure for figure in charts},
        "eval_splits": [c for c in table.columns if any(c in errors for errors in seen.ece.values())],
        "ece": seen.ece,
        "words": seen.words,
    }


def _best(values: list[Value]) -> float | None:
    """The highest mean of a column as it is printed, so that equal print is equally bold."""
    return max((round(value.mean, 2) for value in values if value.mean is not None), default=None)

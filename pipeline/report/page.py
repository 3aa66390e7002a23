"""`index.html`: one file that needs no network, drawn from a `Summary` by the templates beside this module."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jinja2
import yaml

from pipeline.params import Params
from pipeline.report import figures
from pipeline.report.generators import generator_caption, generator_cells
from pipeline.report.summary import Summary, Table, Value
from pipeline.report.wording import caption, footnotes, gain_sentences, heading, number, signed


def page(params: Params, summary: Summary) -> str:
    """The whole page as HTML; the same summary and parameters give the same bytes."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report", package_path=""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "signed": _minus, "heading": heading}
    return environment.get_template("page.html").render(
        summary=summary,
        sections=[_section(table) for table in summary.tables],
        settings=yaml.safe_dump(used(params), sort_keys=False, default_flow_style=None, width=100),
    )


def used(params: Params) -> dict[str, Any]:
    """The parameters behind the numbers: what the grid names, and nothing that differs by machine."""
    values, grid = params.model_dump(mode="json", exclude={"compute": True, "data": {"root": True}}), params.grid
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


def _section(table: Table) -> dict[str, Any]:
    return {
        "id": f"{table.dataset}-{table.task}",
        "table": table,
        "footnotes": footnotes(table),
        "caption": caption(table),
        "gain_sentences": gain_sentences(table),
        "best": {column: _best([row.values[column] for row in table.rows]) for column in table.columns},
        "generators": generator_cells(table.generators) if table.generators else [],
        "generator_caption": generator_caption(table.generators) if table.generators else "",
        "charts": [figures.accuracies(table), figures.gains(table)],
    }


def _best(values: list[Value]) -> float | None:
    """The highest mean of a column as it is printed, so that equal print is equally bold."""
    return max((round(value.mean, 2) for value in values if value.mean is not None), default=None)

"""Render `index.html`, a single file that needs no network, from a `Summary` and the templates beside this module.

Tables are plain HTML and work without scripts. Figures are Vega-Lite; the package `vl-convert` contains its JavaScript.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jinja2
from ruamel.yaml import YAML
from vl_convert import javascript_bundle

from features.errors import InputError
from features.formats.files import atomic_file
from pipeline.config.params import Params
from pipeline.report.balance import balance_caption, balance_cells
from pipeline.report.diagnostics_data import Diagnostics
from pipeline.report.figures import Figure, script_json
from pipeline.report.formatting import caption, footnotes, gain_sentences, heading, number, signed
from pipeline.report.generators import generator_caption, generator_cells
from pipeline.report.selected import selection_sentences
from pipeline.report.summary import Summary, Table, Value

MARKER = "<!-- this machine -->"  # `shipyard report` replaces it with a section that no DVC output may contain


def page(
    params: Params,
    summary: Summary,
    diagnostics: Sequence[Diagnostics],
    charts: Sequence[Sequence[Figure]],
    shots: Sequence[Figure],
) -> str:
    """Return the whole page as HTML. The same inputs give the same bytes.

    Args:
        params: parameters of the grid.
        summary: tables of the grid.
        diagnostics: diagnostics of each table.
        charts: figures of each table.
        shots: figures of accuracy by number of shots, each over several tables.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pipeline.report", package_path=""),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "signed": _typographic_signed, "heading": heading}

    sections = [_section(*parts) for parts in zip(summary.tables, diagnostics, charts, strict=True)]
    shots_charts = {f"shots-{i}": figure for i, figure in enumerate(shots)}

    # The specifications of all figures, by the id of the element that each is drawn into.
    specs: dict[str, Any] = {}
    for group in (*(section["charts"] for section in sections), shots_charts):
        specs |= {element_id: figure.spec for element_id, figure in group.items()}

    return environment.get_template("page.html").render(
        summary=summary,
        sections=sections,
        shots=shots_charts,
        charts=script_json(specs),
        library=vega_library(),
        marker=MARKER,
        settings=_yaml(reported_params(params)),
    )


@cache
def vega_library() -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script, for a `<script>` element.

    `vl-convert` takes seconds to bundle them, always with the same result. So the script is kept in the user's cache
    folder, under the version of `vl-convert`.
    """
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "shipyard"
    path = folder / f"vega-{version('vl-convert-python')}.js"
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        pass  # not cached yet

    bundle = javascript_bundle("window.vegaEmbed = vegaEmbed;")
    script = bundle.replace("</script", "<\\/script")  # would end the element

    # Without a writable cache, the next process bundles it again.
    with contextlib.suppress(InputError, OSError), atomic_file(path) as part:
        part.write_text(script, encoding="utf-8", newline="\n")
    return script


def reported_params(params: Params) -> dict[str, Any]:
    """Return the parameters behind the numbers: those that the grid names, without those that differ by machine."""
    machine: dict[str, Any] = {"compute": True, "data": {"root": True}, "extract": {"engine": True}}
    values = params.model_dump(mode="json", exclude=machine)
    grid = params.grid

    values["encoders"] = _subset(values["encoders"], [grid.encoder])
    values["data"]["sets"] = _subset(values["data"]["sets"], grid.datasets)
    values["tasks"] = _subset(values["tasks"], grid.tasks)
    values["generators"] = _subset(values["generators"], grid.generators)
    values["methods"] = _subset(values["methods"], [*grid.methods, *grid.synthetic_methods])
    return values


def _subset(block: Mapping[str, Any], names: list[str]) -> dict[str, Any]:
    return {name: block[name] for name in dict.fromkeys(names)}


def _yaml(values: Mapping[str, Any]) -> str:
    """Return values as YAML, with the keys in their order."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]

    text = io.StringIO()
    yaml.dump(values, text)
    return text.getvalue()


def _typographic_signed(value: float) -> str:
    """Return a signed number with a true minus sign, which is as wide as the plus sign."""
    return signed(value).replace("-", "−")


def _section(table: Table, diagnostics: Diagnostics, charts: Sequence[Figure]) -> dict[str, Any]:
    """Return the variables of the template for one table."""
    section_id = f"{table.dataset}-{table.task}"
    return {
        "id": section_id,
        "table": table,
        "footnotes": footnotes(table),
        "caption": caption(table),
        "gain_sentences": gain_sentences(table),
        "best": {column: _best([row.values[column] for row in table.rows]) for column in table.columns},
        "generators": generator_cells(table.generators) if table.generators else [],
        "generator_caption": generator_caption(table.generators) if table.generators else "",
        "balance": balance_cells(table.balance) if table.balance else [],
        "balance_caption": balance_caption(table.balance) if table.balance else [],
        "charts": {f"{section_id}-{figure.name}": figure for figure in charts},
        "selection": selection_sentences(table.selection) if table.selection else [],
        "eval_splits": [
            column
            for name in table.columns
            for column in (name, f"{name}, calibrated")
            if any(column in errors for errors in diagnostics.ece.values())
        ],
        "ece": diagnostics.ece,
        "words": diagnostics.words,
    }


def _best(values: list[Value]) -> float | None:
    """Return the highest mean of a column, rounded as it is printed, so that equal numbers are equally bold."""
    return max((round(value.mean, 2) for value in values if value.mean is not None), default=None)

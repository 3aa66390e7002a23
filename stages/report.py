"""Stage `report`: turn all score files of the grid into tables, plots and a page in `artifacts/<encoder>/report`."""

from __future__ import annotations

from stages.running import run
from pipeline.artifacts.paths import EncoderPaths
from pipeline.config.params import load
from pipeline.report.build import write_report


def main() -> None:
    """Write `artifacts/<encoder>/report/`."""
    params = load()
    write_report(params, EncoderPaths(params.artifacts).report)


if __name__ == "__main__":
    run(main)

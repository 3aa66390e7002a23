"""Results in a page of the repository: words above a line `---` that people write, below it what the report says."""

from __future__ import annotations

import re
from pathlib import Path

from features.errors import InputError
from features.formats.files import written_whole

RULE = "\n---\n"


def record(page: Path, folder: Path) -> None:
    """Put `summary.md` of a report's folder below the page's first line `---`, and `results.csv` beside the page.

    Raises:
        InputError: there is no report, or the page is not there or has no such line.
    """
    try:
        above, rule, _ = page.read_text(encoding="utf-8").partition(RULE)
        summary, results = (folder / "summary.md").read_text(encoding="utf-8"), (folder / "results.csv").read_bytes()
    except OSError as error:
        why = f"cannot read {error.filename}: {error.strerror}"
        raise InputError(f"{why}; `shipyard run` makes the results, the page is yours to begin") from error
    if not rule:
        raise InputError(f"{page} has no line `---`; what stands below it is replaced by the tables, so put one in")
    with written_whole(page) as part:
        part.write_text(above + RULE + "\n" + re.sub("^#", "##", summary, flags=re.MULTILINE), encoding="utf-8")
    with written_whole(page.with_suffix(".csv")) as part:
        part.write_bytes(results)

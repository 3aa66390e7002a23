"""Insert the tables of the report into a Markdown page, between two marks; the rest of the page is kept."""

from __future__ import annotations

import os
import re
from pathlib import Path

from features.errors import InputError
from features.formats.files import atomic_file
from features.formats.seal import check_listed
from pipeline.artifacts.paths import ROOT

BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"
KEY_COLUMNS = b"task,dataset,method,seed,"  # every version of results.csv starts with these


def check_page(page: Path) -> tuple[str, str]:
    """Return the text of a page before and after its tables.

    Raises:
        InputError: the page does not exist, lacks a mark or lies in the artifacts, or the CSV beside it does not
            contain results.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--into {page}: {error}. Name an existing page that contains the two marks.") from error
    above, begin, rest = text.partition(BEGIN)
    _, end, below = rest.partition(END)
    if not (begin and end):
        raise InputError(
            f"--into {page}: the page must contain the lines `{BEGIN.strip()}` and `{END.strip()}`; the text between "
            "them is replaced by the tables"
        )
    table = page.with_suffix(".csv")
    if os.path.lexists(table) and not (table.is_file() and table.read_bytes().startswith(KEY_COLUMNS)):
        raise InputError(
            f"--into {page}: results.csv is copied to {table}, but that file is not a results.csv; move it away"
        )
    if page.resolve().is_relative_to(ROOT.resolve()):
        raise InputError(f"--into {page}: it is in {ROOT}, which holds results; name a page in another folder")
    if not os.access(page.parent, os.W_OK):
        raise InputError(f"--into {page}: the folder {page.parent} is not writable")
    return above, below


def update_results_page(page: Path, folder: Path) -> None:
    """Write `summary.md` of a report between the marks of the page, and copy `results.csv` beside the page.

    Raises:
        InputError: there is no report, or `check_page` rejects the page. Nothing is written in this case.
    """
    above, below = check_page(page)
    for name in ("summary.md", "results.csv"):
        check_listed(folder / name)
    summary = (folder / "summary.md").read_text(encoding="utf-8")
    results = (folder / "results.csv").read_bytes()

    # The page has a title of its own, so each heading goes one level down.
    tables = re.sub("^#", "##", summary, flags=re.MULTILINE)
    with atomic_file(page.resolve()) as part:
        part.write_text(f"{above}{BEGIN}\n{tables}\n{END}{below}", encoding="utf-8")
    with atomic_file(page.with_suffix(".csv")) as part:
        part.write_bytes(results)

"""Results in a page of the repository: the author's text stays, the report's tables stand between two marks."""

from __future__ import annotations

import re
from pathlib import Path

from features.errors import InputError
from features.formats.files import atomic_file

BEGIN, END = "<!-- results -->\n", "<!-- end of results -->\n"
KEY_COLUMNS = b"task,dataset,method,seed,"  # how a results.csv of any version begins


def check_page(page: Path) -> tuple[str, str]:
    """Return the text of a page before and after its tables.

    Raises:
        InputError: the page does not exist or lacks a mark, or the CSV beside it is another file than results.
    """
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--into {page}: {error}. Name a page that exists and holds the two marks.") from error
    above, begin, rest = text.partition(BEGIN)
    _, end, below = rest.partition(END)
    if not (begin and end):
        raise InputError(
            f"--into {page}: the page must hold the lines `{BEGIN.strip()}` and `{END.strip()}`; what stands between "
            "them is replaced by the tables"
        )
    table = page.with_suffix(".csv")
    if table.exists() and not (table.is_file() and table.read_bytes().startswith(KEY_COLUMNS)):
        raise InputError(f"--into {page}: {table}, where results.csv goes, holds something else; move it away")
    return above, below


def update_results_page(page: Path, folder: Path) -> None:
    """Put `summary.md` of a report's folder between the page's marks, and `results.csv` beside the page.

    Raises:
        InputError: there is no report, or `check_page` refuses the page. Nothing is written then.
    """
    above, below = check_page(page)
    try:
        summary, results = (folder / "summary.md").read_text(encoding="utf-8"), (folder / "results.csv").read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {error.filename}: {error.strerror}; `shipyard run` makes it") from error
    tables = re.sub("^#", "##", summary, flags=re.MULTILINE)
    with atomic_file(page) as part:
        part.write_text(f"{above}{BEGIN}\n{tables}\n{END}{below}", encoding="utf-8")
    with atomic_file(page.with_suffix(".csv")) as part:
        part.write_bytes(results)

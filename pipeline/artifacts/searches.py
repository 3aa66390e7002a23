"""The file `searches.csv` of a fit: the settings that each seed selected on validation images, and what was tried."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from features.formats.csv_cells import read_rows, write_rows
from features.formats.seal import check_listed
from pipeline.training.log import Search

COLUMNS = ("seed", "setting", "value", "lowest", "highest")


def write_searches(path: Path, searches: Iterable[tuple[int, Search]]) -> None:
    """Write a row for each seed and setting."""
    rows = [(seed, s.setting, *(_digits(value) for value in (s.value, s.lowest, s.highest))) for seed, s in searches]
    with path.open("w", newline="", encoding="utf-8") as file:
        write_rows(file, [COLUMNS, *rows])


def read_searches(path: Path) -> list[tuple[int, Search]]:
    """Return the seeds and settings of `searches.csv`; nothing if there is no such file, because nothing was searched.

    Raises:
        InputError: the file is damaged.
    """
    if not path.is_file():
        return []
    check_listed(path)
    return [
        (int(row["seed"]), Search(row["setting"], *(float(row[name]) for name in ("value", "lowest", "highest"))))
        for row in read_rows(path)
    ]


def edge_warnings(searches: Iterable[tuple[int, Search]]) -> Iterator[str]:
    """Yield a sentence for each setting and edge of its range at which the search of some seeds ended."""
    at_edge: dict[Search, list[int]] = {}
    for seed, search in searches:
        if search.at_edge:
            at_edge.setdefault(search, []).append(seed)

    for search, seeds in at_edge.items():
        which = "highest" if search.value == search.highest else "lowest"
        yield (
            f"{search.setting} ended at {_digits(search.value)}, the {which} value tried "
            f"({_digits(search.lowest)} to {_digits(search.highest)}), with seed {', '.join(map(str, seeds))}"
        )


def _digits(value: float) -> str:
    return f"{value:.6g}"

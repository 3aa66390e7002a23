"""Measure times of both sides of a comparison, in turn and in one process, and print them as tables."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from features.runtime.cores import cores

REPEATS = 5
LINEAR = 1.05  # largest exponent allowed for a cost: 1 is linear growth, a constant part makes it less


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: what was measured; it identifies the row in `latest.json`.
        ours: median of this project.
        reference: median of the reference, or a limit.
        unit: of both.
        ratio: how many times better ours is.
        at_least: the ratio that is required.
        machine: description of the machine.
    """

    name: str
    ours: float
    reference: float
    unit: str
    ratio: float
    at_least: float
    machine: str

    @classmethod
    def of(cls, name: str, ours: float, reference: float, *, at_least: float, unit: str = "s") -> Row:
        """Return a row of times or bytes, where less is better, or of a unit `.../s`, where more is better."""
        ratio = ours / reference if unit.endswith("/s") else reference / ours
        ours, reference, ratio = (float(f"{value:.4g}") for value in (ours, reference, ratio))
        return cls(name, ours, reference, unit, ratio, at_least, machine())

    @classmethod
    def growth(cls, name: str, sizes: Sequence[int], measured: Sequence[float], *, most: float) -> Row:
        """Return a row of the exponent of a power law through measurements at several sizes, with its upper limit."""
        exponent = float(np.polyfit(np.log(sizes), np.log(measured), 1)[0])
        return cls.of(name, max(exponent, 1e-3), most, unit="exponent", at_least=1)

    def as_dict(self) -> dict[str, str | float]:
        """Return the row as `latest.json` stores it."""
        return asdict(self)


def machine() -> str:
    """Return a description of the machine."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    return f"{cores()} cores of {model}{gpu}, Python {platform.python_version()}, torch {torch.__version__}"


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of one call in seconds, until the device is done."""
    _wait()
    start = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def in_turn(*works: Callable[[], object], repeats: int = REPEATS, warm: bool = True) -> list[float]:
    """Return the median time of each work in seconds; they run in turn, so that a disturbance affects all alike."""
    if warm:
        for work in works:
            work()
    times = [[seconds(work) for work in works] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def table(rows: Sequence[Row]) -> str:
    """Return rows as a text table, with the machine on the last line."""
    head = ("benchmark", "ours", "reference", "unit", "ratio", "at least", "")
    body = [
        (r.name, f"{r.ours:g}", f"{r.reference:g}", r.unit, f"{r.ratio:g}", f"{r.at_least:g}", verdict(r)) for r in rows
    ]
    widths = [max(len(line[column]) for line in [head, *body]) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in [head, *body]]
    return "\n".join([*(line.rstrip() for line in lines), machine()])


def markdown(rows: Sequence[Row]) -> str:
    """Return rows as a Markdown table with a column for each machine, and the machines below.

    A cell has ours, the reference and the ratio, and `-` where the machine has not run the benchmark.
    """
    machines = {machine: number for number, machine in enumerate(dict.fromkeys(row.machine for row in rows), 1)}
    measured = {(row.name, row.machine): row for row in rows}
    head = ["benchmark", "unit", "at least", *(f"machine {number}" for number in machines.values())]
    lines = [head, ["---", "---", *["--:"] * (len(head) - 2)]]
    for row in {row.name: row for row in reversed(rows)}.values():
        cells = [_cell(measured.get((row.name, machine))) for machine in machines]
        lines.insert(2, [row.name, row.unit, f"{row.at_least:g}", *cells])
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return table + "".join(f"\nMachine {number}: {machine}.\n" for machine, number in machines.items())


def _cell(row: Row | None) -> str:
    if row is None:
        return "-"
    return f"{row.ours:g} / {row.reference:g}: {row.ratio:.3g}{'' if verdict(row) == 'ok' else ' MISSED'}"


def verdict(row: Row) -> str:
    """Return whether the row has the required ratio."""
    return "ok" if row.ratio >= row.at_least else "MISSED"

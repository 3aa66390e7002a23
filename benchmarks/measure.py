"""How the benchmarks measure: both sides in turn in one process, medians, and peaks of memory in a process each."""

from __future__ import annotations

import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch

from features.runtime.devices import cores

ROOT = Path(__file__).resolve().parent.parent
REPEATS = 5
STRAIGHT = 1.05  # the most that the exponent of a cost may be: 1 is a straight line, what is constant makes it less


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes:
        name: what was done. ours, reference: the medians. unit: of both.
        ratio: how many times better ours is. at_least: what it must be. machine: in words.
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
        """Of times or bytes, of which less is better; of `.../s`, more."""
        ratio = ours / reference if unit.endswith("/s") else reference / ours
        ours, reference, ratio = (float(f"{value:.4g}") for value in (ours, reference, ratio))
        return cls(name, ours, reference, unit, ratio, at_least, machine())

    @classmethod
    def growth(cls, name: str, sizes: Sequence[int], measured: Sequence[float], *, most: float) -> Row:
        """Of the exponent of a power law through measurements at several sizes, and the most that it may be."""
        exponent = float(np.polyfit(np.log(sizes), np.log(measured), 1)[0])
        return cls.of(name, max(exponent, 1e-3), most, unit="exponent", at_least=1)

    def as_dict(self) -> dict[str, str | float]:
        """For `latest.json`."""
        return asdict(self)


def machine() -> str:
    """The machine in words."""
    model = next(
        (line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor() or platform.machine(),
    )
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ", no GPU"
    return f"{cores()} cores of {model}{gpu}, Python {platform.python_version()}, torch {torch.__version__}"


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call, until the device is done."""
    _wait()
    start = time.perf_counter()
    work()
    _wait()
    return time.perf_counter() - start


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def in_turn(*works: Callable[[], object], repeats: int = REPEATS, warm: bool = True) -> list[float]:
    """The median time of each, run in turn so that what disturbs the machine disturbs all alike."""
    if warm:
        for work in works:
            work()
    times = [[seconds(work) for work in works] for _ in range(repeats)]
    return [statistics.median(column) for column in zip(*times, strict=True)]


def peak_bytes(module: str, *arguments: str) -> int:
    """The most memory that `python -m module arguments` held at a time, by its own account."""
    command = [sys.executable, "-m", module, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, env=environment)  # noqa: S603
    return int(done.stdout.splitlines()[-1])


def own_peak_bytes() -> int:
    """The most memory that this process has held; the kernel's `ru_maxrss` would begin with what its parent held."""
    for line in _lines("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def table(rows: Sequence[Row]) -> str:
    """Rows for people, the machine last."""
    head = ("benchmark", "ours", "reference", "unit", "ratio", "at least", "")
    body = [
        (r.name, f"{r.ours:g}", f"{r.reference:g}", r.unit, f"{r.ratio:g}", f"{r.at_least:g}", verdict(r)) for r in rows
    ]
    widths = [max(len(line[column]) for line in [head, *body]) for column in range(len(head))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in [head, *body]]
    return "\n".join([*(line.rstrip() for line in lines), machine()])


def markdown(rows: Sequence[Row]) -> str:
    """Rows as a table of a page, the machine below."""
    head = "| benchmark | ours | reference | unit | ratio | at least | |\n| --- | --: | --: | --- | --: | --: | --- |\n"
    lines = (
        f"| {r.name} | {r.ours:g} | {r.reference:g} | {r.unit} | {r.ratio:g} | {r.at_least:g} | {verdict(r)} |\n"
        for r in rows
    )
    return f"{head}{''.join(lines)}\nOn {rows[0].machine}.\n"


def verdict(row: Row) -> str:
    """Whether the ratio is what it must be."""
    return "ok" if row.ratio >= row.at_least else "MISSED"

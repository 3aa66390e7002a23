"""The report with what belongs to this machine: the commit, time and bytes of each stage, pictures of what goes wrong.

None of it may stand in an output of DVC, or the same inputs would not give the same bytes. So `shipyard report` writes
`artifacts/<encoder>/report.html`: the tracked page, and one section more.
"""

from __future__ import annotations

import base64
import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import yaml

from features.datasets.base import reader_from
from features.encoding.images import UnreadableImageError, read_image
from features.errors import InputError
from features.formats import hdf5
from features.formats.files import atomic_file
from features.index import read_index, read_names
from features.runtime.progress import clock
from pipeline.artifacts import paths
from pipeline.config.params import PATH, Params
from pipeline.executor.git import git
from pipeline.report.page import MARKER
from pipeline.report.summary import Summary, Table

REMEDY = "`dvc repro` makes it, `dvc pull` brings it"
CLASSES, EACH, SIDE = 4, 3, 128  # worst classes of a eval_split, pictures of each, and their longer side in pixels


@dataclass
class Cost:
    """One stage's cells together. `seconds` is None where a cell's result came from a cache."""

    stage: str
    cells: int = 0
    size: int = 0
    seconds: float | None = 0.0

    @property
    def time(self) -> str:
        """As printed."""
        return "–" if self.seconds is None else clock(self.seconds)

    @property
    def bytes(self) -> str:
        """As printed."""
        return f"{self.size / 1e6:,.1f} MB" if self.size >= 1e5 else f"{self.size / 1e3:,.1f} kB"


@dataclass(frozen=True)
class Picture:
    """A test image that is taken for another class; `data` is a JPEG in base64."""

    label: str
    predicted: str
    data: str


@dataclass(frozen=True)
class Mistakes:
    """Some of a table's mistakes: of the run with the highest last column, in the worst classes, by the first seed.

    `missing` says why the rest of the pictures is not shown, such as that the images are not on this machine.
    """

    table: str
    run: str
    pictures: list[Picture] = field(default_factory=list)
    missing: str = ""


def write_local_report(params: Params, summary: Summary) -> Path:
    """Write the page with this machine's section, and say where it lies.

    Raises:
        InputError: there is no tracked page yet.
    """
    tracked = paths.EncoderPaths(params.artifacts).report / "index.html"
    try:
        page = tracked.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{tracked} cannot be read: {error.strerror}. Run `dvc repro report`.") from error
    loader = jinja2.PackageLoader("pipeline.report", package_path="")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    mistakes = [found for table in summary.tables if (found := _mistakes(params, table)).pictures or found.missing]
    section = environment.get_template("local_report.html").render(commit=commit(), costs=costs(params), mistakes=mistakes)
    out = params.artifacts / "report.html"
    with atomic_file(out) as part:
        part.write_text(page.replace(MARKER, section, 1), encoding="utf-8")
    return out


def commit() -> str:
    """The commit that is checked out, and whether files differ from it; empty outside git."""
    found = git("rev-parse", "HEAD") or ""
    return f"{found}{', with changes that are not committed' if found and git('status', '--porcelain') else ''}"


def costs(params: Params) -> list[Cost]:
    """Time and bytes of the grid's stages, in the order of dvc.yaml."""
    lock, times = Path("dvc.lock"), _times()
    stages: dict[str, Any] = yaml.safe_load(lock.read_text(encoding="utf-8"))["stages"] if lock.is_file() else {}
    found: dict[str, Cost] = {}
    for name, stage in stages.items():
        if not _in_grid(params, stage["cmd"]):
            continue
        cost = found.setdefault(name.partition("@")[0], Cost(name.partition("@")[0]))
        cost.cells += 1
        cost.size += sum(out.get("size", 0) for out in stage.get("outs", ()))
        seconds = times.get(stage["cmd"])
        cost.seconds = None if seconds is None or cost.seconds is None else cost.seconds + seconds
    order = {name: i for i, name in enumerate(yaml.safe_load(Path("dvc.yaml").read_text(encoding="utf-8"))["stages"])}
    return sorted(found.values(), key=lambda cost: order.get(cost.stage, len(order)))


def _in_grid(params: Params, command: str) -> bool:
    options: Mapping[str, str] = dict(re.findall(r"--(dataset|task) (\S+)", command))
    named = {"dataset": params.grid.datasets, "task": params.grid.tasks}
    return all(value in named[axis] for axis, value in options.items())


def _times() -> dict[str, float]:
    """Command -> seconds, of the last time that it ran here."""
    if not paths.TIMES.is_file():
        return {}
    with paths.TIMES.open(newline="", encoding="utf-8") as file:
        return {command: float(seconds) for command, seconds in csv.reader(file)}


def _mistakes(params: Params, table: Table) -> Mistakes:
    """Pictures of a table's mistakes, or why there are none."""
    last = table.columns[-1]
    best = max(table.rows, key=lambda row: row.values[last].mean or 0.0).run
    found = Mistakes(f"{table.dataset}, {table.task}", best)
    if table.averaged:
        return found
    try:
        reader = reader_from(params.data.sets[table.dataset], f"{PATH}: data.sets.{table.dataset}")
        folder = reader.folder(Path(params.data.root))
        for name, predicted, path in _wrong(params, table, best):
            found.pictures.append(Picture(name, predicted, _thumbnail(folder / path)))
    except (InputError, UnreadableImageError, OSError, KeyError) as error:
        return replace(found, missing=str(error))
    return found


def _wrong(params: Params, table: Table, run: str) -> Iterator[tuple[str, str, str]]:
    """Class, prediction and path of some wrong test images of each eval_split's worst classes."""
    cell = paths.EncoderPaths(params.artifacts).cell(table.dataset, table.task)
    index, classes = read_index(paths.index(table.dataset)), read_names(paths.names(table.dataset)).classes
    test = index.rows("test")
    with hdf5.open_file(cell.test, REMEDY) as judged, hdf5.open_file(cell.logits(run), REMEDY) as scored:
        names, seed = hdf5.text_list_attribute(judged, "names"), f"seed={params.grid.seeds[0]}"
        for name in hdf5.get_member(scored, seed):
            labels, rows, candidates = (
                hdf5.read_array(judged, f"eval_split={name}/{key}") for key in ("labels", "rows", "candidates")
            )
            predicted = candidates[hdf5.read_array(scored, f"{seed}/{name}").argmax(1)]
            wrong: dict[int, list[int]] = defaultdict(list)
            for i in np.flatnonzero(predicted != labels).tolist():
                wrong[int(labels[i])].append(i)
            shares = {label: len(found) / (labels == label).sum() for label, found in wrong.items()}
            for label in sorted(shares, key=lambda label: (-shares[label], label))[:CLASSES]:
                for i in wrong[label][:EACH]:
                    place = int(test[rows[i]])
                    if classes[index.class_ids[place]] == names[label]:
                        yield names[label], names[predicted[i]], index.paths[place]


def _thumbnail(path: Path) -> str:
    image = read_image(path)
    image.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode()

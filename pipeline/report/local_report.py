"""Write the report with a section about this machine: commit, times, sizes, misclassified images, copies.

None of this may be in an output of DVC, because the same inputs would no longer give the same bytes. Therefore
`shipyard report` writes `artifacts/<encoder>/report.html`: the page that DVC tracks, with one more section.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from ruamel.yaml import YAML

from features.datasets.base import reader_from
from features.encoding.images import UnreadableImageError
from features.errors import InputError
from features.formats import hdf5
from features.formats.files import atomic_file
from features.formats.seal import check_listed
from features.index import read_names
from features.index_table import Index, read_index
from features.runtime.progress import clock
from features.shards.source import ImageSource
from pipeline.artifacts import paths
from pipeline.config.params import PATH, Params
from pipeline.executor.git import git
from pipeline.executor.repository import read_lock_file
from pipeline.report.copies import copies
from pipeline.report.page import MARKER
from pipeline.report.summary import Summary, Table
from pipeline.report.thumbnails import thumbnail

WORST_CLASSES = 4  # per evaluation split
IMAGES_PER_CLASS = 3


@dataclass
class Cost:
    """Time and size of all cells of one stage. `seconds` is None if the result of a cell came from DVC's cache."""

    stage: str
    cells: int = 0
    size: int = 0
    seconds: float | None = 0.0

    @property
    def time(self) -> str:
        """The time as text."""
        return "–" if self.seconds is None else clock(self.seconds)

    @property
    def bytes(self) -> str:
        """The size as text."""
        return f"{self.size / 1e6:,.1f} MB" if self.size >= 1e5 else f"{self.size / 1e3:,.1f} kB"


@dataclass(frozen=True)
class Mistake:
    """A test image that is classified wrongly; `data` is a JPEG in base64."""

    label: str
    predicted: str
    data: str


@dataclass(frozen=True)
class Mistakes:
    """Some mistakes of the run with the highest last column of a table: in its worst classes, with the first seed.

    `missing` says why other images are not shown, for example because the data set is not on this machine.
    """

    table: str
    run: str
    images: list[Mistake] = field(default_factory=list)
    missing: str = ""


def write_local_report(params: Params, summary: Summary) -> Path:
    """Write the page with the section about this machine, and return its path.

    Raises:
        InputError: there is no page of stage `report` yet.
    """
    tracked = paths.EncoderPaths(params.artifacts).report / "index.html"
    check_listed(tracked)
    page = tracked.read_text(encoding="utf-8")

    loader = jinja2.PackageLoader("pipeline.report", package_path="")
    environment = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    mistakes = [_mistakes(params, table) for table in summary.tables]
    section = environment.get_template("local_report.html").render(
        commit=commit(),
        costs=costs(params),
        mistakes=[m for m in mistakes if m.images or m.missing],
        copies=list(copies(params)),
    )

    out = params.artifacts / "report.html"
    with atomic_file(out) as part:
        part.write_text(page.replace(MARKER, section, 1), encoding="utf-8")
    return out


def commit() -> str:
    """Return the current commit, and whether there are uncommitted changes; empty outside a git repository."""
    head = git("rev-parse", "HEAD") or ""
    changed = head and git("status", "--porcelain")
    return f"{head}, with uncommitted changes" if changed else head


def costs(params: Params) -> list[Cost]:
    """Return the time and the size of the grid's stages, in the order of dvc.yaml."""
    times = _times()
    try:
        stages: dict[str, Any] = read_lock_file()["stages"]
    except InputError:
        stages = {}  # `shipyard run` and `shipyard doctor` report that

    by_stage: dict[str, Cost] = {}
    for name, stage in stages.items():
        if not _in_grid(params, stage["cmd"]):
            continue

        base = name.partition("@")[0]  # `fit` of `fit@twemoji-few_shot-coop`
        cost = by_stage.setdefault(base, Cost(base))
        cost.cells += 1
        cost.size += sum(out.get("size", 0) for out in stage.get("outs", ()))
        seconds = times.get(stage["cmd"])
        cost.seconds = None if seconds is None or cost.seconds is None else cost.seconds + seconds

    order = {name: i for i, name in enumerate(_stages(Path("dvc.yaml")))}
    return sorted(by_stage.values(), key=lambda cost: order.get(cost.stage, len(order)))


def _stages(path: Path) -> dict[str, Any]:
    """Return the stages of `dvc.yaml`."""
    stages: dict[str, Any] = YAML(typ="safe").load(path.read_text(encoding="utf-8"))["stages"]
    return stages


def _in_grid(params: Params, command: str) -> bool:
    """Return whether the data set and the task of a stage's command are in the grid."""
    options: Mapping[str, str] = dict(re.findall(r"--(dataset|task) (\S+)", command))
    axes = {"dataset": params.grid.datasets, "task": params.grid.tasks}
    return all(value in axes[axis] for axis, value in options.items())


def _times() -> dict[str, float]:
    """Return command -> seconds of its last run on this machine."""
    times = {}
    with suppress(OSError):
        # A row that a full disk cut short, or bytes that changed, cost no more than the time of one cell.
        for line in paths.TIMES.read_text(encoding="utf-8", errors="replace").splitlines():
            command, _, seconds = line.rpartition(",")
            with suppress(ValueError):
                times[command] = float(seconds)
    return times


def _mistakes(params: Params, table: Table) -> Mistakes:
    """Return some mistakes of a table with their images, or the reason why there are none."""
    best = table.best.run
    mistakes = Mistakes(table.title, best)
    if table.averaged:
        return mistakes

    try:
        reader = reader_from(params.data.sets[table.dataset], f"{PATH}: data.sets.{table.dataset}")
        source = ImageSource(reader.base(Path(params.data.root)))
        index = read_index(paths.index(table.dataset))
        wrong = [*_wrong(params, table, best, index)]
        for (label, predicted, _), data in zip(
            wrong, source.read([index.image(row) for *_, row in wrong]), strict=True
        ):
            if isinstance(data, str):
                raise UnreadableImageError(data)
            mistakes.images.append(Mistake(label, predicted, thumbnail(data, index.reading)))
    except (InputError, UnreadableImageError, OSError, KeyError) as error:
        return replace(mistakes, missing=str(error))

    return mistakes


def _wrong(params: Params, table: Table, run: str, index: Index) -> Iterator[tuple[str, str, int]]:
    """Yield class, predicted class and row of the index of some misclassified test images of each evaluation split."""
    cell = paths.EncoderPaths(params.artifacts).cell(table.dataset, table.task)
    classes = read_names(paths.names(table.dataset)).classes
    test = index.rows("test")

    with (
        hdf5.open_sealed(cell.test, paths.FIX_HINT) as task_file,
        hdf5.open_sealed(cell.logits(run), paths.FIX_HINT) as logits_file,
    ):
        names = hdf5.text_list_attribute(task_file, "names")
        seed = f"seed={params.grid.seeds[0]}"

        for eval_split in hdf5.get_member(logits_file, seed):
            labels, rows, candidates = (
                hdf5.read_array(task_file, f"eval_split={eval_split}/{key}") for key in ("labels", "rows", "candidates")
            )
            predicted = candidates[hdf5.read_array(logits_file, f"{seed}/{eval_split}").argmax(1)]

            wrong: dict[int, list[int]] = defaultdict(list)
            for i in np.flatnonzero(predicted != labels).tolist():
                wrong[int(labels[i])].append(i)

            # The classes with the highest share of errors; equal ones in the order of their labels.
            shares = {label: len(images) / (labels == label).sum() for label, images in wrong.items()}
            worst = sorted(shares, key=lambda label: (-shares[label], label))[:WORST_CLASSES]

            for label in worst:
                for i in wrong[label][:IMAGES_PER_CLASS]:
                    position = int(test[rows[i]])
                    # Skip images of a newer index, whose rows no longer match the scores.
                    if classes[index.class_ids[position]] == names[label]:
                        yield names[label], names[predicted[i]], position

"""Every CSV file that this project writes of names is safe to open in a spreadsheet, and is listed here."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from project_root import ROOT

from features.errors import InputError
from features.formats.csv_cells import read_rows
from pipeline.artifacts.generator_scores import GeneratorQuality
from pipeline.inference import outputs
from pipeline.inference.predict import Prediction
from pipeline.metrics.diagnostics import SplitLogits, write_diagnostics
from pipeline.report.figures import FIELDS, Figure, figure_csv
from pipeline.report.generators import generators_csv
from pipeline.serving.corrections import Corrections
from pipeline.steps.nearest_words import Word, write_words
from pipeline.steps.visualize_features import Points, write_projection

NAMES = (
    *("=cmd|' /C calc'!A0", '=HYPERLINK("http://x","y")', "@SUM(1)", "-1+1", "+1+1", "\t=1", "\r=1", "cat;=1+1"),
    *("＝1+1", "'s-Hertogenbosch"),
)
# Sources that write CSV without `write_rows`: columns and values of these are the project's own words and numbers.
OWN_WORDS = {"pipeline/training/log.py"}


def confusion(file: Path, name: str) -> None:
    logits = SplitLogits(torch.eye(2), torch.tensor([0, 0]), [name, "cat"])
    write_diagnostics(file.parent / "out", {name: [logits]}, file.parent)
    (file.parent / "out/confusion.csv").rename(file)


def words(file: Path, name: str) -> None:
    write_words(file, [(1, (name, name), Word(0, 0, 1, 7, name, 0.5))])


def projection(file: Path, name: str) -> None:
    features = np.random.default_rng(0).normal(size=(4, 3))
    write_projection(Points(features, [name] * 4, ["real", "synthetic"] * 2), ["pca"], file)


def generators(file: Path, name: str) -> None:
    quality = GeneratorQuality.model_validate(QUALITY | {"seeds": [SEED | {"nearest_mean": {name: 1.0}}]})
    file.write_text(generators_csv([quality]), encoding="utf-8", newline="")


def plots(kind: str) -> Callable[[Path, str], None]:
    def write(file: Path, name: str) -> None:
        figure = Figure(kind, name, [dict.fromkeys(FIELDS[kind], name)], {})
        file.write_text(figure_csv(kind, [figure]), encoding="utf-8", newline="")

    return write


def predictions(file: Path, name: str) -> None:
    rows = [Prediction(name, (name,), (0.5,), (True,)), Prediction(name, problem=name)]
    with file.open("w", encoding="utf-8", newline="") as out:
        outputs.write_csv(rows, out)


SEED = {"seed": 1, "unseen": {}, "nearest_mean": {}, "seen": {}, "latent": {}, "kl_by_latent": []}
QUALITY = {
    "dataset": "a",
    "task": "b",
    "generator": "ship",
    "encoder": {"name": "tiny", "weights_sha256": "0" * 64},
    **dict.fromkeys(("images", "classes", "named", "per_class"), 1),
}
WRITERS: dict[str, Callable[[Path, str], None]] = {
    "confusion.csv": confusion,
    "words.csv": words,
    "projection.csv": projection,
    "generators.csv": generators,
    "predict --csv": predictions,
    **{f"plots/{kind}.csv": plots(kind) for kind in FIELDS},
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("writer", WRITERS)
def test_no_cell_of_a_hostile_name_is_evaluated(writer: str, name: str, tmp_path: Path) -> None:
    file = tmp_path / "file.csv"
    WRITERS[writer](file, name)
    text = file.read_bytes().decode()
    for delimiter in (",", ";", "\t"):
        cells = [cell for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) for cell in row]
        assert not [cell for cell in cells if re.match(r"[=@\t\r＝]|[+-](?![\d.]+$)", cell)]
    assert name in {value for row in read_rows(file) for value in row.values()}


@pytest.mark.parametrize("name", [name for name in NAMES if name.isprintable()])
def test_such_a_label_is_refused_because_task_new_reads_tables_as_they_are(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError):
        Corrections(tmp_path / "labels").save(b"", name)


def test_no_other_source_writes_csv() -> None:
    written = re.compile(r"csv\.(writer|DictWriter)\(|\.to_csv\(|pyarrow\.csv|savetxt\(")
    sources = [source for package in ("features", "pipeline", "stages") for source in (ROOT / package).rglob("*.py")]
    writers = {
        path.relative_to(ROOT).as_posix() for path in sources if written.search(path.read_text(encoding="utf-8"))
    }
    assert writers == {"features/formats/csv_cells.py", *OWN_WORDS}

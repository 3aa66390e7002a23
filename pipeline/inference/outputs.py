"""Predictions as a person or a program wants them: a table, CSV, JSON, Parquet, a page with the pictures."""

from __future__ import annotations

import base64
import csv
import io
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq
from jinja2 import Environment, PackageLoader

from features.encoding.images import read_image
from features.formats.files import atomic_file
from pipeline.artifacts.selection import calibration_warning
from pipeline.inference.predict import Model, Prediction

COLUMNS = ("path", "rank", "class", "probability", "seen")
THUMBNAIL = 224  # pixels of its longer side


def rows(predictions: Sequence[Prediction]) -> Iterator[tuple[str, int, str, float, bool]]:
    """A row an image and rank, of the images that could be read; see `COLUMNS`."""
    for found in predictions:
        for rank, row in enumerate(zip(found.classes, found.probabilities, found.seen, strict=True), start=1):
            yield (found.path, rank, *row)


def table(predictions: Sequence[Prediction]) -> str:
    """A line an image: its path, then its classes with their probabilities in percent; `*` marks an unseen class."""
    good = [found for found in predictions if found.problem is None]
    width = max((len(found.path) for found in good), default=0)
    lines = []
    for found in good:
        cells = [
            f"{p:6.1%} {name}{'' if seen else '*'}"
            for name, p, seen in zip(found.classes, found.probabilities, found.seen, strict=True)
        ]
        lines.append(f"{found.path:<{width}}  {'  '.join(cells)}".rstrip())
    return "\n".join(lines)


def write_csv(predictions: Sequence[Prediction], out: TextIO) -> None:
    """Write `COLUMNS` and a line an image and rank."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((*row[:3], f"{row[3]:.6f}", str(row[4]).lower()) for row in rows(predictions))


def write_json(predictions: Sequence[Prediction], model: Model, out: TextIO) -> None:
    """Write the run, and an entry an image: its predictions, or why there are none."""
    images: list[dict[str, Any]] = []
    for found in predictions:
        ranked = [
            {"class": name, "probability": round(p, 6), "seen": seen}
            for name, p, seen in zip(found.classes, found.probabilities, found.seen, strict=True)
        ]
        images.append({"path": found.path} | ({"problem": found.problem} if found.problem else {"predictions": ranked}))
    whole = {"task": model.task, "run": model.run, "seed": model.seed, "images": images}
    json.dump(whole, out, ensure_ascii=False, indent=1)
    out.write("\n")


def write_parquet(predictions: Sequence[Prediction], path: Path) -> None:
    """Write the rows, with the columns of the CSV."""
    types = (pa.string(), pa.int32(), pa.string(), pa.float32(), pa.bool_())
    columns = [[row[i] for row in rows(predictions)] for i in range(len(types))]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    with atomic_file(path) as part:
        pq.write_table(pa.table(dict(zip(COLUMNS, arrays, strict=True))), part)


def write_gallery(predictions: Sequence[Prediction], model: Model, path: Path) -> None:
    """Write one page that needs no other file: each picture, small, with its classes."""
    environment = Environment(loader=PackageLoader("pipeline.inference", ""), autoescape=True)
    page = environment.get_template("gallery.html").stream(
        model=model,
        calibration_warning=calibration_warning(model.run, model.temperature),
        pictures=((found, thumbnail(found.path)) for found in predictions if found.problem is None),
        problems=[found for found in predictions if found.problem is not None],
    )
    with atomic_file(path) as part:
        page.dump(str(part), encoding="utf-8")


def thumbnail(path: str) -> str:
    """A small copy of an image, as the `src` of an HTML image."""
    image = read_image(Path(path))
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"

"""Output formats of predictions: text table, CSV, JSON, Parquet, and an HTML page with the images."""

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

from features.encoding.images import Reading, read_image
from features.formats.files import atomic_file
from pipeline.artifacts.selection import calibration_warning
from pipeline.inference.predict import Model, Prediction

COLUMNS = ("path", "rank", "class", "probability", "seen")
THUMBNAIL = 224  # longer side in pixels


def rows(predictions: Sequence[Prediction]) -> Iterator[tuple[str, int, str, float, bool]]:
    """Yield one row per readable image and rank; see `COLUMNS`."""
    for prediction in predictions:
        ranked = zip(prediction.classes, prediction.probabilities, prediction.seen, strict=True)
        for rank, row in enumerate(ranked, start=1):
            yield (prediction.path, rank, *row)


def table(predictions: Sequence[Prediction]) -> str:
    """Return one line per readable image: its path, then its classes with their probabilities in percent.

    `*` marks an unseen class.
    """
    readable = [prediction for prediction in predictions if prediction.problem is None]
    width = max((len(prediction.path) for prediction in readable), default=0)

    lines = []
    for prediction in readable:
        ranked = zip(prediction.classes, prediction.probabilities, prediction.seen, strict=True)
        cells = [f"{probability:6.1%} {name}{'' if seen else '*'}" for name, probability, seen in ranked]
        lines.append(f"{prediction.path:<{width}}  {'  '.join(cells)}".rstrip())

    return "\n".join(lines)


def write_csv(predictions: Sequence[Prediction], out: TextIO) -> None:
    """Write a header (`COLUMNS`) and one line per readable image and rank."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((*row[:3], f"{row[3]:.6f}", str(row[4]).lower()) for row in rows(predictions))


def write_json(predictions: Sequence[Prediction], model: Model, out: TextIO) -> None:
    """Write the run, and for each image its predictions or the problem that prevented them."""
    images: list[dict[str, Any]] = []
    for prediction in predictions:
        if prediction.problem:
            images.append({"path": prediction.path, "problem": prediction.problem})
            continue

        ranked = [
            {"class": name, "probability": round(probability, 6), "seen": seen}
            for name, probability, seen in zip(
                prediction.classes, prediction.probabilities, prediction.seen, strict=True
            )
        ]
        images.append({"path": prediction.path, "predictions": ranked})

    document = {"task": model.task, "run": model.run, "seed": model.seed, "images": images}
    json.dump(document, out, ensure_ascii=False, indent=1)
    out.write("\n")


def write_parquet(predictions: Sequence[Prediction], path: Path) -> None:
    """Write the same rows and columns as the CSV."""
    types = (pa.string(), pa.int32(), pa.string(), pa.float32(), pa.bool_())
    columns = [[row[i] for row in rows(predictions)] for i in range(len(types))]
    arrays = [pa.array(column, kind) for column, kind in zip(columns, types, strict=True)]
    with atomic_file(path) as part:
        pq.write_table(pa.table(dict(zip(COLUMNS, arrays, strict=True))), part)


def write_gallery(predictions: Sequence[Prediction], model: Model, path: Path) -> None:
    """Write a self-contained HTML page with a thumbnail and the classes of each image."""
    environment = Environment(loader=PackageLoader("pipeline.inference", ""), autoescape=True)
    page = environment.get_template("gallery.html").stream(
        model=model,
        calibration_warning=calibration_warning(model.run, model.temperature),
        # A generator: only one thumbnail is in memory at a time.
        images=(
            (prediction, thumbnail(prediction.path, model.reading))
            for prediction in predictions
            if prediction.problem is None
        ),
        problems=[prediction for prediction in predictions if prediction.problem is not None],
    )
    with atomic_file(path) as part:
        page.dump(str(part), encoding="utf-8")


def thumbnail(path: str, reading: Reading) -> str:
    """Return a small copy of an image, as the encoder sees it, as a data URL for the `src` of an HTML image."""
    image = read_image(Path(path), reading)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"

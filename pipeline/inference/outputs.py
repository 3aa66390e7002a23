"""Output formats of predictions: text table, CSV, JSON, Parquet, and an HTML page with the images."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TextIO

import pyarrow as pa
import pyarrow.parquet as pq
from jinja2 import Environment, PackageLoader
from PIL import Image

from features.encoding.images import Reading, UnreadableImageError
from features.errors import shown
from features.formats.csv_cells import write_rows
from features.formats.files import atomic_file
from pipeline.artifacts.selection import calibration_warning
from pipeline.inference.predict import Model, Prediction, read_file

THUMBNAIL = 224  # longer side in pixels


def columns(predictions: Sequence[Prediction]) -> dict[str, list[Any]]:
    """Return a table with one row per input, in order: `path`, `problem`, `class`, `probability`, `seen`.

    Classes of lower probability follow as `class_2`, `probability_2`, `seen_2` and so on. A file that could not be read
    has a problem and no class; all others have no problem.
    """
    table: dict[str, list[Any]] = {
        "path": [prediction.path for prediction in predictions],
        "problem": [prediction.problem for prediction in predictions],
    }
    ranks = max((len(prediction.classes) for prediction in predictions), default=0)
    for rank in range(max(1, ranks)):
        suffix = f"_{rank + 1}" if rank else ""
        for key, name in (("class", "classes"), ("probability", "probabilities"), ("seen", "seen")):
            values = [getattr(prediction, name) for prediction in predictions]
            table[key + suffix] = [value[rank] if rank < len(value) else None for value in values]
    return table


def table(predictions: Sequence[Prediction]) -> str:
    """Return one line per input: its path, then its classes with their probabilities in percent, or its problem.

    `*` marks an unseen class.
    """
    width = max((len(shown(prediction.path)) for prediction in predictions), default=0)

    lines = []
    for prediction in predictions:
        ranked = zip(prediction.classes, prediction.probabilities, prediction.seen, strict=True)
        cells = [f"{probability:6.1%} {name}{'' if seen else '*'}" for name, probability, seen in ranked]
        if prediction.problem:
            cells = [f"     – {prediction.problem}"]
        lines.append(f"{shown(prediction.path):<{width}}  {'  '.join(cells)}".rstrip())

    return "\n".join(lines)


def write_csv(predictions: Sequence[Prediction], out: TextIO) -> None:
    """Write a header and one line per input; see `columns`."""
    values = columns(predictions)
    rows = zip(*values.values(), strict=True)
    write_rows(out, [[*values], *([_cell(value) for value in row] for row in rows)])


def _cell(value: object) -> object:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6f}" if isinstance(value, float) else value


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
    """Write the same rows and columns as the CSV; bytes of a path that are not UTF-8 are replaced."""
    kinds = {"probability": pa.float32(), "seen": pa.bool_()}
    values = columns(predictions)
    values["path"] = [path.encode(errors="surrogateescape").decode(errors="replace") for path in values["path"]]
    arrays = {name: pa.array(cells, kinds.get(name.split("_")[0], pa.string())) for name, cells in values.items()}
    with atomic_file(path) as part:
        pq.write_table(pa.table(arrays), part)


def write_gallery(
    predictions: Sequence[Prediction], model: Model, path: Path, read: Callable[[str, Reading], Image.Image] = read_file
) -> None:
    """Write a self-contained HTML page with a thumbnail and the classes of each image."""
    environment = Environment(loader=PackageLoader("pipeline.inference", ""), autoescape=True)
    page = environment.get_template("gallery.html").stream(
        model=model,
        calibration_warning=calibration_warning(model.run, model.temperature),
        # A generator: only one thumbnail is in memory at a time.
        images=(
            (prediction, _source(prediction.path, model.reading, read))
            for prediction in predictions
            if prediction.problem is None
        ),
        problems=[prediction for prediction in predictions if prediction.problem is not None],
    )
    with atomic_file(path) as part:
        page.dump(str(part), encoding="utf-8")


def _source(path: str, reading: Reading, read: Callable[[str, Reading], Image.Image]) -> str | None:
    """Return the thumbnail of a file that was classified; None if it is gone since, or can be read only once."""
    try:
        return thumbnail(read(path, reading))
    except UnreadableImageError:
        return None


def thumbnail(image: Image.Image) -> str:
    """Return a small copy of an image, as the encoder sees it, as a data URL for the `src` of an HTML image."""
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    data = io.BytesIO()
    image.save(data, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"

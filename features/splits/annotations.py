"""Read what labelling tools export: COCO, Datumaro, CVAT's XML, Label Studio's JSON, one column a class.

Each becomes records with the keys `path`, `label` and, where the tool gives it, `split`. Crops by box are not made.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from xml.parsers import expat

from features.errors import InputError
from features.splits.folder_layout import split_of
from features.splits.image_files import IMAGE_SUFFIXES
from features.splits.table_columns import text_of

Record = dict[str, Any]
SEVERAL = '{"choices"'  # how a label begins that is several, as Label Studio writes them into CSV
YES = frozenset({"1", "1.0", "true", "t", "yes", "y"})
NO = frozenset({"0", "0.0", "false", "f", "no", "n"})


def label_of(labels: Iterable[str]) -> str | None:
    """Return the label of an image with some labels: the only one, None without one, or all of them as `SEVERAL`."""
    found = sorted(set(labels))
    return json.dumps({"choices": found}) if len(found) > 1 else next(iter(found), None)


def records_of(value: Any) -> list[Record] | None:
    """Return the records of a JSON document; None if it is of no tool that is known."""
    if isinstance(value, list):
        if value and isinstance(value[0], dict) and "annotations" in value[0]:
            return [*_label_studio(value)]
        return value if all(isinstance(record, dict) for record in value) else None
    if not isinstance(value, dict):
        return None
    if {"images", "annotations", "categories"} <= value.keys():
        return [*_coco(value)]
    if {"items", "categories"} <= value.keys():
        return [*_datumaro(value)]
    return None


def _coco(value: Mapping[str, Any]) -> Iterator[Record]:
    names = {category["id"]: category["name"] for category in value["categories"]}
    found: dict[Any, list[str]] = {image["id"]: [] for image in value["images"]}
    boxes = {}
    for annotation in value["annotations"]:
        found[annotation["image_id"]].append(names[annotation["category_id"]])
        if any(annotation.get("bbox") or ()):  # zeros stand for the whole image
            boxes["bbox"] = annotation["bbox"]  # a column, by which `label_table` says that boxes are not read
    return ({"path": image["file_name"], "label": label_of(found[image["id"]]), **boxes} for image in value["images"])


def _datumaro(value: Mapping[str, Any]) -> Iterator[Record]:
    names = [label["name"] for label in value["categories"]["label"]["labels"]]
    for item in value["items"]:
        labelled = [one for one in item.get("annotations", ()) if "label_id" in one]
        whole = [one for one in labelled if one.get("type") == "label"]
        path = (item.get("image") or item.get("media") or {}).get("path") or item["id"]
        yield {"path": path, "label": label_of(names[one["label_id"]] for one in whole or labelled)}


def _label_studio(tasks: Sequence[Mapping[str, Any]]) -> Iterator[Record]:
    """Yield the images of tasks with the choices of annotations that were not cancelled."""
    for task in tasks:
        annotations = [one for one in task.get("annotations", ()) if not one.get("was_cancelled")]
        results = [result for one in annotations for result in one.get("result", ())]
        choices = [choice for result in results for choice in result.get("value", {}).get("choices", ())]
        # The keys of `data` are those of the labelling interface, so the path is known by its ending.
        texts = [text for text in task.get("data", {}).values() if isinstance(text, str)]
        files = [text for text in texts if PurePosixPath(text).suffix.lower() in IMAGE_SUFFIXES]
        yield {"path": next(iter([*files, *texts]), None), "label": label_of(choices)}


def cvat_records(file: Path) -> list[Record]:
    """Return the records of CVAT's `annotations.xml`: the tags of images or, where there is none, labels of shapes.

    Raises:
        InputError: It is no such file, or it defines entities.
        expat.ExpatError: It is no XML.
    """
    records: list[Record] = []
    labels: dict[str, list[str]] = defaultdict(list)  # of the image that is being read: name of the element -> labels

    def start(name: str, attributes: Mapping[str, str]) -> None:
        if name == "image":
            labels.clear()
            subset = attributes.get("subset", "")
            split = {"split": subset} if split_of(subset) else {}
            records.append({"path": attributes.get("name"), "label": None, **split})
        elif records and "label" in attributes:
            labels["tag" if name == "tag" else "shape"].append(attributes["label"])

    def end(name: str) -> None:
        if name == "image":
            records[-1]["label"] = label_of(labels.get("tag") or labels["shape"])

    def refuse(name: str, *_: Any) -> None:
        raise InputError(f"{file} defines the entity {name!r}, which no export of CVAT does; it is not read")

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler, parser.EntityDeclHandler = start, end, refuse
    with file.open("rb") as data:
        parser.ParseFile(data)
    if not records:
        raise InputError(f"{file} names no image: in CVAT, export as 'CVAT for images'")
    return records


def one_hot_labels(
    columns: Sequence[str], rows: Sequence[Sequence[Any]], classes: Sequence[int]
) -> list[str | None] | None:
    """Return the label of each row of a table with one column a class, which holds 1 or 0; None if it is none.

    Args:
        columns: Names of the columns.
        rows: The cells of each row.
        classes: Positions of the columns that may be classes.
    """
    cells = [[(text_of(row[i]) or "").casefold() if i < len(row) else "" for i in classes] for row in rows]
    if len(classes) < 2 or not rows or any(cell and cell not in YES | NO for line in cells for cell in line):
        return None
    names = [str(columns[i]).strip() for i in classes]
    return [label_of(name for name, cell in zip(names, line, strict=True) if cell in YES) for line in cells]

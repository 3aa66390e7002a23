"""Pictures in a folder of class folders, and the same pictures in archives of every kind."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pictures import picture

CLASSES = ("kestrel", "tern", "wren")


def write_folder(folder: Path, count: int) -> dict[str, bytes]:
    """Write pictures of three classes and return their bytes by path, sorted."""
    for number in range(count):
        file = folder / CLASSES[number % 3] / f"{number:03}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(number).save(file)
    files = sorted(file for file in folder.rglob("*.png"))
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in files}


def write_tar(file: Path, members: Mapping[str, bytes]) -> Path:
    """Write a tar with these members in order."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(file, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return file


def table(images: Mapping[str, bytes]) -> pa.Table:
    """Return a table as Hugging Face writes it: structs of bytes and path, and numbers with names as labels."""
    features = {"label": {"names": list(CLASSES), "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    return pa.table(
        {
            "image": [{"bytes": data, "path": path} for path, data in images.items()],
            "label": [CLASSES.index(path.partition("/")[0]) for path in images],
        }
    ).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def write_parquet(file: Path, images: Mapping[str, bytes]) -> Path:
    """Write Parquet in row groups of 7 rows."""
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table(images), file, row_group_size=7)
    return file


def write_arrow(file: Path, images: Mapping[str, bytes]) -> Path:
    """Write a stream of Arrow, as Hugging Face's cache has it, in batches of 7 rows."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = table(images)
    with pa.ipc.new_stream(file, content.schema) as writer:
        writer.write_table(content, max_chunksize=7)
    return file


def dealt(images: Mapping[str, bytes], count: int) -> Sequence[dict[str, bytes]]:
    """Deal images to `count` archives in turn, so that each holds all classes."""
    return [dict([*images.items()][start::count]) for start in range(count)]

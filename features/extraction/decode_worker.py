"""One process that decodes: batches of images in, their crops into shared memory, what went wrong back out.

`python -m features.extraction.decode_worker <file descriptor> <settings>` reads a job a line from stdin and answers a
line on stdout, both JSON; it ends when stdin does, so it never outlives the process that started it. Without torch and
without pickling it starts in a fifth of a second, forks nothing, and needs no room in /dev/shm.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.encoding.augment import Preprocess, Views, fill_crops
from features.encoding.images import UnreadableImageError, decode


class ImageRef(NamedTuple):
    """An image of the index: its path relative to the data set's folder, its size in bytes, its sha256."""

    path: str
    size: int
    sha256: str


class Problem(NamedTuple):
    """Why an image gave no crops: it cannot be decoded, or it is not the file that was indexed."""

    kind: Literal["unreadable", "changed"]
    path: str
    reason: str


@dataclass(frozen=True)
class DecodeSettings:
    """Where images lie and how they become crops."""

    folder: Path
    preprocess: Preprocess
    views: Views

    def dumps(self) -> str:
        """As JSON, for a process's command line."""
        return json.dumps([str(self.folder), vars(self.preprocess), vars(self.views)])

    @classmethod
    def loads(cls, text: str) -> DecodeSettings:
        """From `dumps`."""
        folder, preprocess, views = json.loads(text)
        return cls(Path(folder), Preprocess(**_tuples(preprocess)), Views(**_tuples(views)))


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def decode_batch(images: Sequence[ImageRef], recipe: DecodeSettings, out: NDArray[np.uint8]) -> list[Problem]:
    """Fill `out` (N, K, height, width, 3) with the crops of N images; rows of images with a problem hold nothing."""
    problems = []
    for image, crop in zip(images, out, strict=True):
        try:
            data = (recipe.folder / image.path).read_bytes()
            if (len(data), hashlib.sha256(data).hexdigest()) != (image.size, image.sha256):
                problems.append(Problem("changed", image.path, "its bytes are not those that were indexed"))
            else:
                fill_crops(decode(data), image.path, recipe.preprocess, recipe.views, crop)
        except OSError as error:
            problems.append(Problem("unreadable", image.path, error.strerror or str(error)))
        except UnreadableImageError as error:
            problems.append(Problem("unreadable", image.path, str(error)))
    return problems


def main() -> None:
    """Answer jobs until stdin ends."""
    recipe = DecodeSettings.loads(sys.argv[2])
    memory = mmap.mmap(int(sys.argv[1]), 0)
    for line in sys.stdin:
        offset, count, views, images = json.loads(line)
        shape = (count, views, *recipe.preprocess.size, 3)
        out = np.frombuffer(memory, np.uint8, int(np.prod(shape)), offset).reshape(shape)
        print(json.dumps(decode_batch([ImageRef(*image) for image in images], recipe, out)), flush=True)


if __name__ == "__main__":
    main()

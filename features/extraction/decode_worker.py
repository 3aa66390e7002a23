"""A process that decodes images: it reads jobs, writes crops into shared memory, and answers with the failures.

`python -m features.extraction.decode_worker <file descriptor> <settings>` reads one job a line from stdin and answers
with one line on stdout, both JSON. It ends when stdin does, so it never outlives the process that started it. Without
torch and pickle it starts in 0.2 s. It forks nothing and needs no room in /dev/shm.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from features.encoding.augment import Preprocess, Views, fill_crops
from features.encoding.images import AS_IN_THE_PAPERS, Reading, UnreadableImageError, decode
from features.shards.archives import Base, base_of
from features.shards.source import ImageRef, ImageSource, Place


class Problem(NamedTuple):
    """The reason why an image gave no crops: it cannot be decoded, or it is not the file that was indexed."""

    kind: Literal["unreadable", "changed"]
    path: str
    reason: str


@dataclass(frozen=True)
class DecodeSettings:
    """The folder or the address of the images, and how they become crops."""

    base: Base
    preprocess: Preprocess
    views: Views
    reading: Reading = AS_IN_THE_PAPERS

    def to_json(self) -> str:
        """Return the settings as JSON, for the command line of a process."""
        return json.dumps([str(self.base), vars(self.preprocess), vars(self.views), vars(self.reading)])

    @classmethod
    def from_json(cls, text: str) -> DecodeSettings:
        """Read what `to_json` wrote."""
        base, preprocess, views, reading = json.loads(text)
        return cls(
            base_of(base), Preprocess(**_tuples(preprocess)), Views(**_tuples(views)), Reading(**_tuples(reading))
        )


def _tuples(value: Any) -> Any:
    """Turn lists back into tuples, which JSON does not know, also inside of mappings."""
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(value) if isinstance(value, list) else value


def decode_batch(
    images: Sequence[ImageRef], settings: DecodeSettings, source: ImageSource, out: NDArray[np.uint8]
) -> list[Problem]:
    """Fill `out` (N, K, height, width, 3) with the crops of N images; the rows of failed images are undefined."""
    problems = []
    for image, data, crops in zip(images, source.read(images), out, strict=True):
        try:
            if isinstance(data, str):
                problems.append(Problem("unreadable", image.path, data))
            elif (len(data), hashlib.sha256(data).hexdigest()) != (image.size, image.sha256):
                problems.append(Problem("changed", image.path, "its bytes are not those that were indexed"))
            else:
                fill_crops(decode(data, settings.reading), image.path, settings.preprocess, settings.views, crops)
        except UnreadableImageError as error:
            problems.append(Problem("unreadable", image.path, str(error)))
    return problems


def _image(path: str, size: int, sha256: str, place: Sequence[Any] | None) -> ImageRef:
    """Return an image as a job has it."""
    return ImageRef(path, size, sha256, None if place is None else Place(*place))


def main() -> None:
    """Answer jobs until stdin ends."""
    settings = DecodeSettings.from_json(sys.argv[2])
    source = ImageSource(settings.base)
    memory = mmap.mmap(int(sys.argv[1]), 0)

    for line in sys.stdin:
        offset, count, views, images = json.loads(line)
        shape = (count, views, *settings.preprocess.size, 3)
        out = np.frombuffer(memory, np.uint8, int(np.prod(shape)), offset).reshape(shape)
        print(json.dumps(decode_batch([_image(*image) for image in images], settings, source, out)), flush=True)


if __name__ == "__main__":
    main()

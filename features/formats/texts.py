"""Many texts in Arrow's memory, where a text takes its bytes and four more; a `str` of Python takes 50 more."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import pyarrow as pa

BLOCK = 1 << 16  # texts that are Python's at a time


class Texts(Sequence[str]):
    """An immutable sequence of texts, equal to any sequence of the same texts."""

    __slots__ = ("values",)

    def __init__(self, values: Iterable[str] | pa.ChunkedArray) -> None:
        """Hold texts; those of an Arrow array, also a dictionary, and of other `Texts` are used as they are."""
        if isinstance(values, Texts):
            values = values.values
        is_arrow = isinstance(values, pa.ChunkedArray)
        self.values: Any = values if is_arrow else pa.chunked_array([pa.array(list(values), pa.string())])

    def __len__(self) -> int:
        return len(self.values)

    @overload
    def __getitem__(self, key: int) -> str: ...

    @overload
    def __getitem__(self, key: slice) -> Texts: ...

    def __getitem__(self, key: int | slice) -> str | Texts:
        if isinstance(key, slice):
            return Texts(self.values[key])
        text: str = self.values[int(key)].as_py()
        return text

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), BLOCK):
            yield from self.values.slice(start, BLOCK).to_pylist()

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Sequence) and not isinstance(other, str):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Texts({list(self[:3])}{', ...' * (len(self) > 3)})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Send the texts of a slice alone to another process, not the array that it is a part of."""
        return Texts, (list(self),)

"""What a file from elsewhere may make us do: allocate no more than it can hold, and fail in one clear way."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from features.errors import InputError

MOST = 1100  # bytes that a byte of a file may stand for; deflate's best is 1032, and features hardly compress at all
SLACK = 1 << 20  # bytes that any file may claim, so that a small one of zeros is none to refuse


def check_claimed_size(claimed: int, path: Path, what: str) -> None:
    """Refuse an array whose header claims more than its file can hold, before anything is allocated for it.

    Raises:
        InputError: says what is claimed.
    """
    size = path.stat().st_size
    if claimed > MOST * size + SLACK:
        raise InputError(
            f"{path}: {what} claims {claimed:,} bytes, but the file has {size:,}, which cannot hold them: it is "
            "damaged or made to exhaust memory; get it anew"
        )


@contextmanager
def wrap_parser_errors(path: Path, remedy: str) -> Iterator[None]:
    """Turn what a parser of a format raises over a damaged file into an `InputError`.

    Libraries that read HDF5, Parquet, MATLAB's or torch's files raise nearly every kind of exception over bad bytes, so
    only calls of theirs and the reading of what they return belong inside.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"there is no {path}; {remedy}") from None
    except Exception as error:
        said = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} cannot be read: {said}; {remedy}") from error


def read_json(path: Path, remedy: str) -> Any:
    """The value of a JSON file.

    Raises:
        InputError: there is none, it is not UTF-8, not JSON, or nested too deep.
    """
    with wrap_parser_errors(path, remedy):
        return json.loads(path.read_text(encoding="utf-8-sig"))

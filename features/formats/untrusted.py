"""Checks for files that this project did not write: bounded memory, and one kind of error for damaged content."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from features.errors import InputError

MAX_EXPANSION = 1100  # decompressed bytes per byte of a file; deflate's best is 1032, and features hardly compress
FREE_BYTES = 1 << 20  # bytes that any file may claim, so that a small file of zeros passes


def check_claimed_size(claimed: int, path: Path, what: str) -> None:
    """Check that a file is large enough for the bytes that its header claims, before they are allocated.

    Raises:
        InputError: `what` claims more bytes than the file at `path` can hold.
    """
    size = path.stat().st_size
    if claimed > MAX_EXPANSION * size + FREE_BYTES:
        raise InputError(
            f"{path}: {what} claims {claimed:,} bytes, but the file has only {size:,}: it is corrupt or malicious; "
            "get a new copy"
        )


@contextmanager
def wrap_parser_errors(path: Path, fix_hint: str) -> Iterator[None]:
    """Turn any exception of a file parser into an `InputError` that names the file and ends with `fix_hint`.

    Libraries that read HDF5, Parquet, MATLAB or torch files raise nearly every kind of exception on corrupt bytes. Put
    only their calls, and the code that reads their results, into the block: a bug of our own would be hidden there.
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"there is no {path}; {fix_hint}") from None
    except Exception as error:
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path} cannot be read: {reason}; {fix_hint}") from error


def read_json(path: Path, fix_hint: str) -> Any:
    """Return the value of a JSON file.

    Raises:
        InputError: The file does not exist, or is not UTF-8, not JSON, or nested too deep.
    """
    with wrap_parser_errors(path, fix_hint):
        return json.loads(path.read_text(encoding="utf-8-sig"))

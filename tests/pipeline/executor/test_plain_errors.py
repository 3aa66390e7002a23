"""An error of DVC's own files says where they are, although DVC names none, and that the disk is full."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections import namedtuple

import pytest

from features.errors import InputError
from pipeline.executor.cells import text_of

NO_ROOM = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # as DVC passes it on, without a file
NAMED = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "artifacts/a.h5")
Usage = namedtuple("Usage", "free")


@pytest.mark.parametrize(
    ("error", "place"),
    [
        (sqlite3.OperationalError("disk I/O error"), "/var/site"),
        (NO_ROOM, ".dvc"),
        (NAMED, "artifacts/a.h5"),
        (BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)), "log.txt"),
        (InputError("artifacts/a.h5 is damaged"), "artifacts/a.h5"),
    ],
)
@pytest.mark.parametrize("free", [0, 1 << 30])
def test_an_error_says_where_and_whether_the_disk_is_full(
    error: Exception, place: str, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", "/var/site")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(free))
    text = text_of(error)
    assert place in text
    assert ("full" in text or "No space" in text) == (error is NO_ROOM or not free)

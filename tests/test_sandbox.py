"""What a parser does to its own process stays there: the file is refused, and this process goes on."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from features.errors import InputError
from features.formats import sandbox as module
from features.formats.sandbox import read_in_sandbox


def give(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    return {
        "file": np.arange(6, dtype=np.float16).reshape(2, 3),
        "a/../b": np.array([*names, path.name]),
        "valid": np.array([True, False]),
        "none": np.empty((0, 4)),
    }


def refuse(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    raise InputError(f"{path.name} lacks {', '.join(names)} – «ü»")


def crash(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def stay(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    while True:
        pass


def hand_over_objects(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    return {"features": np.array([{}], object)}


@pytest.fixture(autouse=True)
def other_processes_find_this_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def test_arrays_come_back_as_they_are() -> None:
    path = Path("lab.h5")
    found = read_in_sandbox(give, path, ["ids", "labels"])
    expected = give(path, ["ids", "labels"])
    assert [*found] == [*expected]
    for name, values in expected.items():
        assert (found[name].dtype, found[name].shape) == (values.dtype, values.shape)
        assert np.array_equal(found[name], values)


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (refuse, "^lab.h5 lacks ids – «ü»$"),
        (crash, r"lab\.h5 cannot be read: the process that parsed it ended by SIGSEGV; the file is damaged"),
        (stay, r"ended by SIGXCPU \(too long\)"),
        (hand_over_objects, r"ended by exit status 1"),
    ],
)
def test_what_goes_wrong_is_an_error_here(
    read: Callable[[Path, Collection[str]], dict[str, NDArray[Any]]], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SECONDS", 2)
    with pytest.raises(InputError, match=said):
        read_in_sandbox(read, Path("lab.h5"), ["ids"])

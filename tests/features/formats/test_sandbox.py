"""The sandbox: a parser that crashes or hangs ends its own process, and the file is refused."""

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
from features.formats import sandbox
from features.formats.sandbox import read_in_sandbox


def return_arrays(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    return {
        "file": np.arange(6, dtype=np.float16).reshape(2, 3),
        "a/../b": np.array([*names, path.name]),
        "valid": np.array([True, False]),
        "none": np.empty((0, 4)),
    }


def raise_input_error(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    raise InputError(f"{path.name} lacks {', '.join(names)} – «ü»")


def crash(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}


def loop_forever(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    while True:
        pass


def return_objects(path: Path, names: Collection[str]) -> dict[str, NDArray[Any]]:
    return {"features": np.array([{}], object)}


@pytest.fixture(autouse=True)
def other_processes_find_this_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))


def test_arrays_come_back_as_they_are() -> None:
    path = Path("lab.h5")
    arrays = read_in_sandbox(return_arrays, path, ["ids", "labels"])
    expected = return_arrays(path, ["ids", "labels"])
    assert [*arrays] == [*expected]
    for name, values in expected.items():
        assert (arrays[name].dtype, arrays[name].shape) == (values.dtype, values.shape)
        assert np.array_equal(arrays[name], values)


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (raise_input_error, "^lab.h5 lacks ids – «ü»$"),
        (crash, r"lab\.h5 .*SIGSEGV"),
        (loop_forever, r"lab\.h5 .*SIGXCPU, after 2 s"),
        (return_objects, r"lab\.h5 .*exit status 1"),
    ],
)
def test_a_failure_of_the_subprocess_becomes_an_input_error(
    read: Callable[[Path, Collection[str]], dict[str, NDArray[Any]]], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandbox, "SECONDS", 2)
    with pytest.raises(InputError, match=message):
        read_in_sandbox(read, Path("lab.h5"), ["ids"])

"""The pipeline from Python: the notebook runs as it stands, and the functions are the stages' own."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
import small_task
import torch
from nbclient import NotebookClient

from features.errors import InputError
from pipeline import api

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of Jupyter's own
def test_the_notebook_runs_and_is_kept_without_outputs() -> None:
    notebook = nbformat.read(ROOT / "docs/notebook.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    NotebookClient(notebook, timeout=300, resources={"metadata": {"path": str(ROOT)}}).execute()
    shown = [
        output.data["text/plain"] for cell in notebook.cells for output in cell.get("outputs", ()) if "data" in output
    ]
    assert "tip_adapter_f+ship" in shown[1]


def test_the_lines_of_the_page_run_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    found: dict[str, Any] = {}
    exec(code, found)  # noqa: S102
    assert found["zero_shot"].logits(found["classes"].text_features, torch.arange(3)).argmax(1).tolist() == [0, 1, 2]


def test_a_method_fitted_here_is_the_one_that_the_stage_fits() -> None:
    settings = small_task.QUICK["coop"]
    ours = api.fit("coop", small_task.TRAIN, small_task.CLASSES, tower=small_task.TOWER, seed=3, **settings)
    theirs = small_task.fit("coop", seed=3, validation=small_task.NO_VALIDATION)
    assert all(torch.equal(ours.state()[name], value) for name, value in theirs.state().items())
    right = ours.logits(small_task.TRAIN.centre, torch.arange(4)).argmax(1) == small_task.TRAIN.labels
    assert api.accuracy(ours, small_task.TRAIN, torch.arange(4)) == pytest.approx(100 * right.double().mean().item())


def test_a_generator_gives_the_unseen_classes_features() -> None:
    made = api.synthesize(
        "ship",
        small_task.TRAIN,
        small_task.CLASSES,
        small_task.TOWER,
        per_class=3,
        epochs=1,
        encoder_width=8,
        generator_width=8,
    )
    assert made.labels.tolist() == [4] * 3 + [5] * 3
    assert made.features.shape == (6, 1, 32)


def test_an_unknown_setting_is_named() -> None:
    with pytest.raises(InputError, match="epoch: unknown key; did you mean"):
        api.fit("coop", small_task.TRAIN, small_task.CLASSES, tower=small_task.TOWER, epoch=3)
